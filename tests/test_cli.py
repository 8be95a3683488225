"""The command line: exit codes, where results and messages go, and what a command shows."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import typer.main

from bertpipe import __version__
from bertpipe.cli import app
from bertpipe.cli.results import show_facts
from bertpipe.cli.terminal import progress, show_error
from bertpipe.core.errors import DataError
from bertpipe.core.params import Params
from bertpipe.core.params_file import merged_text
from bertpipe.core.progress import Progress
from commands import Ended, Run
from models import save_tiny_model
from prepared import folder_of

TINY = Path(__file__).parent.parent / "params" / "tiny.yaml"


def commands_in(group: object, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command and of each group of them."""
    for name, command in getattr(group, "commands", {}).items():
        yield (*names, name)
        yield from commands_in(command, *names, name)


COMMANDS = tuple(commands_in(typer.main.get_command(app.app)))

pytestmark = pytest.mark.usefixtures("workdir")


# Help and usage


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run: Run, command: tuple[str, ...]) -> None:
    ended = run(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"Usage: bertpipe {' '.join(command)}" in ended.out


def test_the_first_help_names_every_command(run: Run) -> None:
    out = run("--help").out
    assert all(command[0] in out for command in COMMANDS)
    assert run("-h").out == out


def test_mask_is_shown_in_capitals_and_brackets(run: Run) -> None:
    assert "[MASK]" in run("infer", "mlm", "--help").out
    assert "[MASK]" in run("infer", "--help").out
    assert "\\[" not in run("infer", "mlm", "--help").out


def test_only_training_works_in_several_processes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    message = "error: plot runs in one process, and torchrun has started 2: start it without torchrun\n"
    assert run("plot") == Ended(1, "", message)
    monkeypatch.setenv("RANK", "1")
    assert run("plot") == Ended(1, "", "")
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun with one process
    assert "torchrun" not in run("plot").err


def test_version(run: Run) -> None:
    assert run("--version") == Ended(0, f"bertpipe {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",), ("train", "--nonsense"), ("train", "--epochs", "0"), ("train", "--epochs", "x"),
        ("infer", "nsp", "only one"), ("infer", "mlm", "a", "--top-k", "0"), ("inspect",), (), ("infer",), ("init",),
        ("init", ""), ("prepare",), ("prepare", "--text", "x"), ("export", "--public"),
        ("infer", "nsp", "a", "b", "--input", "x"),
        ("infer", "embed", "a", "--input", "x"),
        ("probe",), ("probe", "sample", "--mode", "half"),
        ("probe", "sample", "--train-texts", "0"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_usage_error_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 2


# Many inputs


def test_a_terminal_is_not_waited_for(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    ended = run("infer", "score")
    assert ended.code == 2
    assert "or --input FILE, or a pipe" in ended.err


def test_one_input_goes_into_a_file_too(run: Run, project: Path) -> None:
    assert json.loads(run("infer", "nsp", "a film", "a song", "--out", "a.jsonl", "--json").out)["answered"] == 1
    row = json.loads(Path("a.jsonl").read_text())
    assert row["input"] == {"first": "a film", "second": "a song"}
    assert row["answer"] == json.loads(run("infer", "nsp", "a film", "a song", "--json").out)


def test_a_long_text_is_not_taken_for_a_path(run: Run, project: Path) -> None:
    Path("answers.jsonl").write_text("earlier", encoding="utf-8")
    assert run("infer", "mlm", "the film " * 100 + "[MASK]", "--out", "answers.jsonl").code == 0


def test_a_named_pipe_is_a_note_before_it_is_waited_for(run: Run, project: Path) -> None:
    os.mkfifo("questions.txt")
    writer = threading.Thread(target=Path("questions.txt").write_text, args=("the [MASK]\n",))
    writer.start()
    ended = run("infer", "mlm", "--input", "questions.txt")
    writer.join()
    assert ended.code == 0
    assert "note: questions.txt is a pipe: waiting for its other end; Ctrl-C stops" in ended.err
    assert json.loads(ended.out)["input"] == "the [MASK]"


def test_outputs_can_be_read_whatever_the_umask(run: Run, project: Path) -> None:
    before = os.umask(0o777)
    try:
        assert run("infer", "mlm", "the [MASK]", "--out", "new/answers.jsonl").code == 0
    finally:
        os.umask(before)
    assert [stat.S_IMODE(Path(path).stat().st_mode) for path in ("new", "new/answers.jsonl")] == [0o700, 0o600]


def test_a_file_of_texts_becomes_vectors(run: Run, project: Path) -> None:
    Path("texts.txt").write_text("the film .\nthe music .\n")
    ended = run("infer", "embed", "--input", "texts.txt", "--out", "v.npy", "--json")
    assert (ended.code, json.loads(ended.out)["failed"]) == (0, 0)
    assert np.load("v.npy").shape[0] == 2


# Errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("download", "--params", "none.yaml"), "error: no params file at none.yaml"),
        (("download", "--params", TINY, "--source", "none.zip"), "error: none.zip cannot be read"),
        (("convert", "--params", TINY), "error: data/raw/dataset.zip does not exist: run `bertpipe download` first"),
        (("train", "--params", TINY), "error: data/parquet/summary.json does not exist: run `bertpipe convert`"),
        (("prepare", "--params", TINY, "--text", "none", "--out", "x"), "error: none does not exist: name a text file"),
        (("evaluate", "--params", TINY), "error: there is no model at models/bert: run `bertpipe train` first"),
        (("export", "--params", TINY), "error: models/bert does not exist: run `bertpipe train` first"),
        (("probe", "sample", "--params", TINY), "error: there is no model at models/bert: run `bertpipe train` first"),
        (("probe", "none.csv", "--params", TINY), "error: none.csv does not exist: name a labelled file"),
        (("plot",), "error: reports/history.csv does not exist: run `bertpipe train` first"),
        (("infer", "nsp", "a", "b"), "error: there is no model at models/bert: run `bertpipe train` first"),
        (("infer", "mlm", "a [MASK]"), "error: there is no model at models/bert: run `bertpipe train` first"),
        (("infer", "examples", "--params", TINY), "error: there is no model at models/bert"),
        (("inspect", "a"), "error: there is no model at models/bert: run `bertpipe train` first"),
    ],
)
def test_an_error_the_user_can_mend_is_one_line_and_exits_with_1(
    run: Run, arguments: tuple[object, ...], said: str
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (1, "")
    (error,) = (line for line in ended.err.splitlines() if line.startswith("error"))
    assert error.startswith(said)
    assert "Traceback" not in ended.err


def test_all_faults_of_the_params_are_shown_at_once(run: Run) -> None:
    text = merged_text(TINY).replace("heads: 2", "heads: 3").replace("\n  epochs: 2\n", "\n  epochs: '2'\n")
    Path("params.yaml").write_text(text, encoding="utf-8")
    ended = run("convert")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "error: params.yaml has 2 fault(s):",
        "  model: embedding_dim 16 is not a multiple of heads 3: try 2 or 4 heads",
        "  train.epochs: Input should be a valid integer (given: '2')",
    ]


def test_an_unexpected_exception_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bertpipe.inference.predictor.load_predictor", fail)
    monkeypatch.setattr(sys, "argv", ["bertpipe", "infer", "mlm", "a [MASK]"])
    with pytest.raises(ZeroDivisionError):
        app.main()


# Results and messages


JSON_COMMANDS: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "download": (("download",), {"source", "file", "bytes", "sha256"}),
    "convert": (("convert",), {"splits", "vocabulary", "documents"}),
    "prepare": (("prepare", "--text", "text", "--out", "out"), {"found", "splits", "vocabulary", "documents"}),
    "evaluate": (("evaluate",), {"mlm", "nsp"}),
    "export": (("export",), {"directory", "files", "loads_as"}),
    "probe": (("probe", "sample"), {"data", "model", "settings", "predictors"}),
    "plot": (("plot",), {"files", "intervals", "epochs"}),
    "report": (("report",), {"file", "bytes", "sections", "left_out"}),
    "nsp": (("infer", "nsp", "the film .", "the music ."), {"is_next", "probability_next", "probability_not_next"}),
    "mlm": (("infer", "mlm", "the [MASK] ."), {"filled_text", "masks"}),
    "score": (("infer", "score", "the film ."), {"pseudo_log_likelihood", "pseudo_perplexity", "tokens"}),
    "embed": (("infer", "embed", "the film ."), {"embedding"}),
    "examples": (("infer", "examples"), {"asked", "answered", "as_expected"}),
    "inspect": (("inspect", "the film .", "the music ."), {"tokens", "steps", "attention"}),
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", JSON_COMMANDS)
def test_json_goes_to_standard_output_alone(run: Run, name: str) -> None:
    arguments, keys = JSON_COMMANDS[name]
    ended = run(*arguments, "--json")
    assert ended.code == 0
    assert keys <= json.loads(ended.out, parse_constant=pytest.fail).keys()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", JSON_COMMANDS)
def test_for_people_there_is_a_table_on_standard_output(run: Run, name: str) -> None:
    ended = run(*JSON_COMMANDS[name][0])
    assert ended.code == 0
    assert ended.out.strip()
    assert "\x1b" not in ended.out + ended.err
    if len(JSON_COMMANDS[name][0]) == 1:
        assert ended.err.strip()  # progress
        assert not set(ended.err.splitlines()) & set(ended.out.splitlines())


def test_a_network_without_a_counterpart_is_an_error_or_a_card(run: Run, project: Path) -> None:
    shutil.rmtree(project / "models/bert")
    save_tiny_model(project / "models/bert", architecture="notebook", tied=False)
    ended = run("export")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[-1].startswith("error: models/bert cannot be a Hugging Face model: ")
    ended = run("export", "--or-card", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["files"] == ["README.md", "bertpipe.json"]
    assert ended.err.splitlines()[-1].startswith("note: models/bert cannot be a Hugging Face model: ")


@pytest.mark.usefixtures("project")
def test_what_became_of_a_text_is_shown_with_a_column_for_each_split(run: Run) -> None:
    lines = [line.split() for line in run("prepare", "--text", "text", "--out", "out").out.splitlines()]
    assert ["read", "90"] in lines
    assert ["train", "test"] in lines
    (documents,) = (line[1:] for line in lines if line[:1] == ["documents"] and len(line) == 3)
    assert sum(map(int, documents)) == 90


@pytest.mark.parametrize(
    ("singles", "sentences", "said"),
    [
        (
            40,
            "auto",
            "40 of the 130 documents have no pair, because only one sentence was found in them: set prepare.se",
        ),
        (
            40,
            "lines",
            "set prepare.sentences to auto if a line holds several sentences (it is lines), or prepare.text_",
        ),
        (8, "auto", ""),
    ],
)
def test_a_note_says_how_many_documents_have_no_pair_and_what_to_set(
    run: Run, project: Path, singles: int, sentences: str, said: str
) -> None:
    folder_of(project / "singles", [f"Only one {number}." for number in range(singles)])
    for path in (project / "singles").iterdir():
        path.rename(project / "text" / f"single-{path.name}")
    if sentences == "lines":
        for path in (project / "text").glob("0*.txt"):
            path.write_text(path.read_text(encoding="utf-8").replace(". ", ".\n"), encoding="utf-8")
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("sentences: auto", f"sentences: {sentences}")
    params.write_text(text, encoding="utf-8")
    ended = run("prepare", "--text", "text", "--out", "out", "--json")
    assert ended.code == 0
    notes = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == bool(said)
    assert all(said in note and len(note) < 500 for note in notes)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_data_are_those_of_the_params_unless_named(run: Run, project: Path, command: str) -> None:
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("dir: data/parquet", "dir: elsewhere")
    params.write_text(text, encoding="utf-8")
    assert "error: elsewhere/" in run(command).err
    assert "error: here/" in run(command, "--data", "here").err


@pytest.mark.usefixtures("project")
def test_train_shows_its_summary_and_its_progress_apart(run: Run, tiny: Params) -> None:
    ended = run("train", "--json")
    assert ended.code == 0
    summary = json.loads(ended.out)
    assert {
        "steps", "elapsed_s", "sequences_per_second", "tokens_per_second", "train_mlm_loss", "test_nsp_loss"
    } <= summary.keys()  # fmt: skip
    lines = ended.err.splitlines()
    assert lines[-1].startswith(f"epoch {tiny.train.epochs}/{tiny.train.epochs}")
    assert "note:" not in ended.err


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("encoding", "out"),
    [("utf-8", "models/other"), ("ascii", "models/modèle")],
)
def test_a_summary_that_cannot_be_printed_is_no_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch, encoding: str, out: str
) -> None:
    with Path("/dev/full").open("w", encoding=encoding) as full:
        monkeypatch.setattr(sys, "stdout", full)
        ended = run("train", "--epochs", 1, "--out", out)
    assert ended.code == 0
    assert ended.err.splitlines()[-1].startswith(
        "note: the work is done, but its summary could not be printed (No space left on device"
    )
    assert (Path(out) / "model.safetensors").is_file()


def test_a_closed_output_is_no_failure() -> None:
    command = ["/bin/sh", "-c", 'exec "$0" -m bertpipe --version >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("project")
def test_a_closed_input_holds_no_questions(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run("infer", "mlm") == Ended(0, "", "")
    sys.stdin.close()


@pytest.mark.usefixtures("project")
def test_a_rank_that_is_no_number_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "first", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    ended = run("train")
    assert (ended.code, ended.err) == (1, "error: RANK is 'first' in the environment, and has to be a whole number\n")


def test_a_gpu_that_is_not_there_is_said_before_processes_start(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertpipe.training.distributed.launch.run_in_processes", pytest.fail)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("processes: 1", "processes: 2").replace(
        "device: cpu", "device: cuda"
    )  # fmt: skip
    params.write_text(text, encoding="utf-8")
    ended = run("train")
    assert (ended.code, ended.err) == (
        1, "error: runtime.device is cuda, but PyTorch sees no GPU here: use auto or cpu\n"
    )  # fmt: skip


@pytest.mark.usefixtures("project")
def test_an_override_of_epochs_is_stored_and_told(run: Run) -> None:
    ended = run("train", "--epochs", 1)
    assert ended.code == 0
    note = ended.err.splitlines()[-1]
    assert note.startswith("note: train.epochs was 1, not what params.yaml says. `dvc repro` would train the")
    assert note.endswith("dvc exp run -S train.epochs=1")
    config = json.loads(Path("models/bert/config.json").read_text(encoding="utf-8"))
    assert config["facts"]["overrides"] == {"train.epochs": 1}
    assert config["facts"]["params"]["train"]["epochs"] == 1


@pytest.mark.parametrize("other", [("--out", "models/other"), ("--params", "other.yaml")])
def test_an_override_that_is_not_the_pipelines_is_stored_in_silence(
    run: Run, project: Path, other: Sequence[str]
) -> None:
    shutil.copy(project / "params.yaml", project / "other.yaml")
    ended = run("train", "--epochs", 1, *other)
    assert ended.code == 0
    assert "note:" not in ended.err
    model = Path("models/other" if "--out" in other else "models/bert")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["facts"]["overrides"] == {"train.epochs": 1}


@pytest.mark.usefixtures("project")
def test_a_start_from_a_model_is_an_override_too(run: Run) -> None:
    shutil.copytree("models/bert", "first")
    ended = run("train", "--epochs", 1, "--init", "first")
    assert ended.code == 0
    note = ended.err.splitlines()[-1]
    assert note.startswith("note: train.epochs was 1 and train.init was first, not what params.yaml says.")
    assert note.endswith("dvc exp run -S train.epochs=1 -S train.init=first")
    assert "note: starting from first (width " in ended.err


@pytest.mark.usefixtures("project")
def test_the_params_own_number_of_epochs_is_no_override(run: Run, tiny: Params) -> None:
    assert "note:" not in run("train", "--epochs", tiny.train.epochs).err


@pytest.mark.usefixtures("project")
def test_a_probe_shows_a_row_a_predictor_and_takes_what_differs_from_the_params(run: Run) -> None:
    ended = run("probe", "sample", "--mode", "frozen", "--train-texts", 30, "--out", "probe.json")
    assert ended.code == 0
    report = json.loads(Path("probe.json").read_text(encoding="utf-8"))
    assert (report["settings"]["mode"], report["settings"]["train_texts"]) == ("frozen", 30)
    lines = ended.out.splitlines()
    assert lines[0] == "Probe of models/bert, frozen, 30 texts to train on, 12 to test on"
    rows = {line[:17].strip(): line[17:].split() for line in lines[1:]}
    for name, figures in report["predictors"].items():
        assert rows[name.replace("_", " ")] == [f"{figures[key]:.4f}" for key in ("accuracy", "macro_f1")]


@pytest.mark.usefixtures("project")
def test_minimal_pairs_are_shown_by_group_and_leave_the_metrics_alone(run: Run) -> None:
    for name in ("one", "other"):
        Path(f"{name}.jsonl").write_text(
            '{"sentence_good": "the film", "sentence_bad": "film the"}\n', encoding="utf-8"
        )
    metrics = Path("reports/metrics.json").read_bytes()
    ended = run("evaluate", "--minimal-pairs", "one.jsonl", "--minimal-pairs", "other.jsonl")
    assert ended.code == 0
    assert Path("reports/metrics.json").read_bytes() == metrics
    report = json.loads(Path("reports/minimal_pairs.json").read_text(encoding="utf-8"))
    lines = ended.out.splitlines()
    assert lines[0] == "Minimal pairs of models/bert: 2 pairs, groups: 2"
    words = [line.split() for line in lines]
    for group, figures in report["groups"].items():
        assert [group, "1", *(f"{figures[name]:.4f}" for name in report["predictors"])] in words
    for name, figures in report["predictors"].items():
        shown = [f"{figures['accuracy']:.4f}", f"{figures['group_mean_accuracy']:.4f}", str(figures["ties"])]
        assert [*name.split("_"), *shown] in words
    assert run("evaluate", "--minimal-pairs", "one.jsonl", "--out", "reports/metrics.json").code == 0
    assert Path("reports/metrics.json").read_bytes() != metrics


@pytest.mark.usefixtures("project")
def test_a_field_of_groups_needs_minimal_pairs(run: Run) -> None:
    ended = run("evaluate", "--group-by", "UID")
    assert ended.code == 2
    assert "--group-by applies to --minimal-pairs" in ended.err


@pytest.mark.usefixtures("project")
def test_results_stand_at_their_default_places(run: Run) -> None:
    for arguments in (("evaluate",), ("plot",), ("infer", "examples")):
        assert run(*arguments).code == 0
    for name in ("metrics.json", "plots/loss.png", "plots/throughput.svg", "examples.json"):
        assert Path("reports", name).is_file()


@pytest.mark.usefixtures("project")
def test_warnings_go_to_standard_error(run: Run) -> None:
    ended = run("infer", "mlm", "qwertz [MASK] [MASK] .")
    assert ended.code == 0
    assert "note: not in the vocabulary, read as [UNK]: 'qwertz'" in ended.err
    assert "qwertz" in ended.out  # the filled text
    assert "note:" not in ended.out
    assert "[MASK] at token 2" in ended.out


def test_square_brackets_of_an_input_are_shown_as_they_are(run: Run, project: Path) -> None:
    ended = run("infer", "mlm", "the [bold]film[/bold] is [MASK] .")
    assert "the [bold]film[/bold] is" in ended.out
    assert ended.code == 0


def test_a_model_is_named_by_path(run: Run, project: Path) -> None:
    (project / "models/bert").rename(project / "mine")
    assert run("infer", "nsp", "a", "b", "--model", "./mine").code == 0
    assert run("evaluate", "--model", "mine", "--out", "elsewhere.json").code == 0
    assert Path("elsewhere.json").is_file()


def test_a_download_from_a_path_with_a_wrong_hash_names_both(run: Run, project: Path) -> None:
    before = Path("data/raw/dataset.zip").read_bytes()
    ended = run("download", "--source", "data/raw/dataset.zip", "--sha256", "00")
    assert ended.code == 1
    assert "expected 00" in ended.err
    assert Path("data/raw/dataset.zip").read_bytes() == before


# Terminals with other encodings

FOREIGN = "- 音乐 [MASK] 🎬 año"


def run_in_encoding(monkeypatch: pytest.MonkeyPatch, run: Run, encoding: str, *arguments: object) -> tuple[Ended, str]:
    """Run a command whose output has an encoding, and return how it ended, with its output decoded."""
    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        ended = run(*arguments)
        sys.stdout.flush()
        return ended, raw.getvalue().decode(encoding)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-16", "shift_jis"])
@pytest.mark.parametrize("task", ["mlm", "score", "embed", "nsp"])
def test_json_is_json_in_every_encoding(run: Run, monkeypatch: pytest.MonkeyPatch, encoding: str, task: str) -> None:
    text = FOREIGN if task == "mlm" else FOREIGN.replace("[MASK] ", "")
    texts = [text] * (2 if task == "nsp" else 1)
    Path("lines.jsonl").write_text(json.dumps({"text": text, "first": text, "second": text}), encoding="utf-8")
    for arguments in (("infer", task, "--json", "--", *texts), ("infer", task, "--input", "lines.jsonl")):
        plain = run(*arguments)
        ended, out = run_in_encoding(monkeypatch, run, encoding, *arguments)
        assert (ended.code, ended.err) == (0, plain.err)
        assert json.loads(out) == json.loads(plain.out)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-16"])
def test_what_a_terminal_cannot_show_is_escaped(run: Run, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    escaped = FOREIGN.encode(encoding, "backslashreplace").decode(encoding)
    for arguments in (("infer", "mlm"), ("inspect",)):
        ended, out = run_in_encoding(monkeypatch, run, encoding, *arguments, "--", FOREIGN)
        assert ended.code == 0
        assert out.strip()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict"))
    assert run("infer", "mlm", "--input", FOREIGN).code == 1
    sys.stderr.flush()
    told = sys.stderr.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert told.startswith(f"error: there is no file {escaped}: name one")


# Colours and bars


class Terminal:
    """Standard error as a terminal."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_has_a_bar_and_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    with progress() as draw:
        draw(Progress(label="fetching", completed=1_500_000, total=3_000_000, unit="bytes"))
        draw(Progress(label="fetching", completed=3_000_000, total=3_000_000, unit="bytes"))
    assert "fetching" in terminal.written
    assert "3.0 / 3.0 MB" in terminal.written
    has_colour = any(f"\x1b[{code}" in terminal.written for code in ("3", "9", "1;3", "38;"))
    assert has_colour is not no_color


@pytest.mark.parametrize("text", ["слово " * 100, "\x1b[31m" * 100, "\ud800" * 400])
def test_an_error_is_no_longer_where_its_characters_are_escaped(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    show_error(str(DataError(f"line 1: {text}: write another word")))
    line = raw.getvalue().decode("ascii").rstrip("\n")
    assert line.startswith("error: line 1: ")
    assert line.endswith(": write another word")
    assert 400 < len(line) <= len("error: ") + 500


@pytest.mark.parametrize("value", ["1", "3"])
def test_a_log_is_plain_whatever_the_environment_forces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.setenv(name, value)
    with progress() as draw:
        draw(Progress(label="fetching", completed=1, total=2, unit="rows"))
    show_error("nothing")
    show_facts({"rows": 1}, "Done")
    written = capsys.readouterr()
    assert written.err == "fetching\nerror: nothing\n"
    assert "\x1b" not in written.out


@pytest.mark.usefixtures("project")
def test_a_name_is_shown_as_it_is(run: Run) -> None:
    name = "[red]a[/x] :dog:"
    assert name in run("plot", "--out", name).out
    assert run("infer", "mlm", "--input", "a\x1b[2Jb\x9bc").err.startswith("error: there is no file a\\x1b[2Jb\\x9bc: ")


def test_a_terminal_that_draws_nothing_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with progress() as draw:
        draw(Progress(label="fetching", completed=1, total=2, unit="rows"))
    assert terminal.written == "fetching\n"


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (Progress(label="a", completed=1, total=None, unit="rows"), "a"),
        (Progress(label="a", completed=1e6, total=None, unit="bytes", detail="x"), "a  1.0 MB  x"),
        (Progress(label="a", completed=10, total=2000, unit="steps", detail="x"), "a  10/2,000 steps  x"),
    ],
)
def test_elsewhere_progress_is_plain_lines(capsys: pytest.CaptureFixture[str], report: Progress, line: str) -> None:
    with progress() as draw:
        draw(report)
    assert capsys.readouterr() == ("", line + "\n")


def test_a_label_is_told_once_where_there_is_nothing_more_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as draw:
        for label in ("a", "a", "b", "a"):
            draw(Progress(label=label, completed=0, total=None, unit="rows"))
    assert capsys.readouterr().err == "a\nb\na\n"


# Texts that begin with a dash


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "text", ["- the [MASK]", "-- the [MASK]", "-the film. the [MASK]", "-[MASK]", "-5 [MASK]", "-a\n[MASK]"]
)
def test_a_text_may_begin_with_a_dash(run: Run, text: str) -> None:
    for arguments in (("infer", "mlm", "--top-k", "1", text), ("infer", "mlm", text, "--top-k=1")):
        assert run(*arguments, "--json") == run("infer", "mlm", "--top-k", "1", "--json", "--", text)
    plain = text.replace("[MASK]", "film!")
    for command in (("infer", "nsp"), ("inspect",)):
        answer = run(*command, "--json", plain, "-- no, it is not")
        assert answer.code == 0
        assert answer == run(*command, "--json", "--", plain, "-- no, it is not")
    for command in (("infer", "score"), ("infer", "embed")):
        assert run(*command, "--json", plain) == run(*command, "--json", "--", plain)


@pytest.mark.usefixtures("project")
def test_what_looks_like_an_option_is_one_or_the_error_says_what_to_write(run: Run) -> None:
    for word in ("-the", "--no", "--no=yes it is"):
        ended = run("infer", "score", word)
        assert ended.code == 2
        assert "write -- before a text that begins with a dash" in " ".join(ended.err.replace("│", " ").split())
        assert run("infer", "score", "--", word).code == 0
    ended = run("plot", "--nonsense")
    assert ended.code == 2
    assert "before a text" not in ended.err
    assert run("infer", "mlm", "- the [MASK]", "--out", "- a.jsonl").code == 0
    assert Path("- a.jsonl").is_file()


@pytest.mark.usefixtures("project")
def test_a_path_in_an_option_may_begin_with_home(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project / "models"))
    asked = ("infer", "mlm", "~/ [MASK]", "--json")
    assert run(*asked, "--model=~/bert") == run(*asked)
    assert "~/" in run(*asked).out
    assert run("plot", "--out=~/plots").code == 0
    assert (project / "models/plots/loss.png").is_file()


@pytest.mark.usefixtures("project")
def test_bytes_that_a_locale_does_not_have_are_a_text(run: Run) -> None:
    as_ascii = "año 音乐".encode().decode("ascii", "surrogateescape")
    assert run("infer", "score", as_ascii, "--json") == run("infer", "score", "año 音乐", "--json")
    ended = run("infer", "score", "a\udcf1o")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: the argument 'a\\udcf1o' is not UTF-8: use a terminal in UTF-8")
    assert "PYTHONUTF8=1" in ended.err


# Processes


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "--help"]], ids=["import", "help", "train help"])
def test_the_face_loads_no_heavy_library(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from bertpipe.cli import app\n"
        f"sys.argv = ['bertpipe', *{arguments!r}]\n"
        "try:\n"
        "    app.main() if len(sys.argv) > 1 else None\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'pyarrow', 'matplotlib', 'dvc', 'altair', 'vl_convert'}\n"
        "sys.stderr.write(repr(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


# Outputs that would replace what is read


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("infer", "mlm", "--input=q/q.jsonl", "--out=q/../q/q.jsonl"), "is a file that the command reads"),
        (("infer", "mlm", "--input=link.jsonl", "--out=q/q.jsonl"), "is a file that the command reads"),
        (("infer", "mlm", "--input=q", "--out=q/new.jsonl"), "lies in a folder that the command reads"),
        (("probe", "q/labels.csv", "--out=q/labels.csv"), "is a file that the command reads"),
        (("probe", "sample", "--test=q/labels.csv", "--out=q/labels.csv"), "is a file that the command reads"),
        (("evaluate", "--minimal-pairs=q/q.jsonl", "--out=q/q.jsonl"), "is a file that the command reads"),
        (("evaluate", "--params=plain", "--out=plain"), "is a file that the command reads"),
        (("evaluate", "--params=over.yml", "--out=params.yaml"), "looks like a params file"),
        (("infer", "examples", "--out=params.yaml"), "is a file that the command reads"),
        (("download", "--out=over.yml"), "looks like a params file"),
        (("train", "--out=new", "--history=params.yaml"), "is a file that the command reads"),
        (("train", "--out=new", "--history=x.csv", "--timing=./x.csv"), "is named for two outputs"),
        (("train", "--out=new", "--history=data/parquet/summary.json"), "belongs to the data set that bertpipe wrote"),
        (("evaluate", "--out=models/bert/config.json"), "belongs to the model that bertpipe wrote"),
        (("evaluate", "--out=models/bert/bertpipe-manifest.json"), "belongs to the model that bertpipe wrote"),
    ],
)
def test_no_output_replaces_what_a_command_reads(run: Run, arguments: tuple[str, ...], said: str) -> None:
    Path("q").mkdir()
    Path("q/q.jsonl").write_text('{"text": "the [MASK]"}\n', encoding="utf-8")
    rows = "".join(f"the film {number},{'ab'[number % 2]}\n" for number in range(40))
    Path("q/labels.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    Path("link.jsonl").symlink_to("q/q.jsonl")
    shutil.copy("params.yaml", "plain")
    Path("over.yml").write_text("extends: params.yaml\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    ended = run(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.usefixtures("project")
def test_an_output_may_stand_beside_what_a_command_reads(run: Run) -> None:
    Path("q.jsonl").write_text('{"text": "the [MASK]"}\n', encoding="utf-8")
    for _ in range(2):
        assert run("infer", "mlm", "--input=q.jsonl", "--out=a.jsonl").code == 0
        assert run("evaluate", "--out=models/bert/metrics.json").code == 0
        assert run("download", "--source=data/raw/dataset.zip", "--out=data/raw/dataset.zip").code == 0
