"""Questions to one model: each is first encoded, which may fail, and then answered together with others.

Shapes in this file: vocab, hidden, and masks (the `[MASK]` tokens of all questions).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from bertpipe.core.errors import InputError, ModelError, excerpt
from bertpipe.data.tokenization.encoder import truncate_longest_first
from bertpipe.data.tokenization.model_tokenizer import MASK, Encoding, ModelTokenizer
from bertpipe.data.tokenization.pieces import Pieces
from bertpipe.data.tokenization.tokenizer import is_unknown_token
from bertpipe.inference.answers import Candidate, EmbeddingAnswer, MaskAnswer, MlmAnswer, NspAnswer, ScoreAnswer
from bertpipe.inference.engine import Row, all_states, states_at
from bertpipe.model.bert import Bert, mean_pool
from bertpipe.model.device import pick_device
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import LoadedModel

_MAX_LOGITS = 2**20
"""Logits computed at a time."""
_MAX_SCORE_ROWS = 4096
"""Rows of scored texts in memory at a time: a text has one per token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuestion:
    """Two encoded sentences, or an encoded text."""

    row: Row
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmQuestion:
    """An encoded text with `[MASK]` in it."""

    row: Row
    encoded: Encoding
    masked: tuple[int, ...]
    """Which of the text's tokens are masks."""
    top_k: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuestion:
    """An encoded text, which is read once for each of its tokens, with that token masked."""

    token_ids: tuple[int, ...]
    masked_ends: tuple[int, ...]
    """For each token, the end of what is masked with it; the token after it if that is the token alone."""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A model that answers questions; the same questions get the same answers."""

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
    def tokenizer(self) -> ModelTokenizer:
        """Its tokenizer."""
        return self.model.tokenizer

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

    def ask_nsp(self, first: str, second: str) -> RowQuestion:
        """Return the question whether `second` follows `first`; too long sentences are cut, with a warning.

        Raises:
            InputError: a sentence is empty.
            ModelError: the model has no NSP head.
        """
        self.model.require_head("nsp")
        one = self.tokenizer.encode(first, "the first sentence")
        two = self.tokenizer.encode(second, "the second sentence")
        kept = [int(length) for length in truncate_longest_first(len(one.ids), len(two.ids), self.max_positions - 3)]
        sep = self.tokenizer.sep_id
        ids = (self.tokenizer.cls_id, *one.ids[: kept[0]], sep, *two.ids[: kept[1]], sep)
        cuts = ((one, kept[0], "the first sentence"), (two, kept[1], "the second sentence"))
        warnings = (
            *self.tokenizer.warnings(one, two),
            *(self._cut(text, left, name) for text, left, name in cuts if left < len(text.ids)),
        )
        return RowQuestion(row=Row(token_ids=ids, second_segment_start=kept[0] + 2), warnings=warnings)

    def ask_mlm(self, text: str, top_k: int) -> MlmQuestion:
        """Return the question for the `top_k` most probable tokens of each `[MASK]`; for all tokens if there are fewer.

        Raises:
            InputError: the text is empty, has no `[MASK]`, or its masks do not fit in the model together.
            ModelError: the model has no MLM head.
        """
        self.model.require_head("mlm")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: ask for 1 candidate or more")
        encoded = self.tokenizer.encode(text, "the text")
        masked = tuple(index for index, token_id in enumerate(encoded.ids) if token_id == self.tokenizer.mask_id)
        if not masked:
            capitals = ", in capitals," if MASK.lower() in text.lower() else ""
            raise InputError(f"there is no {MASK} in {excerpt(text)}: write {MASK}{capitals} where you want a word")
        start, end = _window(len(encoded.ids), masked, self.max_positions - 2)
        warnings = list(self.tokenizer.warnings(encoded))
        if len(masked) > 1:
            warnings.append(f"each of the {len(masked)} {MASK} is filled on its own: the words may not fit together")
        if end - start < len(encoded.ids):
            warnings.append(
                f"the model reads {self.max_positions} tokens at most: "
                f"of {len(encoded.ids)} tokens it read numbers {start + 1} to {end}, with every {MASK}"
            )
        row = self._row(encoded.ids[start:end], positions=tuple(index - start + 1 for index in masked))
        return MlmQuestion(row=row, encoded=encoded, masked=masked, top_k=top_k, warnings=tuple(warnings))

    def ask_score(self, text: str, *, mask_rest_of_word: bool = False) -> ScoreQuestion:
        """Return the question how probable the model finds a text, token by token.

        A text too long for the model is read in windows, each around the token that is scored. Each token is masked
        alone (Salazar et al. 2020), or with the pieces of its word that follow (Kauf and Ivanova 2023, PLL-word-l2r):
        those would give it away, so that rare words of several pieces would get too high a score.

        Raises:
            InputError: the text is empty, or has a `[MASK]`.
            ModelError: the model has no MLM head.
        """
        self.model.require_head("mlm")
        encoded = self.tokenizer.encode(text, "the text")
        mask = self.tokenizer.mask_id
        if mask in encoded.ids:
            raise InputError(
                f"there is a {MASK} in {excerpt(text)}: a score needs a text without masks; `infer mlm` fills them"
            )
        limit = self.max_positions - 2
        warnings = list(self.tokenizer.warnings(encoded))
        if len(encoded.ids) > limit:
            warnings.append(
                f"the model reads {self.max_positions} tokens at most: each of the {len(encoded.ids)} tokens is scored "
                f"with the {limit} around it"
            )
        ends = self._word_ends(encoded.ids) if mask_rest_of_word else range(1, len(encoded.ids) + 1)
        return ScoreQuestion(token_ids=encoded.ids, masked_ends=tuple(ends), warnings=tuple(warnings))

    def ask_embedding(self, text: str) -> RowQuestion:
        """Return the question for a text's vector; a too long text is cut, with a warning.

        Raises:
            InputError: the text is empty.
        """
        encoded = self.tokenizer.encode(text, "the text")
        kept = min(len(encoded.ids), self.max_positions - 2)
        warnings = list(self.tokenizer.warnings(encoded))
        if kept < len(encoded.ids):
            warnings.append(self._cut(encoded, kept, "the text"))
        return RowQuestion(row=self._row(encoded.ids[:kept], positions=(0,)), warnings=tuple(warnings))

    def answer_nsp(self, questions: Sequence[RowQuestion]) -> list[NspAnswer]:
        """Return the answers, in the order of the questions; ModelError if the output is not finite."""
        logits = torch.empty(len(questions), 2, dtype=torch.float64)
        for chosen, states in states_at(self.bert, [question.row for question in questions]):
            logits[chosen] = self._checked(self.bert.nsp_logits(states[:, None])).double().cpu()
        return [
            NspAnswer(probability_next=is_next, probability_not_next=not_next, warnings=question.warnings)
            for question, (not_next, is_next) in zip(questions, logits.softmax(dim=-1).tolist(), strict=True)
        ]

    def answer_mlm(self, questions: Sequence[MlmQuestion]) -> list[MlmAnswer]:
        """Return the answers, in the order of the questions; ModelError if the output is not finite."""
        found: list[list[tuple[Candidate, ...]]] = [[] for _ in questions]
        for chosen, states in states_at(self.bert, [question.row for question in questions]):
            owners = iter([index for index in chosen for _ in questions[index].masked])
            for logits in self._vocabulary_logits(states):
                for one, index in zip(logits, owners, strict=False):  # with owners first, zip would drop one
                    found[index].append(self._candidates(one, questions[index].top_k))
        return [self._mlm_answer(question, masks) for question, masks in zip(questions, found, strict=True)]

    def answer_scores(self, questions: Sequence[ScoreQuestion]) -> list[ScoreAnswer]:
        """Return the answers, in the order of the questions; ModelError if the output is not finite."""
        rows = (row for question in questions for row in self._masked_rows(question))
        targets = torch.tensor([token_id for question in questions for token_id in question.token_ids])
        values = torch.empty(len(targets), dtype=torch.float64)
        first = 0
        while some := list(islice(rows, _MAX_SCORE_ROWS)):
            for chosen, states in states_at(self.bert, some):
                places = torch.from_numpy(chosen + first)
                for part, logits in zip(
                    torch.split(places, self._logits_at_once), self._vocabulary_logits(states), strict=True
                ):
                    target = logits.gather(1, targets[part].to(logits.device)[:, None])[:, 0]
                    values[part] = (target - logits.logsumexp(dim=1)).cpu()
            first += len(some)
        ends = np.cumsum([len(question.token_ids) for question in questions]).tolist()
        return [
            ScoreAnswer(
                tokens=tuple(self.tokenizer.token(token_id) for token_id in question.token_ids),
                log_probabilities=tuple(values[end - len(question.token_ids) : end].tolist()),
                warnings=question.warnings,
            )
            for question, end in zip(questions, ends, strict=True)
        ]

    def answer_embeddings(self, questions: Sequence[RowQuestion]) -> list[EmbeddingAnswer]:
        """Return the answers, in the order of the questions; ModelError if the output is not finite."""
        vectors = np.empty((len(questions), self.bert.params.embedding_dim), dtype=np.float32)
        for chosen, states, lengths in all_states(self.bert, [question.row for question in questions]):
            vectors[chosen] = self._checked(mean_pool(states, lengths)).cpu().numpy()
        return [
            EmbeddingAnswer(vector=vector, warnings=question.warnings)
            for vector, question in zip(vectors, questions, strict=True)
        ]

    @property
    def _logits_at_once(self) -> int:
        return max(_MAX_LOGITS // self.bert.vocab_size, 1)

    def _word_ends(self, token_ids: Sequence[int]) -> Iterator[int]:
        """Yield, for each token, the end of its word."""
        tokenizer, ids = self.tokenizer.tokenizer, np.array(token_ids)
        continues = tokenizer.continues_word[ids[1:]] & ~tokenizer.ends_word[ids[:-1]]
        ends = np.append(np.flatnonzero(~continues) + 1, len(ids))
        yield from ends[np.searchsorted(ends, np.arange(len(ids)), side="right")].tolist()

    def _masked_rows(self, question: ScoreQuestion) -> Iterator[Row]:
        """Yield a row for each token of a text, with that token masked."""
        token_ids, limit = question.token_ids, self.max_positions - 2
        for index, masked_end in enumerate(question.masked_ends):
            hidden = range(index, min(masked_end, index + limit))
            start, end = _window(len(token_ids), hidden, limit)
            masks = (self.tokenizer.mask_id,) * len(hidden)
            ids = (*token_ids[start:index], *masks, *token_ids[hidden.stop : end])
            yield self._row(ids, positions=(index - start + 1,))

    def _row(self, ids: Sequence[int], *, positions: tuple[int, ...]) -> Row:
        """Return `[CLS] ids [SEP]`."""
        token_ids = (self.tokenizer.cls_id, *ids, self.tokenizer.sep_id)
        return Row(token_ids=token_ids, second_segment_start=len(token_ids), positions=positions)

    def _cut(self, text: Encoding, left: int, name: str) -> str:
        """Return the warning that only `left` tokens of a text are read."""
        return (
            f"the model reads {self.max_positions} tokens at most: "
            f"the last {len(text.ids) - left} of {name}'s {len(text.ids)} tokens were left out"
        )

    def _checked(self, numbers: Tensor) -> Tensor:
        """Return the model's output after checking that it is finite."""
        if not bool(numbers.isfinite().all()):
            raise ModelError(
                f"the output of {self.name} is not finite: its weights are damaged or too large; "
                f"train it again with a lower train.learning_rate, or use another model"
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
        if any(is_unknown_token(c.token) for mask in masks for c in mask.candidates) and self.tokenizer.has_words:
            warnings = (*warnings, "a candidate [unknown-ID] is an id without a word in this model's vocabulary")
        best = [mask.candidates[0].token for mask in masks]
        filled = _fill(question.encoded, question.masked, best, self.tokenizer.tokenizer.pieces)
        return MlmAnswer(masks=masks, filled_text=filled, warnings=warnings)

    def _candidates(self, logits: Tensor, top_k: int) -> tuple[Candidate, ...]:
        """Return the most probable tokens of logits [vocab]; among equals, the smaller id first."""
        lowest = logits.topk(min(top_k, len(logits))).values[-1]
        ids = torch.nonzero(logits >= lowest)[:, 0]  # more than top_k where some are equal
        ids = ids[logits[ids].sort(descending=True, stable=True).indices][:top_k]
        probabilities = (logits[ids] - logits.logsumexp(dim=0)).exp()
        return tuple(
            Candidate(token=self.tokenizer.token(token_id), token_id=token_id, probability=probability)
            for token_id, probability in zip(ids.tolist(), probabilities.tolist(), strict=True)
        )


def load_predictor(model: str, *, device: str = "auto") -> Predictor:
    """Return the predictor of a model, as `load_any_model` takes it, on a device: `auto`, `cpu` or `cuda`.

    Raises:
        MissingInputError: there is no such local directory.
        ModelError: the model cannot be read.
        ParamsError: there is no such device.
    """
    target = pick_device(device)
    loaded = load_any_model(model)
    loaded.bert.to(target)
    return Predictor(model=loaded)


def _window(length: int, masked: Sequence[int], limit: int) -> tuple[int, int]:
    """Return which of `length` tokens the model reads: all if they fit, else `limit` of them around the masks.

    Raises:
        InputError: the masks are too far apart.
    """
    if length <= limit:
        return 0, length
    span = masked[-1] + 1 - masked[0]
    if span > limit:
        raise InputError(
            f"from the first to the last {MASK} there are {span} tokens, and the model reads {limit} at most: "
            f"use fewer masks at a time"
        )
    start = min(max(masked[0] - (limit - span) // 2, 0), length - limit)
    return start, start + limit


def _fill(encoded: Encoding, masked: Sequence[int], tokens: Sequence[str], pieces: Pieces) -> str:
    """Return the text with its masks replaced; a token that continues a word joins the text before it."""
    filled, done = "", 0
    for index, token in zip(masked, tokens, strict=True):
        start, end = encoded.spans[index]
        marker = encoded.text[start:end]  # some tokenizers include the white space beside the mask
        start += len(marker) - len(marker.lstrip())
        end -= len(marker) - len(marker.rstrip())
        filled += encoded.text[done:start]
        if pieces.joins_text_before(token):
            filled = filled.rstrip()
        text = pieces.text(token).decode("utf-8", errors="replace")
        filled += text if filled else text.lstrip()
        done = end
    return filled + encoded.text[done:]
