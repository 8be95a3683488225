"""Questions to one model in words: each is read first, where it may be refused, and then answered with others.

Shapes in this file: vocab, hidden, and masks (the `[MASK]` tokens of all questions).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bertpipe.core.errors import InputError, ModelError
from bertpipe.data.tokenization.encoder import truncate_longest_first
from bertpipe.data.tokenization.model_tokenizer import MASK, Encoded, Vocabulary
from bertpipe.data.tokenization.tokenizer import is_unknown_token
from bertpipe.inference.answers import Candidate, EmbeddingAnswer, MaskAnswer, MlmAnswer, NspAnswer, ScoreAnswer
from bertpipe.inference.engine import Row, all_states, states_at
from bertpipe.model.bert import Bert, mean_pool
from bertpipe.model.device import pick_device
from bertpipe.model.loading import LoadedModel, load_any_model

_MOST_LOGITS = 2**20
"""Numbers that the vocabulary's logits may have at a time."""
_MOST_SCORE_ROWS = 4096
"""Rows of scored texts in memory at a time: a long text has as many as it has tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NspQuestion:
    """Two sentences, ready to be read by the network."""

    row: Row
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmQuestion:
    """A text with `[MASK]` in it, ready to be read by the network."""

    row: Row
    encoded: Encoded
    masked: tuple[int, ...]
    """Which of the text's tokens are masks."""
    top_k: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuestion:
    """A text, which is read once for each of its tokens, masked there."""

    token_ids: tuple[int, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingQuestion:
    """A text, ready to be read by the network."""

    row: Row
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model with its vocabulary, ready for questions; the same questions get the same answers."""

    model: LoadedModel

    @property
    def name(self) -> str:
        """The directory or hub name of the model."""
        return self.model.name

    @property
    def bert(self) -> Bert:
        """The network."""
        return self.model.bert

    @property
    def vocabulary(self) -> Vocabulary:
        """Its vocabulary."""
        return self.model.vocabulary

    @property
    def max_positions(self) -> int:
        """Longest input in tokens."""
        return self.bert.params.max_positions

    def next_sentence(self, first: str, second: str) -> NspAnswer:
        """Return the answer to one question; see `ask_nsp`."""
        return self.answer_nsp([self.ask_nsp(first, second)])[0]

    def fill_masks(self, text: str, top_k: int) -> MlmAnswer:
        """Return the answer to one question; see `ask_mlm`."""
        return self.answer_mlm([self.ask_mlm(text, top_k)])[0]

    def score(self, text: str) -> ScoreAnswer:
        """Return the answer to one question; see `ask_score`."""
        return self.answer_scores([self.ask_score(text)])[0]

    def embed(self, text: str) -> EmbeddingAnswer:
        """Return the answer to one question; see `ask_embedding`."""
        return self.answer_embeddings([self.ask_embedding(text)])[0]

    def ask_nsp(self, first: str, second: str) -> NspQuestion:
        """Return the question whether `second` follows `first`; what is too long for the model is cut, with a warning.

        Raises:
            InputError: a sentence is empty.
            ModelError: the model has no NSP head.
        """
        self.model.require_head("nsp")
        one = self.vocabulary.encode(first, "the first sentence")
        two = self.vocabulary.encode(second, "the second sentence")
        kept = [int(length) for length in truncate_longest_first(len(one.ids), len(two.ids), self.max_positions - 3)]
        sep = self.vocabulary.sep_id
        ids = (self.vocabulary.cls_id, *one.ids[: kept[0]], sep, *two.ids[: kept[1]], sep)
        cuts = ((one, kept[0], "the first sentence"), (two, kept[1], "the second sentence"))
        warnings = (
            *self.vocabulary.warnings(one, two),
            *(self._cut(text, left, name) for text, left, name in cuts if left < len(text.ids)),
        )
        return NspQuestion(row=Row(token_ids=ids, second_segment_start=kept[0] + 2), warnings=warnings)

    def ask_mlm(self, text: str, top_k: int) -> MlmQuestion:
        """Return the question for the `top_k` most probable tokens of each `[MASK]`; all, if there are fewer.

        Raises:
            InputError: the text is empty, has no `[MASK]`, or is too long to be read with all of them.
            ModelError: the model has no MLM head.
        """
        self.model.require_head("mlm")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: ask for 1 candidate or more")
        encoded = self.vocabulary.encode(text, "the text")
        masked = tuple(index for index, token_id in enumerate(encoded.ids) if token_id == self.vocabulary.mask_id)
        if not masked:
            capitals = ", in capitals" if MASK.lower() in text.lower() else ""
            raise InputError(f"there is no {MASK} in {text!r}: write {MASK}{capitals} where a word is to be found")
        start, end = _window(len(encoded.ids), masked, self.max_positions - 2)
        warnings = list(self.vocabulary.warnings(encoded))
        if len(masked) > 1:
            warnings.append(f"each of the {len(masked)} {MASK} is answered by itself: the words need not fit together")
        if end - start < len(encoded.ids):
            warnings.append(
                f"the model reads {self.max_positions} tokens at most: "
                f"of {len(encoded.ids)} tokens it read numbers {start + 1} to {end}, which hold every {MASK}"
            )
        row = self._row(encoded.ids[start:end], positions=tuple(index - start + 1 for index in masked))
        return MlmQuestion(row=row, encoded=encoded, masked=masked, top_k=top_k, warnings=tuple(warnings))

    def ask_score(self, text: str) -> ScoreQuestion:
        """Return the question how probable a text is to the model, token by token.

        A text too long for the model is read in windows, each around the token that is asked.

        Raises:
            InputError: the text is empty, or has a `[MASK]`.
            ModelError: the model has no MLM head.
        """
        self.model.require_head("mlm")
        encoded = self.vocabulary.encode(text, "the text")
        mask = self.vocabulary.mask_id
        if mask in encoded.ids:
            raise InputError(f"there is a {MASK} in {text!r}: a score is of a whole text; `infer mlm` fills masks")
        room = self.max_positions - 2
        warnings = list(self.vocabulary.warnings(encoded))
        if len(encoded.ids) > room:
            warnings.append(
                f"the model reads {self.max_positions} tokens at most: each of the {len(encoded.ids)} tokens is scored "
                f"among the {room} around it"
            )
        return ScoreQuestion(token_ids=encoded.ids, warnings=tuple(warnings))

    def ask_embedding(self, text: str) -> EmbeddingQuestion:
        """Return the question for a text's vector; what is too long for the model is cut, with a warning.

        Raises:
            InputError: the text is empty.
        """
        encoded = self.vocabulary.encode(text, "the text")
        kept = min(len(encoded.ids), self.max_positions - 2)
        warnings = list(self.vocabulary.warnings(encoded))
        if kept < len(encoded.ids):
            warnings.append(self._cut(encoded, kept, "the text"))
        return EmbeddingQuestion(row=self._row(encoded.ids[:kept], positions=(0,)), warnings=tuple(warnings))

    def answer_nsp(self, questions: Sequence[NspQuestion]) -> list[NspAnswer]:
        """Return the answers, in the order of the questions.

        Raises:
            ModelError: the model answers with what is no number.
        """
        logits = torch.empty(len(questions), 2, dtype=torch.float64)
        for chosen, states in states_at(self.bert, [question.row for question in questions]):
            logits[chosen] = self._checked(self.bert.nsp_logits(states[:, None])).double().cpu()
        return [
            NspAnswer(probability_next=is_next, probability_not_next=not_next, warnings=question.warnings)
            for question, (not_next, is_next) in zip(questions, logits.softmax(dim=-1).tolist(), strict=True)
        ]

    def answer_mlm(self, questions: Sequence[MlmQuestion]) -> list[MlmAnswer]:
        """Return the answers, in the order of the questions.

        Raises:
            ModelError: the model answers with what is no number.
        """
        found: list[list[tuple[Candidate, ...]]] = [[] for _ in questions]
        for chosen, states in states_at(self.bert, [question.row for question in questions]):
            owners = iter([index for index in chosen for _ in questions[index].masked])
            for logits in self._vocabulary_logits(states):
                for one, index in zip(logits, owners, strict=False):  # owners first would lose one
                    found[index].append(self._candidates(one, questions[index].top_k))
        return [self._mlm_answer(question, masks) for question, masks in zip(questions, found, strict=True)]

    def answer_scores(self, questions: Sequence[ScoreQuestion]) -> list[ScoreAnswer]:
        """Return the answers, in the order of the questions.

        Raises:
            ModelError: the model answers with what is no number.
        """
        rows = (row for question in questions for row in self._masked_rows(question.token_ids))
        targets = torch.tensor([token_id for question in questions for token_id in question.token_ids])
        values = torch.empty(len(targets), dtype=torch.float64)
        first = 0
        while some := list(islice(rows, _MOST_SCORE_ROWS)):
            for chosen, states in states_at(self.bert, some):
                places = torch.from_numpy(chosen + first)
                for part, logits in zip(
                    torch.split(places, self._logits_at_once), self._vocabulary_logits(states), strict=True
                ):
                    wanted = logits.gather(1, targets[part].to(logits.device)[:, None])[:, 0]
                    values[part] = (wanted - logits.logsumexp(dim=1)).cpu()
            first += len(some)
        ends = np.cumsum([len(question.token_ids) for question in questions]).tolist()
        return [
            ScoreAnswer(
                tokens=tuple(self.vocabulary.token(token_id) for token_id in question.token_ids),
                log_probabilities=tuple(values[end - len(question.token_ids) : end].tolist()),
                warnings=question.warnings,
            )
            for question, end in zip(questions, ends, strict=True)
        ]

    def answer_embeddings(self, questions: Sequence[EmbeddingQuestion]) -> list[EmbeddingAnswer]:
        """Return the answers, in the order of the questions.

        Raises:
            ModelError: the model answers with what is no number.
        """
        vectors = np.empty((len(questions), self.bert.params.embedding_dim), dtype=np.float32)
        for chosen, states, lengths in all_states(self.bert, [question.row for question in questions]):
            vectors[chosen] = self._checked(mean_pool(states, lengths)).cpu().numpy()
        return [
            EmbeddingAnswer(vector=vector, warnings=question.warnings)
            for vector, question in zip(vectors, questions, strict=True)
        ]

    @property
    def _logits_at_once(self) -> int:
        return max(_MOST_LOGITS // self.bert.vocab_size, 1)

    def _masked_rows(self, token_ids: Sequence[int]) -> Iterator[Row]:
        """Yield what the network reads for each token of a text in turn."""
        for index in range(len(token_ids)):
            start, end = _window(len(token_ids), (index,), self.max_positions - 2)
            ids = (*token_ids[start:index], self.vocabulary.mask_id, *token_ids[index + 1 : end])
            yield self._row(ids, positions=(index - start + 1,))

    def _row(self, ids: Sequence[int], *, positions: tuple[int, ...]) -> Row:
        """Return `[CLS] ids [SEP]`."""
        token_ids = (self.vocabulary.cls_id, *ids, self.vocabulary.sep_id)
        return Row(token_ids=token_ids, second_segment_start=len(token_ids), positions=positions)

    def _cut(self, text: Encoded, left: int, name: str) -> str:
        """Return the warning that only `left` tokens of a text are read."""
        return (
            f"the model reads {self.max_positions} tokens at most: "
            f"the last {len(text.ids) - left} of {name}'s {len(text.ids)} tokens were left out"
        )

    def _checked(self, numbers: Tensor) -> Tensor:
        """Return what the model answers, if it is numbers."""
        if not bool(numbers.isfinite().all()):
            raise ModelError(
                f"{self.name} answers with what is no number: its weights are damaged or too large; "
                f"train it again with a lower train.learning_rate, or ask another model"
            )
        return numbers

    def _vocabulary_logits(self, states: Tensor) -> Iterator[Tensor]:
        """Yield the logits [masks, vocab] of states [masks, hidden] in float64, some masks at a time."""
        for part in torch.split(states, self._logits_at_once):
            with torch.inference_mode():
                logits = self.bert.mlm_logits(part)
            yield self._checked(logits).double()

    def _mlm_answer(self, question: MlmQuestion, found: Sequence[tuple[Candidate, ...]]) -> MlmAnswer:
        masks = tuple(
            MaskAnswer(position=index + 1, candidates=candidates)
            for index, candidates in zip(question.masked, found, strict=True)
        )
        warnings = question.warnings
        if any(is_unknown_token(c.token) for mask in masks for c in mask.candidates) and self.vocabulary.has_words:
            warnings = (*warnings, "a candidate [unknown-ID] is an id that has no word in this model's vocabulary")
        best = [mask.candidates[0].token for mask in masks]
        filled = _fill(question.encoded, question.masked, best, self.vocabulary.continuation_prefix)
        return MlmAnswer(masks=masks, filled_text=filled, warnings=warnings)

    def _candidates(self, logits: Tensor, top_k: int) -> tuple[Candidate, ...]:
        """Return the best tokens of logits [vocab]; of equals, the smaller id first."""
        least = logits.topk(min(top_k, len(logits))).values[-1]
        ids = torch.nonzero(logits >= least)[:, 0]  # more than top_k where some are equal
        ids = ids[logits[ids].sort(descending=True, stable=True).indices][:top_k]
        probabilities = (logits[ids] - logits.logsumexp(dim=0)).exp()
        return tuple(
            Candidate(token=self.vocabulary.token(token_id), token_id=token_id, probability=probability)
            for token_id, probability in zip(ids.tolist(), probabilities.tolist(), strict=True)
        )


def load_predictor(model: str, *, device: str = "auto") -> Predictor:
    """Return the predictor of a model directory of ours, a Hugging Face directory, or a hub name.

    Args:
        model: the directory or name; see `load_any_model`.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        MissingInputError: a local directory is not there.
        ModelError: the model cannot be read.
        ParamsError: the device is not there.
    """
    target = pick_device(device)
    loaded = load_any_model(model)
    loaded.bert.to(target)
    return Predictor(model=loaded)


def _window(length: int, masked: Sequence[int], room: int) -> tuple[int, int]:
    """Return which of `length` tokens the model reads: all if they fit, else `room` of them around the masks.

    Raises:
        InputError: the masks stand too far apart.
    """
    if length <= room:
        return 0, length
    span = masked[-1] + 1 - masked[0]
    if span > room:
        raise InputError(
            f"from the first to the last {MASK} there are {span} tokens, and the model reads {room} at most: "
            f"ask about fewer masks at a time"
        )
    start = min(max(masked[0] - (room - span) // 2, 0), length - room)
    return start, start + room


def _fill(encoded: Encoded, masked: Sequence[int], tokens: Sequence[str], continuation_prefix: str) -> str:
    """Return the text with its masks replaced; a token that continues a word joins the text before it."""
    filled, done = "", 0
    for index, token in zip(masked, tokens, strict=True):
        start, end = encoded.spans[index]
        marker = encoded.text[start:end]  # some tokenizers count white space beside the mask to it
        start += len(marker) - len(marker.lstrip())
        end -= len(marker) - len(marker.rstrip())
        filled += encoded.text[done:start]
        if continuation_prefix and token.startswith(continuation_prefix):
            filled = filled.rstrip()
            token = token.removeprefix(continuation_prefix)  # noqa: PLW2901
        filled += token
        done = end
    return filled + encoded.text[done:]
