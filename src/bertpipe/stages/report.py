"""`report`: a run as one page that opens in any browser, without a network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import (
    CONFIG_NAME,
    EPOCHS_COLUMNS,
    HISTORY_COLUMNS,
    NEW_TIMING_COLUMNS,
    SPLITS,
    SUMMARY_NAME,
    TIMING_COLUMNS,
    TOKENIZER_NAME,
    read_json,
    read_table,
    require,
    split_path,
)
from bertpipe.core.errors import DataError, InputError, MissingInputError, ModelError
from bertpipe.core.params import EvaluateParams, RuntimeParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.stores.directories import fetched
from bertpipe.data.pair_dataset import PairFile
from bertpipe.data.tokenization.tokenizer import Tokenizer, load_tokenizer
from bertpipe.evaluation.baselines import token_counts
from bertpipe.evaluation.breakdown import guesses, row_at
from bertpipe.inference.attention import attention_of
from bertpipe.inference.engine import Row
from bertpipe.inference.predictor import Predictor
from bertpipe.inference.words import whole_words
from bertpipe.model.device import pick_device, set_up_cpu
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import LoadedModel, is_own_model
from bertpipe.report.behaviour import WordVectors, attention_section, mistakes_section, words_section
from bertpipe.report.content import Section, sentences_of
from bertpipe.report.learning import learning_section
from bertpipe.report.page import check_page_file, page, write_page
from bertpipe.report.run import again_section, curves_section, data_section, examples_section

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_ROWS = 4
_ATTENTION_INPUTS = 4
_MOST_ATTENTION_TOKENS = 40
_MOST_WEIGHTS = 350_000
"""Attention weights on the page, of two to three bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    """The data set that the model was trained on, or can be measured on."""

    summary: Mapping[str, Any]
    train: PairFile
    test: PairFile
    tokenizer: Tokenizer


def run_report(
    evaluation: EvaluateParams,
    runtime: RuntimeParams,
    *,
    model: str | Path,
    data: Path,
    history: Path | None,
    epochs: Path | None,
    timing: Path | None,
    metrics: Path | None,
    examples: Path | None,
    answers: Path | None,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Write the page of a run to `out`, and return where it is and what it lacks.

    What is missing is left out, and the page says why; None leaves it out as not being the model's.

    Args:
        evaluation: the rows per forward pass.
        runtime: the device, and its threads.
        model: as `load_any_model` takes it.
        data: the directory of the data.
        history: `history.csv` of the run.
        epochs: `epochs.csv` of the run.
        timing: `timing.csv` of the run.
        metrics: the file that `bertpipe evaluate` wrote.
        examples: the file that `bertpipe infer examples` wrote.
        answers: the file of answers after each epoch that `bertpipe train` wrote.
        out: the page.
        on_progress: gets a report for each part.
        on_note: gets a note on each part that was left out.

    Raises:
        MissingInputError: there is no such model.
        ModelError: it cannot be read.
        DataError: a file is damaged, or not what the command writes that makes it.
        WriteError: `out` cannot be written, or is another file than a page of ours.
    """
    check_page_file(out)
    on_progress(Progress(label="reading the model", completed=0, total=None, unit="parts"))
    loaded = load_any_model(model)
    set_up_cpu(runtime.threads)
    loaded.bert.to(pick_device(runtime.device))
    config = read_json(loaded.directory / CONFIG_NAME) if is_own_model(loaded.directory) else {}
    asked = _examples(examples)
    course = _Course(left_out=[])
    tables = (
        course.table(history, HISTORY_COLUMNS, "losses and learning rate of the steps"),
        course.table(epochs, EPOCHS_COLUMNS, "losses and accuracies after each epoch"),
        course.table(timing, TIMING_COLUMNS, "the throughput"),
    )
    with _written_by("bertpipe evaluate", metrics or Path()):
        curves = curves_section(*tables, course.metrics(metrics))
    curves.left_out.extend(course.left_out)
    known, reason = None, ""
    try:
        data = fetched(data, by_ranges=True)
        known = _data(loaded, data, config.get("facts", {}))
    except MissingInputError as error:
        reason = f"rows, and the figures on them: {error}"
    counts = None if known is None else token_counts(known.train, known.tokenizer)
    on_progress(Progress(label="asking the model", completed=0, total=None, unit="parts"))
    with _written_by("bertpipe convert", data / SUMMARY_NAME):
        about_data = data_section(None if known is None else known.summary, [] if known is None else list(_rows(known)))
    about_mistakes = _mistakes(loaded, known, counts, evaluation)
    for section in (about_data, about_mistakes):
        section.left_out.extend([reason] if reason else [])
    with _written_by("bertpipe infer examples", examples or Path()):
        about_examples = examples_section(asked)
    if asked is None:
        about_examples.left_out.append(_absent(examples, "bertpipe infer examples", "the showcase"))
    with _written_by("bertpipe train", answers or Path()):
        learned = read_json(answers) if answers is not None and answers.exists() else None
        over_time = learning_section(learned, loaded.tokenizer.tokenizer)
    if learned is None:
        over_time.left_out.append(_absent(answers, "bertpipe train", "the answers after each epoch"))
    sections = [
        about_data,
        curves,
        over_time,
        again_section(loaded.name, config.get("facts", {}), _sizes(loaded), config.get("sha256", {})),
        about_examples,
        about_mistakes,
        _attention(loaded, asked or (), known),
        words_section(_vectors(loaded, counts)),
    ]
    on_progress(Progress(label="writing the page", completed=0, total=None, unit="parts"))
    text = page(f"Report on {loaded.name}", _subtitle(loaded), sections)
    return write_page(out, text, sections, on_note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """Reads the tables of a run, and remembers which are missing."""

    left_out: list[str]

    def table(self, path: Path | None, columns: Sequence[str], what: str) -> "pd.DataFrame | None":
        """Return a table that `bertpipe train` wrote; None without the file."""
        if path is not None and path.exists():
            return read_table(path, columns, may_lack=NEW_TIMING_COLUMNS)
        self.left_out.append(_absent(path, "bertpipe train", what))
        return None

    def metrics(self, path: Path | None) -> Mapping[str, Any]:
        """Return the figures on the test split by task; none without the file."""
        if path is None or not path.exists():
            self.left_out.append(_absent(path, "bertpipe evaluate", "the figures on the test split and of predictors"))
            return {}
        content = read_json(path)
        return {task: dict(content[task]) for task in ("mlm", "nsp")}


def _absent(path: Path | None, command: str, what: str) -> str:
    if path is None:
        return f"{what}: the files at the default places are another model's; name this one's"
    return f"{what}: {path} does not exist; `{command}` writes it."


def _examples(path: Path | None) -> Sequence[Mapping[str, Any]] | None:
    """Return the answers to the examples; None without the file."""
    if path is None or not path.exists():
        return None
    rows: Sequence[Mapping[str, Any]] = read_json(path)
    return rows


def _data(loaded: LoadedModel, data: Path, facts: Mapping[str, Any]) -> _Data:
    """Return the model's data.

    Raises:
        MissingInputError: they are missing, or others are there, or the model cannot read them.
    """
    path = require(data / SUMMARY_NAME)
    summary = read_json(path)
    with _written_by("bertpipe convert", path):
        found = dict(summary["sha256"])
    if not facts.get("data_sha256", {}).items() <= found.items():
        raise MissingInputError(f"the model was not trained on what is now in {data}")
    tokenizer = load_tokenizer(require(data / TOKENIZER_NAME))
    difference = loaded.tokenizer_difference(tokenizer)
    if difference is not None:
        raise MissingInputError(f"the model has another tokenizer than {data} ({difference})")
    train, test = (PairFile(split_path(data, split)) for split in SPLITS)
    for split in (train, test):
        split.check(tokenizer.vocab_size)
    longest, room = int(test.lengths.max(initial=0)), loaded.bert.params.max_positions
    if longest > room:
        raise MissingInputError(f"{data} has rows of {longest} tokens, and the model reads {room} at most")
    return _Data(summary=summary, train=train, test=test, tokenizer=tokenizer)


@contextmanager
def _written_by(command: str, path: Path) -> Iterator[None]:
    """Say of content that is not what a command writes where it is from."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not what `{command}` writes ({error!r}): run it again") from error


def _rows(data: _Data) -> Iterator[tuple[bool, Any]]:
    """Yield the first training rows of each class, as many of one as of the other if there are."""
    first = data.train.read(np.array([0]))
    for is_next in (True, False):
        for number in np.flatnonzero(first.is_next == is_next)[: _SHOWN_ROWS // 2].tolist():
            yield is_next, sentences_of(row_at(data.train, number), data.tokenizer)


def _mistakes(
    loaded: LoadedModel,
    data: _Data | None,
    counts: NDArray[np.int64] | None,
    evaluation: EvaluateParams,
) -> Section:
    heads = [head for head in ("mlm", "nsp") if head not in loaded.missing_heads]
    if data is None or counts is None or not heads:
        section = Section(name="mistakes", title="Where it is right and wrong")
        if not heads:
            section.left_out.append("the model has neither head that answers.")
        return section
    device = loaded.bert.embeddings.token.weight.device
    tokens, verdicts = guesses(loaded.bert, data.test, batch_size=evaluation.batch_size, device=device)
    return mistakes_section(tokens, verdicts, test=data.test, tokenizer=data.tokenizer, counts=counts, heads=heads)


def _attention(loaded: LoadedModel, examples: Sequence[Mapping[str, Any]], data: _Data | None) -> Section:
    """Return the attention on questions of the showcase, and on rows of the test split where there are too few."""
    inputs, maps, weights = {}, [], 0
    size = loaded.bert.params.layers * loaded.bert.params.heads
    for name, row in _inputs(loaded, examples, data):
        length = len(row.token_ids)
        if length > _MOST_ATTENTION_TOKENS or weights + size * length**2 > _MOST_WEIGHTS or name in inputs:
            continue
        weights += size * length**2
        inputs[name] = [loaded.tokenizer.token(token_id) for token_id in row.token_ids]
        maps.append(attention_of(loaded.bert, row))
        if len(inputs) == _ATTENTION_INPUTS:
            break
    section = attention_section(inputs, maps, loaded.tokenizer.token(loaded.tokenizer.sep_id))
    if not inputs:
        section.left_out.append("attention: there is no question and no row that is short enough to show.")
    return section


def _inputs(
    loaded: LoadedModel, examples: Sequence[Mapping[str, Any]], data: _Data | None
) -> Iterator[tuple[str, Row]]:
    """Yield names and rows of what the model can be asked."""
    predictor = Predictor(model=loaded)
    for example in examples:
        inputs = example["inputs"]
        try:
            if example["task"] == "mlm":
                yield inputs["text"], predictor.ask_embedding(inputs["text"]).row
            else:
                first, second = inputs["first"], inputs["second"]
                yield f"{first} | {second}", predictor.ask_nsp(first, second).row
        except (InputError, ModelError):  # a question for another model
            continue
    if data is not None:
        for number in range(min(data.test.layout.rows, 20 * _ATTENTION_INPUTS)):
            one = row_at(data.test, number)
            ids = one.token_ids.copy()
            ids[one.masked_positions] = one.masked_inputs
            encoded = Row(token_ids=tuple(ids.tolist()), second_segment_start=int(one.second_segment_start[0]))
            yield f"row {number} of the test split", encoded


def _vectors(loaded: LoadedModel, counts: NDArray[np.int64] | None) -> WordVectors:
    tokenizer = loaded.tokenizer.tokenizer
    words = whole_words(tokenizer, counts)
    vectors = loaded.bert.embeddings.token.weight.detach().double().cpu().numpy()
    words = {token_id: word for token_id, word in words.items() if token_id < len(vectors)}
    return WordVectors(words=list(words.values()), vectors=vectors[list(words)], by_frequency=counts is not None)


def _sizes(loaded: LoadedModel) -> dict[str, Any]:
    params = loaded.bert.params
    return {
        "architecture": params.architecture,
        "parameters": sum(parameter.numel() for parameter in loaded.bert.parameters()),
        "layers": params.layers,
        "heads": params.heads,
        "hidden size": params.embedding_dim,
        "feed-forward size": params.feed_forward_dim,
        "longest input, in tokens": params.max_positions,
        "vocabulary": loaded.bert.vocab_size,
        "tokenizer": type(loaded.tokenizer.backend.model).__name__,
    }


def _subtitle(loaded: LoadedModel) -> str:
    sizes = _sizes(loaded)
    return (
        f"{sizes['architecture']}, {sizes['parameters']:,} parameters, {sizes['layers']} layers of {sizes['heads']} "
        f"heads, {sizes['vocabulary']:,} tokens in the vocabulary"
    )
