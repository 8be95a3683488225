"""The loader of params.yaml: what it takes, and what it says of what it does not take."""

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from ruamel.yaml import YAML

from bertpipe.core import params
from bertpipe.core.errors import ParamsError, excerpt
from bertpipe.core.params import Params
from bertpipe.core.params_file import load_params, merged_text
from defaults import DEFAULTS

PROJECT = Path(__file__).parent.parent
TINY = PROJECT / "params" / "tiny.yaml"
SECTIONS = {field.name: get_type_hints(Params)[field.name] for field in dataclasses.fields(Params)}
Change = Callable[[dict[str, Any]], object]


def write(path: Path, *changes: Change) -> Path:
    """Write the tiny params with changes to a file and return its path."""
    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(merged_text(TINY))
    for change in changes:
        change(content)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return path


def put(name: str, value: object) -> Change:
    """Return the change that sets a dotted name."""
    *sections, key = name.split(".")

    def change(content: dict[str, Any]) -> None:
        for section in sections:
            content = content[section]
        content[key] = value

    return change


def faults(path: Path) -> list[str]:
    """Return the lines of the error, without the first, which counts them."""
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    head, *lines = str(caught.value).splitlines()
    assert head == f"{path} has {len(lines)} fault(s):"
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    "path",
    [PROJECT / "params.yaml", *sorted((PROJECT / "params").rglob("*.yaml"))],
    ids=lambda path: path.name,
)
def test_every_params_file_of_the_project_loads(path: Path) -> None:
    loaded = load_params(path)
    assert tuple(field.name for field in dataclasses.fields(Params)) == tuple(
        YAML(typ="safe", pure=True).load(merged_text(path))
    )
    assert dataclasses.is_dataclass(loaded.train)


def test_values_come_as_they_are_written(tmp_path: Path) -> None:
    loaded = load_params(write(tmp_path / "p.yaml", put("train.learning_rate", 1), put("download.source", "x")))
    assert loaded.train.learning_rate == 1.0
    assert loaded.download.source == "x"
    assert loaded.model.vocab_size == "auto"
    assert [example.task for example in loaded.infer.examples] == ["nsp", "mlm"]


def test_scientific_notation_without_a_dot_is_a_number_as_dvc_reads_it(tmp_path: Path) -> None:
    text = merged_text(TINY).replace("learning_rate: 0.01", "learning_rate: 1e-4")
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_params(path).train.learning_rate == 1e-4


def test_all_faults_are_named_at_once_with_dotted_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.yaml",
        put("masking.rate", "x"),
        put("train.epochs", 0),
        put("model.heads", 3),
        lambda content: content["convert"].pop("subset"),
        lambda content: content.pop("runtime"),
    )
    assert faults(path) == [
        "masking.rate: Input should be a valid number (given: 'x')",
        "convert.subset: is missing: add it",
        "model: embedding_dim 16 is not a multiple of heads 3: try 2 or 4 heads",
        "train.epochs: Input should be greater than or equal to 1 (given: 0)",
        "runtime: is missing: add it",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.epoch", "train.epoch"),
        ("extra", "extra"),
        ("infer.examples.0.answer", "infer.examples.0.answer"),
    ],
)
def test_an_unknown_key_is_named(tmp_path: Path, name: str, expected: str) -> None:
    def change(content: Any) -> None:  # noqa: ANN401
        *sections, key = name.split(".")
        for section in sections:
            content = content[int(section) if section.isdigit() else section]
        content[key] = 5

    known = "is not known: check its spelling, or remove it"
    assert faults(write(tmp_path / "p.yaml", change)) == [f"{expected}: {known} (given: 5)"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train.learning_rate", "1e-4", "Input should be a valid number (given: '1e-4')"),
        ("train.learning_rate", 0, "Input should be greater than 0 (given: 0)"),
        ("train.learning_rate", float("inf"), "Input should be a finite number (given: inf)"),
        ("train.learning_rate", float("nan"), "Input should be a finite number (given: nan)"),
        ("train.epochs", True, "Input should be a valid integer (given: True)"),
        ("train.epochs", 2.5, "Input should be a valid integer (given: 2.5)"),
        ("train.seed", 2**63, f"Input should be less than or equal to {2**63 - 1} (given: {2**63})"),
        ("train.seed", -1, "Input should be greater than or equal to 0 (given: -1)"),
        ("model.tied", 1, "Input should be a valid boolean (given: 1)"),
        ("model.dropout", 1.0, "Input should be less than 1 (given: 1.0)"),
        ("masking.unit", "words", "Input should be 'token', 'word' or 'span' (given: 'words')"),
        ("masking.span_p", 0, "Input should be greater than 0 (given: 0)"),
        ("masking.span_p", 1.5, "Input should be less than or equal to 1 (given: 1.5)"),
        ("masking.span_max", 0, "Input should be greater than or equal to 1 (given: 0)"),
        ("masking.span_max", 513, "Input should be less than or equal to 512 (given: 513)"),
        ("convert.max_reject_rate", 1.5, "Input should be less than or equal to 1 (given: 1.5)"),
        ("download.source", 3, "Input should be a valid string (given: 3)"),
        ("infer.examples", "none", "Input should be a valid array (given: 'none')"),
        ("prepare.pairs", "both", "Input should be 'bert' or 'notebook' (given: 'both')"),
        ("prepare.vocab_size", 99, "Input should be greater than or equal to 100 (given: 99)"),
        ("data.dir", None, "Input should be a valid string (given: None)"),
    ],
)
def test_a_value_of_another_type_or_out_of_its_limits_is_refused(
    tmp_path: Path, name: str, value: object, said: str
) -> None:
    assert faults(write(tmp_path / "p.yaml", put(name, value))) == [f"{name}: {said}"]


def test_a_date_for_a_number_is_a_fault_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    text = merged_text(TINY).replace("\n  learning_rate: 0.01", "\n  learning_rate: 2024-01-01", 1)
    path.write_text(text, encoding="utf-8")
    assert faults(path) == ["train.learning_rate: Input should be a valid number (given: '2024-01-01')"]


@pytest.mark.parametrize("name", ["model.vocab_size", "runtime.threads", "runtime.processes"])
@pytest.mark.parametrize("value", [0, "many", True])
def test_a_choice_of_word_or_count_names_both(tmp_path: Path, name: str, value: object) -> None:
    said = faults(write(tmp_path / "p.yaml", put(name, value)))
    assert len(said) == 1
    assert said[0].startswith(f"{name}: Input should be 'auto'")
    assert ", or Input should be " in said[0]
    assert said[0].endswith(f"(given: {value!r})")


@pytest.mark.parametrize("value", [1, 147_161])
def test_a_choice_of_word_or_count_takes_a_count(tmp_path: Path, value: int) -> None:
    assert load_params(write(tmp_path / "p.yaml", put("model.vocab_size", value))).model.vocab_size == value


@pytest.mark.parametrize(
    ("dim", "heads", "tried"),
    [(10, 3, "2 or 5"), (7, 2, "1 or 7"), (12, 5, "4 or 6"), (16, 12, "8 or 16"), (4, 5, "4")],
)
def test_heads_that_do_not_divide_name_those_that_do(tmp_path: Path, dim: int, heads: int, tried: str) -> None:
    path = write(tmp_path / "p.yaml", put("model.embedding_dim", dim), put("model.heads", heads))
    assert faults(path) == [f"model: embedding_dim {dim} is not a multiple of heads {heads}: try {tried} heads"]


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            ("masking.mask_share", 0.8),
            ("masking.random_share", 0.3),
            "masking: mask_share 0.8 and random_share 0.3 add up to more than 1: lower one",
        ),
        (
            ("train.warmup_share", 0.5),
            ("train.decay_share", 0.75),
            "train: warmup_share 0.5 and decay_share 0.75 add up to more than 1: lower one",
        ),
    ],
)
def test_shares_that_add_up_to_more_than_one_are_refused(
    tmp_path: Path, one: tuple[str, float], other: tuple[str, float], said: str
) -> None:
    assert faults(write(tmp_path / "p.yaml", put(*one), put(*other))) == [said]
    assert load_params(write(tmp_path / "ok.yaml", put(one[0], 0.5), put(other[0], 0.5)))


@pytest.mark.parametrize("value", [0.0, 1.0, "both", None])
def test_a_share_of_the_test_split_is_within_its_limits_or_the_corpuss_own(tmp_path: Path, value: object) -> None:
    said = faults(write(tmp_path / "p.yaml", put("prepare.test_share", value)))
    assert len(said) == 1
    assert said[0].startswith("prepare.test_share: Input should be 'source'")
    assert load_params(write(tmp_path / "ok.yaml", put("prepare.test_share", "source"))).prepare.test_share == "source"


@pytest.mark.parametrize("code", ["english", "EN", "e", "en_US", ""])
def test_what_is_no_code_of_a_language_is_refused(tmp_path: Path, code: str) -> None:
    (said,) = faults(write(tmp_path / "p.yaml", put("prepare.language", code)))
    assert said.startswith(f"prepare: language {code!r} is not a language code: write en, es, fr")


@pytest.mark.parametrize("code", ["en", "es", "ast", "pt-br", "es-419"])
def test_a_code_of_a_language_is_taken(tmp_path: Path, code: str) -> None:
    assert load_params(write(tmp_path / "p.yaml", put("prepare.language", code))).prepare.language == code


def test_the_path_of_a_text_is_a_string(tmp_path: Path) -> None:
    assert faults(write(tmp_path / "p.yaml", put("data.corpora", {"mine": 3}))) == [
        "data.corpora.mine: Input should be a valid string (given: 3)"
    ]
    assert load_params(write(tmp_path / "ok.yaml", put("data.corpora", {"mine": "a b"}))).data.corpora["mine"] == "a b"


@pytest.mark.parametrize(
    "name", ["2023", "my texts", "año", "an\u0303o", "v1.2", "a/b", "音乐", "a$b", 'a"b', "{a}", "#a", "yes"]
)
def test_a_corpus_may_have_these_names(tmp_path: Path, name: str) -> None:
    """The shell and DVC find them too: see tests/process/test_pipeline_text.py."""
    loaded = load_params(write(tmp_path / "p.yaml", put("data.corpora", {name: "a 'b' \"c\" $d `e` {f} #g"})))
    assert loaded.data.path_of(name) == "a 'b' \"c\" $d `e` {f} #g"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a'b", "has the character \"'\", which may not be used there: rename it"),
        ("a@b", "has the character '@', which may not be used there: rename it"),
        ("a:b", "has the character ':'"), ("a\\b", "has the character '\\\\'"), ("a\nb", "has the character '\\n'"),
        ("", "is empty: write a path"), ("~", "begins with ~, which DVC does not expand: write the whole path"),
        ("..", "is not the name of a folder of data/text: no blank at an end"), (" a", "is not the name"),
        ("a/", "is not the name"), ("/a", "is not the name"), ("a/./b", "is not the name"),
        ("x" * 201, "is not the name"), ("ñ" * 101, "is not the name"),
    ],
)  # fmt: skip
def test_a_name_that_dvc_or_the_shell_reads_differently_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (told,) = faults(write(tmp_path / "p.yaml", put("data.corpora", {name: "a"})))
    assert told.startswith(f"data: the NAME {excerpt(name)} {said}")
    assert len(told) < 300


def test_no_text_is_written_into_the_output_of_another(tmp_path: Path) -> None:
    (told,) = faults(write(tmp_path / "p.yaml", put("data.corpora", {"a": "x", "a/b": "y"})))
    assert told == "data: the output of the NAME 'a/b' would lie within that of 'a': rename one"


@pytest.mark.parametrize(
    ("path", "said"), [("", "is empty"), ("~/a", "begins with ~, which DVC does not"), ("a\tb", "has the")]
)
def test_a_path_that_dvc_does_not_find_is_refused(tmp_path: Path, path: str, said: str) -> None:
    (told,) = faults(write(tmp_path / "p.yaml", put("data.corpora", {"mine": path})))
    assert told.startswith(f"data: the path of 'mine' {path!r} {said}")
    (told,) = faults(write(tmp_path / "p.yaml", put("data.dir", path)))
    assert told.startswith(f"data: dir {path!r} {said}")


@pytest.mark.parametrize(
    ("key", "written"), [(2023, "2023"), (1.5, "1.5"), (True, "true"), (None, "null"), (date(2023, 1, 2), "2023-01-02")]
)
def test_a_name_that_is_not_text_has_to_be_in_quotes(tmp_path: Path, key: object, written: str) -> None:
    said = f'data.corpora.{written}: write it in quotes, "{written}": DVC ignores names that are not text'
    assert faults(write(tmp_path / "p.yaml", put("data.corpora", {key: "a"}))) == [said]


def test_no_value_holds_a_nul_character(tmp_path: Path) -> None:
    """No name of a file can, and Python does not say which one did."""
    path = write(tmp_path / "p.yaml", put("download.source", "a\0b"), put("infer.examples", [{"model": "\0"}]))
    assert faults(path) == [
        f"{name}: has a NUL character: remove it" for name in ("download.source", "infer.examples.0.model")
    ]


def test_no_value_holds_half_a_character(tmp_path: Path) -> None:
    """No file can hold it; two halves side by side, as JSON writes a character, are one."""
    path = tmp_path / "p.yaml"
    text = write(path, put("download.source", "SOURCE")).read_text(encoding="utf-8")
    path.write_text(text.replace("SOURCE", r'"\ud83d\ude00"'), encoding="utf-8")
    assert load_params(path).download.source == "\U0001f600"
    path.write_text(text.replace("SOURCE", r'"a\ud83d"') + r'"b\udc00": 1', encoding="utf-8")
    assert faults(path) == [
        "download.source: has half a character (a lone surrogate): write all of it",
        r"b\udc00: the name has half a character (a lone surrogate): write all of it",
    ]


def test_paths_at_home_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    names = ("download.source", "prepare.tokenizer", "train.init")
    example = {"task": "mlm", "text": "[MASK]", "model": "~/m"}
    changes = [put(name, "~/m") for name in names]
    loaded = load_params(write(tmp_path / "p.yaml", *changes, put("infer.examples", [example])))
    found = [loaded.download.source, loaded.prepare.tokenizer, loaded.train.init, loaded.infer.examples[0].model]
    assert found == ["/home/me/m"] * 4


def test_an_example_is_judged_by_its_task_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "p.yaml", lambda content: content["infer"]["examples"][0].pop("second"))
    assert faults(path) == ["infer.examples.0.second: is missing: add it"]


@pytest.mark.parametrize("task", ["nps", None])
def test_an_example_of_no_known_task_is_named(tmp_path: Path, task: str | None) -> None:
    def change(content: dict[str, Any]) -> None:
        content["infer"]["examples"][1]["task"] = task
        if task is None:
            del content["infer"]["examples"][1]["task"]

    (said,) = faults(write(tmp_path / "p.yaml", change))
    assert said.startswith("infer.examples.1: ")
    assert "task" in said


def test_a_missing_file_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no params file at .*nowhere\.yaml: .*--params"):
        load_params(tmp_path / "nowhere.yaml")


def test_text_in_another_encoding_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"extends: params.yaml\n# Gr\xf6\xdfe\n")
    with pytest.raises(ParamsError, match=r"line 2 is not UTF-8; save the file as UTF-8$"):
        load_params(path)


def test_a_key_that_is_there_twice_is_named_without_advice_to_allow_it(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"train:\n  seed: 1\n  seed: 2\n")
    with pytest.raises(ParamsError, match=r'(?s)duplicate key "seed".*line 3') as caught:
        load_params(path)
    assert "suppress" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"\xff\xfe",
        b"train:\n  seed: 1\n  seed: 2\n",
        b"\tx: 1",
        b"a: 2024-13-45",
        b"[" * 5000,
        b"a: " + b"9" * 5000,
    ],
    ids=range(7),
)
def test_what_is_not_yaml_is_said_to_be_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=r"p\.yaml is not YAML: "):
        load_params(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: &x [*x]", "has a value within itself: write it out"),
        (
            "a0: &a0 1\n" + "".join(f"a{n + 1}: &a{n + 1} [{f'*a{n}, ' * 9}]\n" for n in range(20)),
            "has more than 100,000 ",
        ),
        ("? [1, 2]\n: 3", r"has 1 fault\(s\):\n  .*1, 2.*: write it in quotes"),
        ("? 2024-01-01\n: 1", r"has 1 fault\(s\):\n  2024-01-01: write it in quotes"),
    ],
)
def test_sections_that_json_has_not_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError, match=rf"p\.yaml {said}"):
        load_params(path)


@pytest.mark.parametrize("content", ["", "- 1", "word"])
def test_a_file_that_holds_no_sections_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content, encoding="utf-8")
    (said,) = faults(path)
    assert said.startswith("the file: Input should be an object")


def test_no_section_has_a_default() -> None:
    # Examples are a list's entries, not sections: a missing `model` or `expect` there means none.
    for section, schema in SECTIONS.items():
        for field in dataclasses.fields(schema):
            assert field.default is dataclasses.MISSING, f"{section}.{field.name}"
            assert field.default_factory is dataclasses.MISSING, f"{section}.{field.name}"


def test_every_field_says_what_it_is() -> None:
    for schema in (*SECTIONS.values(), params.ClassifierParams):
        source = inspect.getsource(schema).splitlines()
        for field in dataclasses.fields(schema):
            at = [number for number, line in enumerate(source) if line.startswith(f"    {field.name}: ")]
            assert all(source[number + 1].strip().startswith(('"""', "`")) for number in at), field.name


def test_params_are_frozen(tmp_path: Path) -> None:
    loaded = load_params(write(tmp_path / "p.yaml"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.train.epochs = 3  # type: ignore[misc]


def test_sections_made_in_code_obey_their_rules_too() -> None:
    with pytest.raises(ValueError, match="try 2 or 5 heads"):
        dataclasses.replace(DEFAULTS.model, embedding_dim=10, heads=3)
    with pytest.raises(ValueError, match="more than 1"):
        dataclasses.replace(DEFAULTS.masking, mask_share=0.9, random_share=0.2)


def test_importing_the_schema_loads_no_heavy_library() -> None:
    code = (
        "import sys, bertpipe.core.params\n"
        "heavy = {'pydantic', 'pydantic_core', 'ruamel.yaml', 'torch', 'pandas', 'pyarrow', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
