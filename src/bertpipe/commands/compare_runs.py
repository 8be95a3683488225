"""`report --compare`: runs side by side on one page, without their weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bertpipe.core.artifacts import (
    ANSWERS_FILE,
    CONFIG_NAME,
    EPOCHS_COLUMNS,
    EPOCHS_FILE,
    EXAMPLES_FILE,
    HISTORY_COLUMNS,
    HISTORY_FILE,
    METRICS_FILE,
    MODEL_DIR,
    NEW_TIMING_COLUMNS,
    TIMING_COLUMNS,
    TIMING_FILE,
    TOKENIZER_NAME,
    read_json,
    read_table,
    require,
)
from bertpipe.core.errors import DataError, InputError, MissingInputError, first_line
from bertpipe.core.file_kinds import shown
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.model.store import is_own_model
from bertpipe.report.charts import MOST_LINES
from bertpipe.report.comparison import Run, comparison_sections
from bertpipe.report.page import check_page_file, page, write_page

if TYPE_CHECKING:
    import pandas as pd

_LOCK = Path("dvc.lock")
_REPORTS = (HISTORY_FILE, EPOCHS_FILE, TIMING_FILE, METRICS_FILE, EXAMPLES_FILE, ANSWERS_FILE)
_LONGEST_NAME, _SHOWN = 40, 100
"""Characters of a run's name on the page, and in a message."""


def run_comparison(
    names: Sequence[str],
    *,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Write a page on some runs side by side to `out`, and return where it is and what it lacks.

    Args:
        names: two or more runs, each the directory of a model that bertpipe trained, a project, or the name of a DVC
            experiment or a git commit of the project in the current folder.
        out: the page.
        on_progress: gets a report for each run.
        on_note: gets a note on each part that was left out.

    Raises:
        InputError: there are too few runs, or too many.
        MissingInputError: there is no such run, or its model is not in DVC's cache.
        DataError: a file is damaged, or not what the command writes that makes it.
        WriteError: `out` is not a page of ours, or cannot be written.
    """
    if not 2 <= len(names) <= MOST_LINES:  # noqa: PLR2004
        raise InputError(
            f"--compare got {len(names)} runs: name 2 to {MOST_LINES}, such as `models/bert` and `../other`"
        )
    check_page_file(out)
    runs: list[Run] = []
    with ExitStack() as stack:
        for name in names:
            on_progress(Progress(label="reading", completed=len(runs), total=len(names), unit="runs"))
            folder = Path(stack.enter_context(TemporaryDirectory()))
            runs.append(_read(_found(name, folder), _label(name, [run.name for run in runs])))
    sections = comparison_sections(runs)
    listed = ", ".join(run.name for run in runs)
    return write_page(out, page(f"Comparison of {len(runs)} runs", listed, sections), sections, on_note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """Where the files of a run are."""

    model: Path
    reports: Path
    lock: Path | None = None
    reasons: Mapping[Path, str] = field(default_factory=dict)
    """Why a report is missing, by its default path."""


def _label(name: str, taken: Sequence[str]) -> str:
    """Return a short name that no other run has."""
    path = Path(name)
    text = shown(path.resolve().name if path.name in {"", ".."} else name)
    text = text if len(text) <= _LONGEST_NAME else f"…{text[-_LONGEST_NAME:]}"
    number, label = 1, text
    while label in taken:
        number += 1
        label = f"{text} ({number})"
    return label


def _found(name: str, folder: Path) -> _Files:
    """Return the files of a run; those of a DVC revision are copied into `folder`."""
    with suppress(OSError, ValueError):  # a name that no path can have
        path = Path(name)
        if path.is_dir():
            return _in_directory(path, name)
    return _of_revision(name, folder)


def _in_directory(path: Path, name: str) -> _Files:
    if is_own_model(path):
        root = path.resolve().parent.parent
        if path.resolve() == root / MODEL_DIR:
            return _Files(model=path, reports=root / HISTORY_FILE.parent, lock=root / _LOCK)
        return _Files(model=path, reports=path.resolve().parent)
    if is_own_model(path / MODEL_DIR):
        return _Files(model=path / MODEL_DIR, reports=path / HISTORY_FILE.parent, lock=path / _LOCK)
    raise MissingInputError(
        f"{shown(name)[-_SHOWN:]} is neither a model that bertpipe trained nor a project with one in {MODEL_DIR}: run "
        "`dvc repro` or `dvc checkout` there, or name another run"
    )


def _of_revision(name: str, folder: Path) -> _Files:
    short = shown(name)[-_SHOWN:]
    try:
        files = DVCFileSystem(rev=name)
        files.repo.get_rev()  # it looks the revision up only now
    except (DvcException, OSError, ValueError) as error:
        raise MissingInputError(
            f"there is no directory {short}, and DVC knows no experiment or commit of that name here "
            f"({first_line(error)[:_SHOWN]}): `dvc exp show` lists them"
        ) from error
    reasons = {}
    for path in (MODEL_DIR / CONFIG_NAME, MODEL_DIR / TOKENIZER_NAME, *_REPORTS, _LOCK):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(path.as_posix(), str(target))
        except (DvcException, OSError) as error:
            target.unlink(missing_ok=True)
            is_tracked = files.exists(path.as_posix())
            if is_tracked:
                why = (
                    f"{path} is not in DVC's cache ({first_line(error)[:_SHOWN]}): fetch it with `dvc exp pull`, or of "
                    f"a commit with `dvc fetch --all-commits`, or make it again: `dvc exp apply` and `dvc repro`"
                )
            else:
                why = f"{path} is not in {short}: run `dvc repro` there, and `git commit` or `dvc exp save`"
            reasons[path] = why
    for path in (MODEL_DIR / CONFIG_NAME, MODEL_DIR / TOKENIZER_NAME):
        if path in reasons:
            raise MissingInputError(f"{short}: {reasons[path]}")
    if not is_own_model(folder / MODEL_DIR):
        raise MissingInputError(f"{short}: its {MODEL_DIR} is not a model that bertpipe trained: name another run")
    return _Files(model=folder / MODEL_DIR, reports=folder / HISTORY_FILE.parent, lock=folder / _LOCK, reasons=reasons)


def _read(files: _Files, name: str) -> Run:
    """Return a run from its files.

    Raises:
        DataError: one of them is damaged.
    """
    config = read_json(files.model / CONFIG_NAME)
    tokenizer_file = require(files.model / TOKENIZER_NAME, made_by="bertpipe train")
    try:
        facts = dict(config.get("facts") or {})
        trained = {
            f"{section}.{key}": value
            for section, values in facts.get("params", {}).items()
            for key, value in values.items()
        }
        digests = dict(config["sha256"])
        data = {str(key): str(value) for key, value in facts.get("data_sha256", {}).items()}
        described = {
            **{f"model: {key}": value for key, value in config["model"].items() if f"model.{key}" not in trained},
            **{f"first weights: {key}": value for key, value in facts.get("init", {}).items()},
            "epochs done": facts.get("epochs_done"),
            **{f"version of {key}": value for key, value in facts.get("versions", {}).items()},
            **{f"SHA-256 of the data's {key}": value for key, value in data.items()},
            **{f"SHA-256 of the model's {key}": value for key, value in digests.items()},
        }
        tokenizer_sha256 = str(digests[TOKENIZER_NAME])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{name}: {CONFIG_NAME} is not what `bertpipe train` writes ({error!r}): train again"
        ) from error
    reader = _Reader(files=files, epochs_done=facts.get("epochs_done"))
    tables = reader.tables()
    return Run(
        name=name,
        params={**_locked(files.lock), **trained},
        facts=described,
        data=data,
        tokenizer_sha256=tokenizer_sha256,
        tokenizer=load_tokenizer(tokenizer_file),
        **tables,
        metrics=reader.content(METRICS_FILE, "bertpipe evaluate", dict) or {},
        examples=reader.content(EXAMPLES_FILE, "bertpipe infer examples", list) or (),
        answers=reader.answers(),
        left_out=reader.left_out,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads the reports of a run, and remembers which are missing."""

    files: _Files
    epochs_done: int | None
    left_out: list[str] = field(default_factory=list)

    def tables(self) -> "dict[str, pd.DataFrame | None]":
        """Return the tables of the training; none if they are of another one."""
        tables = {
            "history": self._table(HISTORY_FILE, HISTORY_COLUMNS),
            "epochs": self._table(EPOCHS_FILE, EPOCHS_COLUMNS),
            "timing": self._table(TIMING_FILE, TIMING_COLUMNS),
        }
        epochs = tables["epochs"]
        if epochs is not None and self.epochs_done is not None and len(epochs) != self.epochs_done:
            self.left_out.append(
                f"losses over time: {self.files.reports / EPOCHS_FILE.name} has {len(epochs)} epochs, and the model "
                f"was trained for {self.epochs_done}: they are of another run, or of one that goes on"
            )
            return dict.fromkeys(tables)
        return tables

    def content(self, path: Path, command: str, kind: type) -> Any:  # noqa: ANN401
        """Return the content of a JSON file; None if it is missing."""
        file = self._file(path)
        if file is None:
            return None
        content = read_json(file)
        if not isinstance(content, kind):
            raise DataError(f"{file} is not what `{command}` writes: run it again")
        return content

    def answers(self) -> Mapping[str, Any] | None:
        """Return the answers after each epoch; None if they are missing."""
        content: Mapping[str, Any] | None = self.content(ANSWERS_FILE, "bertpipe train", dict)
        if content is not None and not {"questions", "epochs"} <= content.keys():
            raise DataError(f"{self._file(ANSWERS_FILE)} is not what `bertpipe train` writes: train again")
        return content

    def _table(self, path: Path, columns: Sequence[str]) -> "pd.DataFrame | None":
        file = self._file(path)
        return None if file is None else read_table(file, columns, may_lack=NEW_TIMING_COLUMNS)

    def _file(self, path: Path) -> Path | None:
        file = self.files.reports / path.name
        if file.is_file():
            return file
        self.left_out.append(self.files.reasons.get(path, f"{file} does not exist"))
        return None


def _locked(lock: Path | None) -> dict[str, Any]:
    """Return the params of all stages by `dvc.lock`; none without it, or if it cannot be read."""
    if lock is None or not lock.is_file():
        return {}
    try:
        stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8"))["stages"].values()
        return dict(pair for stage in stages for pair in _flat(stage.get("params", {}).get("params.yaml", {})))
    except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{lock} cannot be read ({first_line(error)}): run `dvc repro` again") from error


def _flat(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{below}", each) for below, each in _flat(value))
        else:
            yield name, value
