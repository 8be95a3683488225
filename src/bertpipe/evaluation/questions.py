"""The same questions to a model after each epoch, so that one sees it learn: masked tokens of held-out rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.tokenization.tokenizer import MASK_ID
from bertpipe.model.bert import Bert

_QUESTIONS = 10
_CANDIDATES = 3

Answer = Sequence[tuple[int, float]]
"""Ids and probabilities of the candidates, the most probable first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Rows with one `[MASK]` each that a model is asked about."""

    rows: PairDataset
    """As they are stored, with all of their masks."""
    positions: tuple[int, ...]
    """In each row; `[CLS]` is 0."""

    @classmethod
    def of(cls, split: PairSource) -> "Questions":
        """Return questions from all over the first row group of a split: of each row, its first hidden token."""
        data = split.read(np.zeros(1, dtype=np.int64))
        hidden = (data.masked_inputs == MASK_ID) & (data.masked_labels > 0)
        row_of = np.repeat(np.arange(len(data)), np.diff(data.masked_offsets))
        rows, first = np.unique(row_of[hidden], return_index=True)
        asked = min(_QUESTIONS, len(rows))
        chosen = np.arange(asked) * len(rows) // max(asked, 1)
        return cls(rows=data.take(rows[chosen]), positions=tuple(data.masked_positions[hidden][first[chosen]].tolist()))

    def facts(self) -> list[dict[str, Any]]:
        """Return the rows as JSON content: ids as the model reads them, where B begins, the position and its label."""
        found = []
        for number, position in enumerate(self.positions):
            row = self.rows.take(np.array([number]))
            ids = row.token_ids.copy()
            ids[row.masked_positions] = row.masked_inputs
            label = row.masked_labels[row.masked_positions == position][0]
            found.append(
                {
                    "token_ids": ids.tolist(),
                    "second_segment_start": int(row.second_segment_start[0]),
                    "position": position,
                    "label": int(label),
                }
            )
        return found

    def ask(self, bert: Bert, *, device: torch.device) -> list[Answer]:
        """Return a model's answers, one for each question; it is on `device`."""
        if not self.positions:
            return []
        batch = Batcher(dataset=self.rows, masking=None, seed=0).assemble(
            self.rows, np.arange(len(self.rows)), epoch=0
        ).to(device)  # fmt: skip
        was_training = bert.training
        bert.eval()
        with torch.inference_mode():
            hidden = bert(batch.token_ids, batch.lengths, batch.second_segment_start)
            asked = hidden[torch.arange(len(self.positions)), torch.tensor(self.positions)]
            chances = bert.mlm_logits(asked).double().softmax(dim=-1)
            found = chances.topk(min(_CANDIDATES, chances.shape[-1]))
        bert.train(was_training)
        return [
            list(zip(ids, probabilities, strict=True))
            for ids, probabilities in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]


def answers_content(questions: Questions, answers: Sequence[tuple[int, int, Sequence[Answer]]]) -> Mapping[str, Any]:
    """Return the questions with their answers after each epoch (its number, its last step), as JSON content."""
    return {
        "questions": questions.facts(),
        "epochs": [
            {
                "epoch": epoch,
                "step": step,
                "answers": [
                    [{"token_id": token, "probability": float(f"{chance:.6g}")} for token, chance in answer]
                    for answer in found
                ],
            }
            for epoch, step, found in answers
        ],
    }
