"""Labelled files: what is read of them, what is refused, and which texts are held out."""

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.data.tokenization.model_tokenizer import ModelTokenizer
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.sources.labelled.reading import LabelledText, labelled_sha256, read_labelled
from bertpipe.sources.labelled.rows import encode_rows
from bertpipe.sources.labelled.splits import choose, hold_out, text_digest
from texts import gz, zst

CSV = 'label,text\r\npos,"Good, very ""good""\nindeed."\r\n\r\nneg,Bad.<br />Really.\r\n'
READ = [('Good, very "good"\nindeed.', "pos"), ("Bad.\nReally.", "neg")]


def read(path: Path, text_field: str = "text", label_field: str = "label") -> list[LabelledText]:
    return read_labelled(path, text_field=text_field, label_field=label_field)


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    return path


def pairs(rows: Sequence[LabelledText]) -> list[tuple[str, str]]:
    return [(row.text, row.label) for row in rows]


def labelled(*rows: tuple[str, str]) -> list[LabelledText]:
    return [LabelledText(text=text, label=label, place=f"row {n}") for n, (text, label) in enumerate(rows, start=1)]


# What is read


def test_csv_with_quotes_line_ends_and_an_empty_line(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "x.csv", CSV))
    assert pairs(rows) == READ
    assert [row.place for row in rows] == [f"{tmp_path}/x.csv:2", f"{tmp_path}/x.csv:5"]


def test_a_packed_file_and_a_byte_order_mark_are_read_alike(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path / "x.csv.gz", gzip.compress(CSV.encode("utf-8-sig"))))) == READ


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r\n"])
def test_joined_files_with_marks_headers_and_any_line_ends(tmp_path: Path, end: str) -> None:
    parts = [
        end.join(["\ufefflabel,text", f'pos,"Good{end}{n}"', "neg,Bad\x85 \u2028\x0bindeed", ""]) for n in range(2)
    ]
    found = pairs(read(write(tmp_path / "x.csv", "".join(parts))))
    assert found == [
        (f"Good\n{n // 2}", "pos") if n % 2 == 0 else ("Bad\x85 \u2028\x0bindeed", "neg") for n in range(4)
    ]
    lines = [json.dumps({"text": f"Good {n}", "label": "pos"}) for n in range(3)]
    joined = "".join(f"\ufeff{line}{end}" for line in lines)
    assert pairs(read(write(tmp_path / "x.jsonl", joined))) == [(f"Good {n}", "pos") for n in range(3)]


def test_empty_lines_before_the_header_and_blanks_around_a_label_do_not_count(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "x.csv", "\n\ntext,label\na, good\nb,good \n"))
    assert [(row.label, row.place.rsplit(":", 1)[1]) for row in rows] == [("good", "4"), ("good", "5")]


def test_a_label_is_one_in_both_forms_of_unicode(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "x.csv", "label,text\nn\u00e4chst,a\nna\u0308chst,b\n"))
    assert {row.label for row in rows} == {"n\u00e4chst"}
    assert text_digest("n\u00e4chst") == text_digest("na\u0308chst")


def test_json_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "label": label, "n": 1}) for text, label in READ]
    rows = read(write(tmp_path / "x.jsonl", f"{lines[0]}\n\n{lines[1]}\n"))
    assert pairs(rows) == READ
    assert [row.place for row in rows] == [f"{tmp_path}/x.jsonl:1", f"{tmp_path}/x.jsonl:3"]


def test_parquet_of_strings_and_of_categories(tmp_path: Path) -> None:
    texts, labels = zip(*READ, strict=True)
    assert pairs(read(parquet(tmp_path / "x.parquet", {"n": [1, 2], "text": texts, "label": labels}))) == READ
    table = pa.table({"label": pa.array(labels).dictionary_encode(), "text": pa.array(texts, pa.large_string())})
    pq.write_table(table, tmp_path / "y.PARQUET")
    rows = read(tmp_path / "y.PARQUET")
    assert pairs(rows) == READ
    unmarked = {name: [value.encode() for value in values] for name, values in (("text", texts), ("label", labels))}
    assert pairs(read(parquet(tmp_path / "z.parquet", unmarked))) == READ
    assert rows[1].place == f"{tmp_path}/y.PARQUET, row 2"


def test_numbers_and_booleans_are_equal_in_all_kinds_of_files(tmp_path: Path) -> None:
    for values, names in (([0, 12], ["0", "12"]), ([True, False], ["true", "false"])):
        text = "text,label\n" + "".join(f"a,{name}\n" for name in names)
        lines = "".join(json.dumps({"text": "a", "label": value}) + "\n" for value in values)
        for path in (
            write(tmp_path / "x.csv", text),
            write(tmp_path / "x.ndjson", lines),
            parquet(tmp_path / "x.parquet", {"text": ["a", "a"], "label": values}),
        ):
            assert [row.label for row in read(path)] == names, path


def test_the_columns_have_the_names_that_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,sentiment,review\nno,good,yes\n")
    assert pairs(read(path, "review", "sentiment")) == [("yes", "good")]


def test_words_that_libraries_take_for_missing_values_or_numbers_stay_as_they_are(tmp_path: Path) -> None:
    words = [
        "NA",
        "N/A",
        "null",
        "None",
        "nan",
        "NaN",
        "-",
        "007",
        "1.0",
        "1e5",
        "+1",
        "True",
        "2020-01-01",
        " x ",
        "1,5",
    ]
    rows = [(word, word.strip()) for word in words]
    cells = "".join(f'"{word}","{word}"\n' for word in words)
    lines = "".join(json.dumps({"text": word, "label": word}) + "\n" for word in words)
    assert pairs(read(write(tmp_path / "x.csv", f"text,label\n{cells}"))) == rows
    assert pairs(read(write(tmp_path / "x.jsonl", lines))) == rows
    assert pairs(read(parquet(tmp_path / "x.parquet", {"text": words, "label": words}))) == rows


def test_files_of_spreadsheets(tmp_path: Path) -> None:
    text = '\ufeff"id","label","text",""\r\n"1","a","one, ""two""\r\n\r\nthree",""\r\n\r\n"2","b","four","x"'
    for path, content in ((tmp_path / "x.CSV", text), (tmp_path / "y.csv", text.replace("\r\n", "\r"))):
        rows = read(write(path, content))
        assert pairs(rows) == [('one, "two"\n\nthree', "a"), ("four", "b")]
        assert [row.place for row in rows] == [f"{path}:2", f"{path}:6"]


def test_a_text_longer_than_the_csv_module_reads_by_itself(tmp_path: Path) -> None:
    text = "a, b\n" * 100_000
    assert pairs(read(write(tmp_path / "x.csv", f'text,label\n"{text}",c\n'))) == [(text, "c")]


def test_large_numbers_are_exact_and_other_fields_do_not_matter(tmp_path: Path) -> None:
    number = 2**70 + 1
    line = f'\ufeff{{"label": {number}, "text": "a", "n": {"9" * 5000}, "text2": null, "x": [1, {{}}]}}\r\n'
    assert pairs(read(write(tmp_path / "x.jsonl", line))) == [("a", str(number))]
    assert pairs(read(write(tmp_path / "y.jsonl", '{"text": "a", "label": 1, "label": -2}'))) == [("a", "-2")]


def test_parquet_of_several_row_groups_and_small_types(tmp_path: Path) -> None:
    labels = pa.array([0, -1, 2], pa.int8()).dictionary_encode()
    table = pa.table(
        {"text": pa.array(["a", "b", None]).cast(pa.string_view()), "a.label": labels, "x": [b"", b"", b""]}
    )
    pq.write_table(table.slice(0, 2), tmp_path / "x.parquet", row_group_size=1)
    assert pairs(read(tmp_path / "x.parquet", label_field="a.label")) == [("a", "0"), ("b", "-1")]
    pq.write_table(table, tmp_path / "y.parquet", row_group_size=1)
    with pytest.raises(DataError, match=r"y\.parquet, row 3: 'text' is null"):
        read(tmp_path / "y.parquet", label_field="a.label")


def test_parquet_whose_table_had_an_index_in_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "n": [1, 2]}, index=pd.Index(["x", "y"], name="label"))
    frame.to_parquet(tmp_path / "x.parquet")
    assert pairs(read(tmp_path / "x.parquet")) == [("a", "x"), ("b", "y")]


# Tables of several files


def test_a_folder_of_parts_is_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "reviews.parquet"
    folder.mkdir()
    for number, row in enumerate(READ):
        parquet(folder / f"part-0000{number}-c000.snappy.parquet", {"text": [row[0]], "label": [row[1]]})
        write(folder / f".part-0000{number}-c000.snappy.parquet.crc", b"crc\0")
    write(folder / "_SUCCESS", b"")
    rows = read(folder)
    assert pairs(rows) == READ
    assert rows[1].place == f"{folder}/part-00001-c000.snappy.parquet, row 1"
    digest = labelled_sha256(folder)
    write(folder / "_SUCCESS", b"x")
    assert labelled_sha256(folder) == digest
    (folder / "part-00001-c000.snappy.parquet").rename(folder / "part-00002.parquet")
    assert labelled_sha256(folder) != digest


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".json", ".jsonl.zst"])
def test_parts_of_other_kinds_and_empty_ones(tmp_path: Path, suffix: str) -> None:
    pack = {"gz": gz, "zst": zst}.get(suffix.rsplit(".", 1)[1], bytes)
    for number, (text, label) in enumerate(READ):
        as_csv = f'text,label\n"{text.replace(chr(34), 2 * chr(34))}",{label}\n'
        content = as_csv if ".csv" in suffix else json.dumps({"text": text, "label": label}) + "\n"
        write(tmp_path / f"part-{number}{suffix}", pack(content.encode()))
    write(tmp_path / f"part-2{suffix}", b"")
    assert pairs(read(tmp_path)) == READ


def test_the_names_of_folders_are_fields(tmp_path: Path) -> None:
    for number, label in enumerate(("very%20good", "bad")):
        (tmp_path / f"label={label}" / "year=2024").mkdir(parents=True)
        parquet(tmp_path / f"label={label}" / "year=2024" / "part-0.parquet", {"text": [f"Text {number}"]})
    assert pairs(read(tmp_path)) == [("Text 1", "bad"), ("Text 0", "very good")]
    (tmp_path / "label=__HIVE_DEFAULT_PARTITION__").mkdir()
    parquet(tmp_path / "label=__HIVE_DEFAULT_PARTITION__" / "part-0.parquet", {"text": ["Text"]})
    with pytest.raises(DataError, match=r"part-0\.parquet, row 1: 'label' is empty, and each text needs a label"):
        read(tmp_path)


def test_a_folder_without_rows_or_with_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no rows: it needs texts of two classes or more"):
        read(tmp_path)
    write(tmp_path / "notes.md", b"x")
    with pytest.raises(DataError, match=r"notes\.md has none of the suffixes"):
        read(tmp_path)


# What is refused


FAULTS: dict[str, tuple[str, bytes | str, str]] = {
    "no column": (
        "x.csv", "review,label\na,b\n",
        r"x\.csv has no field 'text', it has 'review', 'label': set probe\.text_field and probe\.label_field",
    ),
    "no label column": ("x.csv", "text\na\n", r"x\.csv has no field 'label', it has 'text'"),
    "many columns": ("x.csv", ",".join("abcdefghijkl") + "\n", r"it has 'a', .*'j', …: set"),
    "a column twice": ("x.csv", "text,label,text\na,b,c\n", r"has 2 fields 'text': leave one"),
    "an empty file": ("x.csv", "", r"x\.csv has no field 'text', it has no field at all"),
    "a header alone": ("x.csv", "text,label\n", r"x\.csv has no rows: it needs texts of two classes or more"),
    "an empty text": ("x.csv", "text,label\na,b\n <br/> ,b\n", r"x\.csv:3: 'text' is empty: correct or drop the row"),
    "an empty label": ("x.csv", "text,label\na,\n", r"x\.csv:2: 'label' is empty, and each text needs a label"),
    "a comma too many": (
        "x.csv", "text,label\na, b,c\n", r"x\.csv:2 has 3 fields and the header 2: a text with a comma.* double quotes"
    ),
    "an open quote": ("x.csv", 'text,label\na,b\n"c,d\n', r"x\.csv:3 is not CSV \(.*\): is a quote never closed, or"),
    "Latin-1 in CSV": ("x.csv", b"text,label\na,b\ncaf\xe9,b\n", r"x\.csv:3: byte 0xe9 is not UTF-8.*iconv"),
    "Latin-1 in JSON": ("x.jsonl", b'{"text": "caf\xe9", "label": 1}\n', r"x\.jsonl:1: byte 0xe9 is not UTF-8"),
    "no JSON": ("x.jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"x\.jsonl:2 is not JSON: "),
    "a JSON list": ("x.jsonl", "[1]\n", r"x\.jsonl:1 is a list, expected a JSON object with text and label"),
    "no JSON field": ("x.jsonl", '{"text": "a", "y": 1}\n', r"x\.jsonl:1 has no field 'label', it has 'text', 'y'"),
    "a number for a text": ("x.jsonl", '{"text": 3, "label": 1}\n', r"x\.jsonl:1: 'text' is a number, expected a text"),
    "no text at all": ("x.jsonl", '{"text": null, "label": 1}\n', r"x\.jsonl:1: 'text' is null, expected a text"),
    "no label": ("x.jsonl", '{"text": "a", "label": null}\n', r"x\.jsonl:1: 'label' is empty"),
    "a fraction": ("x.jsonl", '{"text": "a", "label": 0.5}\n', r"x\.jsonl:1: 'label' is 0\.5, and labels are strings"),
    "a list of labels": ("x.jsonl", '{"text": "a", "label": ["b"]}\n', r"'label' is a list, and labels are strings"),
    "half a character": ("x.jsonl", '{"text": "a\\ud800", "label": 1}\n', r"x\.jsonl:1: 'text' holds '\\ud800'"),
    "a label of NUL": ("x.jsonl", '{"text": "a", "label": "\\u0000"}\n', r"x\.jsonl:1: 'label' holds '\\x00'"),
    "a label of blanks": ("x.csv", "text,label\na,  \n", r"x\.csv:2: 'label' is empty"),
    "a comma too few": ("x.csv", 'text,label,id\n"a\nb",c,1\nd,e\n', r"x\.csv:4 has 2 fields and the header 3: a text"),
    "semicolons": ("x.csv", "text;label\na;b\n", r"it has 'text;label': begin with their names, separated by commas"),
    "a remark first": ("x.csv", "# 2024\ntext,label\na,b\n", r"it has '# 2024': begin with their names, separated by"),
    "a blank before a quote": ("x.csv", 'label,text\na, "b, c"\n', r"x\.csv:2 has 3 fields .*quotes, right after the"),
    "backslashes before quotes": ("x.csv", 'text,label\n"a \\"b\\" c",d\n', r"x\.csv:2 is not CSV .*not doubled\?"),
    "tabs": ("x.csv", "text\tlabel\na\tb\n", r"it has 'text\\tlabel': begin with their names, separated by commas"),
    "text after a quote": ("x.csv", 'text,label\n"a\nb",c\n"d"e,f\n', r"x\.csv:4 is not CSV \(',' expected after"),
    "a quote opened long ago": ("x.csv", 'text,label\n"a,b\n' + "c,d\n" * 50, r"x\.csv:2 is not CSV .*quote never"),
    "UTF-16 of Excel": ("x.csv", "text,label\n".encode("utf-16"), r"x\.csv:1: byte 0xff is not UTF-8.*UTF-16, convert"),
    "a JSON array over lines": ("x.jsonl", '[\n{"text": "a", "label": 1}\n]\n', r"x\.jsonl:1 is not JSON: "),
    "NaN for a label": ("x.jsonl", '{"text": "a", "label": NaN}\n', r"x\.jsonl:1: 'label' is nan, and labels are"),
    "no Parquet": ("x.parquet", "text", r"x\.parquet is not a readable Parquet file \(.*\): fetch or write it again"),
    "a damaged gzip": ("x.csv.gz", gzip.compress(b"text,label\n")[:-9], r"x\.csv\.gz is damaged or cut off"),
    "another suffix": ("x.tsv", "", r"x\.tsv has none of the suffixes \.csv, \.jsonl, .*\.parquet: name"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_the_place_and_what_to_do(tmp_path: Path, name: str) -> None:
    file, content, said = FAULTS[name]
    with pytest.raises(DataError, match=said) as caught:
        read(write(tmp_path / file, content))
    assert str(tmp_path / file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["a", None], "label": [1, 2]}, r"x\.parquet, row 2: 'text' is null, expected a text"),
        ({"text": ["a", "b"], "label": [1, None]}, r"x\.parquet, row 2: 'label' is empty"),
        ({"text": ["a", "b"], "label": [1.0, 2.0]}, r"x\.parquet, row 1: 'label' is 1\.0, and labels are strings"),
        (
            {"text": ["a", b"caf\xe9"], "label": ["b", "c"]},
            r"x\.parquet, row 2: 'text' is not UTF-8 \(byte 4\): correct or drop the row",
        ),
        ({"text": ["a", "b\0"], "label": [1, 2]}, r"x\.parquet, row 2: 'text' holds '\\x00', which text cannot have"),
        ({"text": ["a"], "label": [["b"]]}, r"x\.parquet, row 1: 'label' is a list, and labels are strings"),
        ({"text": ["a"], "y": [1]}, r"x\.parquet has no field 'label', it has 'text', 'y'"),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, r"x\.parquet has no rows"),
    ],
)
def test_a_fault_of_parquet_names_the_row(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(parquet(tmp_path / "x.parquet", columns))


def test_parquet_with_strings_that_are_not_utf8(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([b"a", b"caf\xe9"]).cast(pa.string(), safe=False), "label": [1, 2]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet is not a readable Parquet file \(.*UTF8.*\): fetch or write it"):
        read(tmp_path / "x.parquet")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.csv does not exist: name a labelled file"):
        read(tmp_path / "none.csv")


# Which texts are held out


def many(count: int = 40) -> list[LabelledText]:
    """Return texts of two classes, three of four in the first."""
    return labelled(*((f"text {number}", "rare" if number % 4 == 0 else "often") for number in range(count)))


def test_the_share_is_held_out_of_each_class_in_order() -> None:
    rows = many()
    train, test = hold_out(rows, test_share=0.2, seed=1)
    assert [row.label for row in test].count("often") == 6  # of 30
    assert [row.label for row in test].count("rare") == 2  # of 10
    assert [row for row in rows if row in test] == test
    assert [row for row in rows if row not in test] == train


def test_the_split_is_the_seeds_and_the_texts_own() -> None:
    rows = many()
    _, test = hold_out(rows, test_share=0.2, seed=1)
    _, backwards = hold_out(rows[::-1], test_share=0.2, seed=1)
    assert backwards == test[::-1]
    assert hold_out(rows, test_share=0.2, seed=2)[1] != test


def test_one_text_is_held_out_at_least_and_one_is_left() -> None:
    rows = labelled(("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"))
    for share in (0.01, 0.99):
        train, test = hold_out(rows, test_share=share, seed=1)
        assert sorted(row.label for row in train) == sorted(row.label for row in test) == ["x", "y"]


def test_equal_texts_stay_together_whatever_their_labels_and_white_space() -> None:
    rows = [*many(), *labelled(*((f" text  {number}\n", "often") for number in range(40)))]
    train, test = hold_out(rows, test_share=0.5, seed=1)
    assert len(train) + len(test) == 80
    assert not {text_digest(row.text) for row in train} & {text_digest(row.text) for row in test}


@pytest.mark.parametrize(
    ("rows", "tested"),
    [
        ([("a", "x"), ("b", "x"), ("c", "y")], {"x"}),
        ([("a", "x"), ("b", "x"), ("c", "y"), ("c ", "y")], {"x"}),
        ([("a", "x"), ("b", "x"), ("a", "y")], {"x"}),
    ],
)
def test_a_class_with_one_text_is_trained_on_and_not_tested(rows: list[tuple[str, str]], tested: set[str]) -> None:
    for seed in range(9):
        train, test = hold_out(labelled(*rows), test_share=0.5, seed=seed)
        assert ({row.label for row in train}, {row.label for row in test}) == ({"x", "y"}, tested)


def test_where_no_class_has_two_texts_nothing_can_be_held_out() -> None:
    with pytest.raises(
        DataError, match=r"no class of 'x', 'y' has 2 texts of its own, .* give a test file with --test"
    ):
        hold_out(labelled(("a", "x"), ("a", "x"), ("c", "y")), test_share=0.5, seed=1)


def test_few_texts_to_train_on_have_every_class() -> None:
    rows = labelled(*((f"text {n}", "rare" if n in {17, 333} else f"class {n % 3}") for n in range(400)))
    for seed in range(5):
        for count in (4, 5, 20, 100):
            chosen = choose(rows, count=count, seed=seed)
            assert len(chosen) == count
            assert {row.label for row in chosen} == {"rare", "class 0", "class 1", "class 2"}
        assert {row.label for row in choose(rows, count=3, seed=seed)} == {"class 0", "class 1", "class 2"}


def test_fewer_texts_are_among_more_in_the_order_given() -> None:
    rows = many()
    few, more = choose(rows, count=7, seed=1), choose(rows, count=20, seed=1)
    assert [len(few), len(more)] == [7, 20]
    for count in range(1, 40):
        one_more = choose(rows, count=count + 1, seed=1)
        assert [row for row in one_more if row in choose(rows, count=count, seed=1)] == choose(
            rows, count=count, seed=1
        )
    assert [row for row in rows if row in more] == more
    assert choose(rows, count=7, seed=2) != few
    assert choose(rows, count=99, seed=1) == rows


# Texts as ids


def test_texts_are_framed_cut_and_counted() -> None:
    vocabulary = ModelTokenizer(word_level_tokenizer([*SPECIAL_TOKENS, "the", "cat", "sat"]))  # ids from 5
    texts = labelled(("The cat", "x"), ("cat sat the cow", "y"))
    rows = encode_rows(texts, vocabulary, max_length=5, windows=1)
    cls_id, sep_id = vocabulary.cls_id, vocabulary.sep_id
    assert rows.token_ids.tolist() == [cls_id, 5, 6, sep_id, cls_id, 6, 7, 5, sep_id]
    assert rows.offsets.tolist() == [0, 4, 9]
    assert rows.lengths.tolist() == [4, 5]
    assert (rows.texts_cut, rows.unknown_tokens, len(rows)) == (1, 0, 2)
    assert encode_rows(labelled(("the cow", "x")), vocabulary, max_length=5).unknown_tokens == 1


@pytest.mark.parametrize("words", range(1, 18))
@pytest.mark.parametrize("windows", ["all", 1, 2])
def test_windows_hold_all_of_a_text_in_equal_parts(words: int, windows: Any) -> None:  # noqa: ANN401
    vocabulary = ModelTokenizer(word_level_tokenizer([*SPECIAL_TOKENS, *(f"w{n}" for n in range(words))]))
    text = " ".join(f"w{n}" for n in range(words))
    rows = encode_rows(labelled(("w0", "x"), (text, "y"), ("w0", "x")), vocabulary, max_length=7, windows=windows)
    parts = [rows.token_ids[rows.offsets[row] : rows.offsets[row + 1]].tolist() for row in range(len(rows))]
    assert {(part[0], part[-1]) for part in parts} == {(vocabulary.cls_id, vocabulary.sep_id)}
    inner = [part[1:-1] for part in parts]
    assert inner[0] == inner[-1] == [5]
    read = words if windows == "all" else min(words, windows * 5)
    assert [token for part in inner[1:-1] for token in part] == list(range(5, 5 + read))
    sizes = [len(part) for part in inner[1:-1]]
    assert len(sizes) == math.ceil(read / 5)
    assert max(sizes) <= 5
    assert max(sizes) - min(sizes) <= 1
    assert rows.text.tolist() == [0, *[1] * len(sizes), 2]
    assert rows.texts_cut == (read < words)


def test_a_text_without_a_word_is_named_by_its_row() -> None:
    vocabulary = ModelTokenizer(word_level_tokenizer([*SPECIAL_TOKENS, "the"]))
    with pytest.raises(
        DataError, match=r"^row 2: the text ';;;' holds no word that the model's tokenizer keeps: correct"
    ):
        encode_rows(labelled(("the", "x"), (";;;", "y")), vocabulary, max_length=5)
