"""Messages: bounded whatever the input holds, and on one line."""

import pickle

import pytest

from bertpipe.core.errors import BertpipeError, DataError, excerpt, excerpts


@pytest.mark.parametrize("long", ["x" * 10_000, "\N{PILE OF POO}" * 10_000, "x\n" * 300])
def test_a_message_is_bounded_and_keeps_its_place_and_its_next_step(long: str) -> None:
    error = DataError(f"file.csv:7: {long}: correct or drop the row")
    assert len(str(error)) <= 500
    assert str(error).startswith("file.csv:7: ")
    assert str(error).endswith(": correct or drop the row")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_short_message_is_as_it_was_written() -> None:
    assert str(BertpipeError("x" * 500)) == "x" * 500


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a b", "'a b'"),
        ("ma\u00f1ana", "'ma\u00f1ana'"),
        ("a\nb\t\x1b[0m", r"'a\nb\t\x1b[0m'"),
        ("half \ud83d", r"'half \ud83d'"),
        ("x" * 81, "'" + "x" * 79 + "..."),
    ],
)
def test_a_value_is_shown_in_quotes_and_bounded(value: str, shown: str) -> None:
    assert excerpt(value) == shown


def test_of_many_values_the_first_are_shown() -> None:
    assert excerpts(["a", "b"]) == "'a', 'b'"
    assert excerpts(list("abcdefgh")) == "'a', 'b', 'c', 'd', 'e' and 3 more"
