"""The questions that a model is asked after each epoch."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from bertpipe.core.params import Params
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import MASK_ID
from bertpipe.evaluation.questions import Questions
from bertpipe.model.store import load_model
from runs import train


def test_each_question_is_the_first_hidden_token_of_another_row(parquet: Path) -> None:
    split = read_dataset(parquet / "test.parquet")
    questions = Questions.of(split)
    assert len(questions.positions) == len(questions.rows) == 10
    assert len({*questions.rows.row.tolist()}) == 10
    for number, fact in enumerate(questions.facts()):
        row = questions.rows.take(np.array([number]))
        hidden = [
            (place, label)
            for place, read, label in zip(row.masked_positions, row.masked_inputs, row.masked_labels, strict=True)
            if read == MASK_ID and label > 0
        ]
        assert (fact["position"], fact["label"]) == hidden[0]
        assert fact["token_ids"][fact["position"]] == MASK_ID
        assert row.token_ids[fact["position"]] == fact["label"]


def test_rows_that_hide_nothing_give_no_question(parquet: Path, trained: Path) -> None:
    split = read_dataset(parquet / "test.parquet")
    questions = Questions.of(dataclasses.replace(split, masked_labels=np.zeros_like(split.masked_labels)))
    assert questions.facts() == []
    assert questions.ask(load_model(trained / "model").bert, device=torch.device("cpu")) == []


def test_the_file_has_the_answers_of_each_epochs_model(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    train(tiny, tmp_path, parquet, epochs=2)
    content = json.loads((tmp_path / "answers.json").read_text(encoding="utf-8"))
    assert [epoch["epoch"] for epoch in content["epochs"]] == [1, 2]
    bert = load_model(tmp_path / "model").bert.eval()
    for question, answer in zip(content["questions"], content["epochs"][-1]["answers"], strict=True):
        ids = torch.tensor([question["token_ids"]])
        start = torch.tensor([question["second_segment_start"]])
        with torch.inference_mode():
            hidden = bert(ids, torch.tensor([ids.shape[1]]), start)[0, question["position"]]
            chances = bert.mlm_logits(hidden[None]).double().softmax(-1)[0]
        assert len(answer) == 3
        assert answer[0]["token_id"] == int(chances.argmax())
        for candidate in answer:
            assert abs(candidate["probability"] - float(chances[candidate["token_id"]])) < 1e-5
