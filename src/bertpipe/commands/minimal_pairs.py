"""`evaluate --minimal-pairs`: which sentence of each pair a model finds more probable, beside simple predictors."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import TOKENIZER_NAME, file_sha256, require, split_path, write_json
from bertpipe.core.atomic import check_target_file
from bertpipe.core.errors import DataError, InputError, MissingInputError
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import RuntimeParams
from bertpipe.core.progress import Progress, ignore_note, ignore_progress
from bertpipe.core.stores.directories import fetched
from bertpipe.data.pair_dataset import PairFile
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.evaluation.baselines import token_counts
from bertpipe.evaluation.minimal_pairs import mean_log_frequencies, pair_figures, points
from bertpipe.inference.predictor import Predictor, ScoreQuestion, load_predictor
from bertpipe.model.device import set_up_cpu
from bertpipe.model.store import LoadedModel
from bertpipe.sources.minimal_pairs import (
    BAD_FIELD,
    GOOD_FIELD,
    MinimalPair,
    minimal_pair_files,
    read_minimal_pairs,
)

_PAIRS_AT_ONCE = 512
"""Pairs that are sorted by length together, between two reports."""
_NAMED = 3
"""Places that a note names."""


def run_minimal_pairs(
    runtime: RuntimeParams,
    *,
    pairs: Sequence[Path],
    group_by: str | None,
    model: str | Path,
    data: Path,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
    on_note: Callable[[str], None] = ignore_note,
) -> dict[str, Any]:
    """Write how often a model prefers the acceptable sentence of a pair to `out`, and return it, group by group.

    A sentence's score is its pseudo-log-likelihood: each token is masked in turn, together with the pieces of its word
    that follow it (Kauf and Ivanova 2023). Beside it stand two predictors that know no grammar: the shorter sentence,
    in tokens, and the one with the higher mean log frequency of its tokens in the training data.

    Args:
        runtime: the machine.
        pairs: files or folders, see `minimal_pair_files`.
        group_by: see `read_minimal_pairs`.
        model: see `load_any_model`.
        data: the model's training data, for the frequencies; without them a note says so.
        out: the JSON file.
        on_progress: gets reports of progress.
        on_note: gets notes for the user.

    Raises:
        MissingInputError: a file or the model is missing.
        DataError: see `read_minimal_pairs`; or a sentence holds a `[MASK]`, or no word.
        ModelError: the model cannot be read, has no trained MLM head, or its output is not finite.
        ParamsError: there is no such device.
        WriteError: `out` cannot be written.
    """
    check_target_file(out)
    files = minimal_pair_files(pairs)
    read = read_minimal_pairs(files, group_by=group_by)
    set_up_cpu(runtime.threads)
    predictor = load_predictor(str(model), device=runtime.device)
    predictor.model.require_head("mlm")
    on_progress(Progress(label="encoding pairs", completed=0, total=len(read), unit="pairs"))
    questions = [
        _question(predictor, sentence, f"{pair.place}: field {field!r}")
        for pair in read
        for field, sentence in ((GOOD_FIELD, pair.good), (BAD_FIELD, pair.bad))
    ]
    good, bad = questions[::2], questions[1::2]
    counts = _frequencies(predictor.model, data, on_note)
    facts = _facts(predictor, read, good, bad)
    for note in [*predictor.model.notes, *_notes(predictor, read, facts, good, bad)]:
        on_note(note)
    scores = _scores(predictor, questions, on_progress)
    ids = [question.token_ids for question in questions]
    frequency = None if counts is None else mean_log_frequencies(ids, counts)
    lengths = np.array([-len(each) for each in ids], dtype=np.float64)
    overall, groups = pair_figures(
        [pair.group for pair in read],
        {
            "model": points(scores[::2], scores[1::2]),
            "shorter_sentence": points(lengths[::2], lengths[1::2]),
            "frequent_words": None if frequency is None else points(frequency[::2], frequency[1::2]),
        },
    )
    report = {
        "model": predictor.name,
        "files": [{"file": shown(str(file)), "sha256": file_sha256(file)} for file in files],
        "group_by": group_by,
        **facts,
        "predictors": overall,
        "groups": groups,
    }
    write_json(out, report)
    return report


def _question(predictor: Predictor, sentence: str, what: str) -> ScoreQuestion:
    try:
        return predictor.ask_score(sentence, mask_rest_of_word=True)
    except InputError as error:
        raise DataError(f"{what}: {error}") from error


def _frequencies(model: LoadedModel, data: Path, on_note: Callable[[str], None]) -> NDArray[np.int64] | None:
    """Return how often each of the model's ids stands in the training split; None, with a note, without one."""
    try:
        data = fetched(data, by_ranges=True)
        tokenizer = load_tokenizer(require(data / TOKENIZER_NAME))
        difference = model.tokenizer_difference(tokenizer)
        if difference is None:
            train = PairFile(split_path(data, "train"))
            train.check(tokenizer.vocab_size)
            return token_counts(train, tokenizer)
        reason = f"{data} has another tokenizer than the model ({difference})"
    except MissingInputError as error:
        reason = str(error)
    on_note(f"no predictor by word frequency, for which --data names what the model was trained on: {reason}")
    return None


def _scores(
    predictor: Predictor, questions: Sequence[ScoreQuestion], on_progress: Callable[[Progress], None]
) -> NDArray[np.float64]:
    """Return the pseudo-log-likelihood of each sentence."""
    found: list[float] = []
    for first in range(0, len(questions), 2 * _PAIRS_AT_ONCE):
        answers = predictor.answer_scores(questions[first : first + 2 * _PAIRS_AT_ONCE])
        found += [answer.pseudo_log_likelihood for answer in answers]
        on_progress(Progress(label="scoring pairs", completed=len(found) // 2, total=len(questions) // 2, unit="pairs"))
    return np.array(found)


def _facts(
    predictor: Predictor, pairs: Sequence[MinimalPair], good: Sequence[ScoreQuestion], bad: Sequence[ScoreQuestion]
) -> dict[str, Any]:
    unknown = predictor.tokenizer.unknown_id
    counts = [
        one.token_ids.count(unknown) + other.token_ids.count(unknown) for one, other in zip(good, bad, strict=True)
    ]
    return {
        "pairs": len(pairs),
        "tokens": sum(len(question.token_ids) for question in (*good, *bad)),
        "unknown_tokens": sum(counts),
        "pairs_with_unknown_tokens": sum(map(bool, counts)),
        "pairs_of_equal_tokens": sum(one.token_ids == other.token_ids for one, other in zip(good, bad, strict=True)),
    }


def _notes(
    predictor: Predictor,
    pairs: Sequence[MinimalPair],
    facts: dict[str, Any],
    good: Sequence[ScoreQuestion],
    bad: Sequence[ScoreQuestion],
) -> list[str]:
    """Return what the user should know of how the model reads these sentences."""
    notes: list[str] = []
    if not predictor.tokenizer.has_words:
        notes += predictor.tokenizer.warnings()
    elif facts["unknown_tokens"]:
        notes.append(
            f"{facts['pairs_with_unknown_tokens']:,} of {facts['pairs']:,} pairs have words that are not in the "
            f"vocabulary: {facts['unknown_tokens']:,} tokens are read as the unknown word"
        )
    if facts["pairs_of_equal_tokens"]:
        notes.append(
            f"{facts['pairs_of_equal_tokens']:,} of {facts['pairs']:,} pairs have two sentences of the same tokens for "
            "the model: it cannot tell them apart, and each counts half"
        )
    limit = predictor.max_positions - 2
    long = [
        pair.place
        for pair, *both in zip(pairs, good, bad, strict=True)
        if max(len(question.token_ids) for question in both) > limit
    ]
    if long:
        more = f" and {len(long) - _NAMED:,} more" if len(long) > _NAMED else ""
        notes.append(
            f"the model reads {predictor.max_positions} tokens at most: each token of a longer sentence is scored with "
            f"the {limit} around it, at {', '.join(long[:_NAMED])}{more}"
        )
    return notes
