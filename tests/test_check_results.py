"""What `scripts/check_results.py` says of a lock that is not of this tree."""

from scripts.check_results import differences


def test_a_lock_of_this_tree_has_no_difference_even_where_the_data_are_not_there() -> None:
    assert differences({}) == []
    absent = [{"changed deps": {"data/parquet": "deleted"}}, {"changed outs": {"models/bert": "not in cache"}}]
    assert differences({"train": absent}) == []


def test_other_sources_params_commands_and_reports_are_named() -> None:
    status = {
        "train": [
            {
                "changed deps": {
                    "data/parquet": "deleted",
                    "src/bertpipe/core": "modified",
                    "params.yaml": {"train": "modified"},
                }
            },
            "changed command",
        ],
        "evaluate": [{"changed outs": {"reports/metrics.json": "modified"}}],
    }
    assert differences(status) == [
        "train: changed deps: src/bertpipe/core (modified)",
        "train: changed deps: params.yaml ({'train': 'modified'})",
        "train: changed command",
        "evaluate: changed outs: reports/metrics.json (modified)",
    ]
