"""Exported models in a process that has no bertpipe: transformers alone says what they are."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.inference.predictor import load_predictor
from bertpipe.model.bert import Bert
from exports import export_of, piece_tokenizer, save_model_with, word_tokenizer
from models import save_changed

SCRIPT = Path(__file__).parent.parent / "fresh_huggingface.py"
TEXTS = (
    "The cat sat.",
    'the "cat"',
    "it's a cat's mat",
    "a<br />b <br/>the<br />",
    "café CAFÉ cafe\u0301 é",
    "xyzzy unx xx",
    "[MASK] cat[MASK]the [UNK] [SEP] [CLS]",
    "  the\tcat\n\n\u00a0\u2003dog\u200b ",
    "猫 the 猫",
    "the\x1ccat\x1fdog",
    "?!;:(,)",
    "[unknown-15] [unknown-99]",
    "",
)
PAIRS = tuple(zip(TEXTS[:-1], [TEXTS[6], *TEXTS[:-2]], strict=True))
"""None of them with an empty B, which transformers takes for no B at all."""
LONG_PAIR = ("the cat " * 9, "sat on the mat " * 7)
QUESTION = "the cat sat on the [MASK] ."
MODELS: dict[str, tuple[Tokenizer, dict[str, Any]]] = {
    "words": (word_tokenizer(), {}),
    "pieces": (piece_tokenizer(), {"tied": False, "activation": "gelu_tanh", "norm_epsilon": 1e-5}),
    "cased": (
        piece_tokenizer(lowercase=False, strip_accents=True),
        {"activation": "relu", "embedding_dim": 15, "heads": 5, "layers": 3, "nameless_ids": 7, "max_positions": 23},
    ),
    "long": (word_tokenizer(), {"embedding_dim": 32, "heads": 2, "feed_forward_dim": 64, "max_positions": 512}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A model of ours, and what transformers made of its export."""

    bert: Bert
    tokenizer: Tokenizer
    model: Path
    rows: dict[str, Tensor]
    lengths: Tensor
    starts: Tensor
    answers: dict[str, Any]
    logits: dict[str, Tensor]


def rows_for(bert: Bert) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return rows of all kinds: the longest, the shortest, no B, nearly no A, padding of any width."""
    longest = bert.params.max_positions
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([longest, 3, longest // 2 + 1, longest - 1, longest])
    starts = torch.tensor([longest // 3, 2, longest // 2 + 1, 2, longest - 1])
    real = torch.arange(longest) < lengths[:, None]
    rows = {
        "ids": torch.randint(0, bert.vocab_size, (5, longest), generator=generator),
        "mask": real.long(),
        "segments": ((torch.arange(longest) >= starts[:, None]) & real).long(),
    }
    return rows, lengths, starts


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Return every model, its export read in one other process."""
    folder = tmp_path_factory.mktemp("fresh")
    berts, job = {}, []
    for name, (tokenizer, changes) in MODELS.items():
        berts[name] = save_model_with(folder / name, tokenizer, **changes)
        if name == "long":  # logits of the size that trained models have
            with torch.no_grad():
                for parameter in berts[name].parameters():
                    parameter.mul_(0.3)
            save_changed(folder / name, berts[name])
        directory, _ = export_of(folder / name)
        save_file(rows_for(berts[name])[0], folder / f"{name}.safetensors")
        job.append(
            {
                "name": name, "directory": str(directory), "texts": TEXTS, "pairs": PAIRS,
                "long_pair": LONG_PAIR, "question": QUESTION,
            }
        )  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "out").mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "HF_TOKEN"}}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder / "job.json"), str(folder / "out")],
        env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads((folder / "out" / "answers.json").read_text(encoding="utf-8"))
    logits = load_file(folder / "out" / "logits.safetensors")
    found = {}
    for name, (tokenizer, _) in MODELS.items():
        rows, lengths, starts = rows_for(berts[name])
        found[name] = Seen(
            bert=berts[name], tokenizer=tokenizer, model=folder / name, rows=rows, lengths=lengths, starts=starts,
            answers=answers[name],
            logits={key.removeprefix(f"{name}."): value for key, value in logits.items() if key.startswith(f"{name}.")},
        )  # fmt: skip
    return found


def ours(seen: Seen, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    bert = seen.bert.to(dtype)
    with torch.inference_mode():
        hidden = bert(seen.rows["ids"], seen.lengths, seen.starts)
        answer = bert.mlm_logits(hidden), bert.nsp_logits(hidden)
    seen.bert.to(torch.float32)
    return answer


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_ours(seen: dict[str, Seen], name: str) -> None:
    model = seen[name]
    real = model.rows["mask"].bool()
    for dtype, suffix, tolerance in (
        (torch.float64, "64", {"rtol": 0.0, "atol": 1e-9}),
        (torch.float32, "", {"rtol": 1e-5, "atol": 1e-5}),
    ):
        mlm, nsp = ours(model, dtype)
        assert mlm[real].std() > 1e-2  # not all equal for want of signal
        assert (nsp[:, 0] - nsp[:, 1]).abs().min() > 1e-3  # so that classes in the wrong order would be seen
        torch.testing.assert_close(model.logits[f"mlm{suffix}"][real], mlm[real], **tolerance)
        torch.testing.assert_close(model.logits[f"nsp{suffix}"], nsp.flip(1), **tolerance)  # there 0 is next
    torch.testing.assert_close(model.logits["masked"][real], mlm[real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_are_whole_and_nothing_is_left_over(seen: dict[str, Seen], name: str) -> None:
    answers = seen[name].answers
    assert (answers["class"], answers["dtype"]) == ("BertForPreTraining", "torch.float32")
    assert answers["info"] == {}
    # A model without the NSP head leaves that head's tensors, as with any BERT.
    assert answers["masked_info"].keys() <= {"unexpected_keys"}
    left = {key.rsplit(".", 1)[0] for key in answers["masked_info"].get("unexpected_keys", [])}
    assert left <= {"cls.seq_relationship", "bert.pooler.dense"}


def encoded_by(tokenizer: Tokenizer, *texts: str) -> dict[str, list[int]]:
    """Return what BERT reads of one or two texts, put together by hand from our own ids."""
    _, cls_id, sep_id, _, _ = tokenizer.special_ids
    parts = [[cls_id, *tokenizer.encode(texts[0]), sep_id], *([*tokenizer.encode(text), sep_id] for text in texts[1:])]
    ids = [token_id for part in parts for token_id in part]
    segments = [number for number, part in enumerate(parts) for _ in part]
    return {"input_ids": ids, "token_type_ids": segments, "attention_mask": [1] * len(ids)}


@pytest.mark.parametrize("name", MODELS)
def test_token_ids_and_segments_are_ours(seen: dict[str, Seen], name: str) -> None:
    model = seen[name]
    assert model.answers["single"] == [encoded_by(model.tokenizer, text) for text in TEXTS]
    assert model.answers["pairs"] == [encoded_by(model.tokenizer, *pair) for pair in PAIRS]


def test_the_texts_are_what_they_are_here_for() -> None:
    """Ids by hand, where the two kinds of tokenizer read a text in different ways."""
    words, pieces = word_tokenizer(), piece_tokenizer()
    word, piece = (tokenizer.backend.token_to_id for tokenizer in (words, pieces))
    quoted = TEXTS[1]
    assert words.encode(quoted) == [word("the"), word("cat")]  # basic_english drops quotes
    assert pieces.encode(quoted) == [piece("the"), piece('"'), piece("cat"), piece('"')]
    broken = "the<br />cat"
    assert words.encode(broken) == [word("the"), word("cat")]
    assert pieces.encode(broken) == [piece(token) for token in ("the", "<", "br", "/", ">", "cat")]
    assert pieces.encode("CAFÉ") == [piece("caf"), piece("##é")]
    assert piece_tokenizer(lowercase=False, strip_accents=True).encode("café") == [piece("caf"), piece("##e")]
    assert words.encode("xyzzy") == [words.unknown_id]


@pytest.mark.parametrize("name", MODELS)
def test_long_pairs_are_cut_to_the_models_positions_and_batches_are_padded(seen: dict[str, Seen], name: str) -> None:
    model = seen[name]
    whole = encoded_by(model.tokenizer, *LONG_PAIR)["input_ids"]
    assert len(model.answers["cut"]["input_ids"]) == min(len(whole), model.bert.params.max_positions)
    padded, pad_id = model.answers["padded"], model.tokenizer.special_ids[0]
    longest = max(len(ids) for ids in padded["input_ids"])
    for text, ids, mask in zip(TEXTS, padded["input_ids"], padded["attention_mask"], strict=True):
        own = encoded_by(model.tokenizer, text)["input_ids"]
        assert ids == own + [pad_id] * (longest - len(own))
        assert mask == [1] * len(own) + [0] * (longest - len(own))


def test_ids_are_read_back_as_words(seen: dict[str, Seen]) -> None:
    assert seen["words"].answers["decoded"] == "[CLS] the cat sat . [SEP] [MASK] cat [MASK] the [UNK] [SEP] [CLS] [SEP]"
    assert seen["pieces"].answers["decoded"] == "[CLS] the cat sat. [SEP] [MASK] cat [MASK] the [UNK] [SEP] [CLS] [SEP]"


@pytest.mark.parametrize("name", MODELS)
def test_fill_mask_answers_as_bertpipe_does(seen: dict[str, Seen], name: str) -> None:
    model = seen[name]
    expected = load_predictor(str(model.model), device="cpu").fill_masks(QUESTION, 3).masks[0].candidates
    filled = model.answers["filled"]
    assert [answer["score"] for answer in filled] == pytest.approx([c.probability for c in expected], rel=1e-5)
    named = [(answer["token_str"], c.token) for answer, c in zip(filled, expected, strict=True)]
    assert all(theirs == own or own.startswith("[unknown-") for theirs, own in named), named


def numbers(line: str) -> Sequence[float]:
    return [float(word.rstrip(",")) for word in line.split() if word[0].isdigit()]


@pytest.mark.parametrize("name", MODELS)
def test_the_cards_examples_run_as_they_stand(seen: dict[str, Seen], name: str) -> None:
    model = seen[name]
    predictor = load_predictor(str(model.model), device="cpu")
    fill, nsp = model.answers["examples"]
    best = predictor.fill_masks("the cat's [MASK]", 1).masks[0].candidates[0]
    assert ast.literal_eval(fill.splitlines()[0])["score"] == pytest.approx(best.probability, rel=1e-5)
    answer = predictor.next_sentence('the "cat" sat', "on the mat")
    assert numbers(nsp) == pytest.approx([answer.probability_next, answer.probability_not_next], abs=6e-5)
    assert abs(answer.probability_next - 0.5) > 0.01  # so that classes in the wrong order would be seen
