"""Tiny models, made and exported by bertpipe's own code, and what bertpipe answers for them."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertpipe.core.artifacts import TOKENIZER_NAME
from bertpipe.core.params import ArchitectureName, ModelParams, Params
from bertpipe.core.params_file import load_params
from bertpipe.data.tokenization.encoder import truncate_longest_first
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, basic_english, word_level_tokenizer
from bertpipe.data.tokenization.wordpiece import bert_words, train_wordpiece
from bertpipe.inference.predictor import Predictor, load_predictor
from bertpipe.model.bert import Bert, mean_pool
from bertpipe.model.huggingface.weights import COUNTERPARTS, Counterpart
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import save_model
from bertpipe.stages.export import run_export
from clients.questions import CORPUS, DECOMPOSED, PAIRS, QUESTION, TEXTS

PARAMS = Path(__file__).parent.parent / "params" / "tiny.yaml"
_METRICS = {"mlm": {"tokens": 1, "model": None}, "nsp": {"rows": 1, "model": None}}
_TOP_K = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """A model in Hugging Face's format."""

    name: str
    directory: Path
    tokenizer: Tokenizer
    predictor: Predictor
    """bertpipe's, of the model before its export."""

    @property
    def is_wordpiece(self) -> bool:
        """Whether the classes for BERT read its tokenizer."""
        return (self.directory / "vocab.txt").is_file()

    @property
    def has_token_types(self) -> bool:
        """Whether its network, and so its tokenizer, has token types."""
        return self.predictor.bert.params.architecture != "modern"

    @property
    def counterpart(self) -> Counterpart:
        """The class of transformers that computes it."""
        return COUNTERPARTS[self.predictor.bert.params.architecture]


def make_models(folder: Path) -> list[ExportedModel]:
    """Write and export a model of each kind."""
    params = load_params(PARAMS)
    metrics = folder / "metrics.json"
    metrics.write_text(json.dumps(_METRICS), encoding="utf-8")
    found = []
    for name, make in _KINDS.items():
        model, directory = folder / f"{name}-bertpipe", folder / name
        make(model, params)
        run_export(params.export, params.infer, model=model, metrics=metrics, data=folder / "none", out=directory)
        predictor = load_predictor(str(model), device="cpu")
        tokenizer = Tokenizer(predictor.tokenizer.backend)
        found.append(ExportedModel(name=name, directory=directory, tokenizer=tokenizer, predictor=predictor))
    return found


def _save(
    model: Path, params: Params, tokenizer: Tokenizer, *, seed: int, architecture: ArchitectureName = "bert"
) -> None:
    """Write a model with random weights far from zero, so that its answers differ."""
    torch.manual_seed(seed)
    shape: ModelParams = replace(
        params.model, architecture=architecture, layers=2, vocab_size="auto", rotary_base=500.0
    )
    bert = Bert(shape, tokenizer.vocab_size)
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    file = model.parent / f"{model.name}-{TOKENIZER_NAME}"
    tokenizer.save(file)
    save_model(model, bert.eval(), file, facts={})


def _wordpiece(*, lowercase: bool, strip_accents: bool) -> Tokenizer:
    words = Counter(
        word for text in bert_words(CORPUS, lowercase=lowercase, strip_accents=strip_accents) for word in text
    )
    return train_wordpiece(
        words.items(), Counter("".join(CORPUS)), vocab_size=240, min_frequency=1, lowercase=lowercase,
        strip_accents=strip_accents,
    )  # fmt: skip


def _words() -> Tokenizer:
    counts = Counter(word for text in basic_english(CORPUS) for word in text)
    return word_level_tokenizer([*SPECIAL_TOKENS, *counts])


def _save_classifier(model: Path, params: Params) -> None:
    """Write the encoder of a classifier that transformers saved, with a tokenizer of its settings."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer  # noqa: PLC0415

    theirs = model.parent / f"{model.name}-theirs"
    vocab = _wordpiece(lowercase=False, strip_accents=False).backend.get_vocab()
    settings = {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False}
    tokenizer = BertTokenizer(vocab=vocab, **settings)
    tokenizer.save_pretrained(theirs)
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=params.model.max_positions, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(theirs)
    loaded = load_any_model(theirs)
    save_model(model, loaded.bert, theirs / TOKENIZER_NAME, facts={})


def _uncased() -> Tokenizer:
    return _wordpiece(lowercase=True, strip_accents=True)


_KINDS: dict[str, Callable[[Path, Params], None]] = {
    "uncased": lambda model, params: _save(model, params, _uncased(), seed=1),
    "cased": lambda model, params: _save(model, params, _wordpiece(lowercase=False, strip_accents=False), seed=2),
    "words": lambda model, params: _save(model, params, _words(), seed=3),
    "from a classifier": _save_classifier,
    "preln": lambda model, params: _save(model, params, _uncased(), seed=5, architecture="preln"),
    "modern": lambda model, params: _save(model, params, _uncased(), seed=6, architecture="modern"),
    "modern, words": lambda model, params: _save(model, params, _words(), seed=7, architecture="modern"),
}


def job_for(models: Sequence[ExportedModel]) -> list[dict[str, Any]]:
    """Return what a client is told."""
    return [
        {
            "name": model.name,
            "directory": str(model.directory),
            "wordpiece": model.is_wordpiece,
            "model_type": model.counterpart.model_type,
            "token_types": model.has_token_types,
            "texts": [*TEXTS, DECOMPOSED],
            "composed": len(TEXTS),
            "pairs": PAIRS,
            "question": QUESTION,
            "longest": model.predictor.max_positions,
            "top_k": _TOP_K,
        }
        for model in models
    ]


def expected_of(model: ExportedModel) -> dict[str, Any]:
    """Return bertpipe's own answers, by the names that clients give to theirs."""
    texts = [*TEXTS, DECOMPOSED]
    whole = [_encoded(model, text) for text in texts] + [_encoded(model, *pair) for pair in PAIRS]
    longest = model.predictor.max_positions
    cut = [_encoded(model, text, longest=longest) for text in texts]
    cut += [_encoded(model, *pair, longest=longest) for pair in PAIRS]
    bert, pairs = model.predictor.bert, cut[len(texts) :]
    rows = [_states(bert, encoded) for encoded in pairs]
    with torch.inference_mode():
        pooled = [torch.tanh(bert.pooler(states[:, 0]))[0].tolist() for states in rows if bert.pooler]
        nsp = [bert.nsp_logits(states)[0].tolist() for states in rows]
        if not model.counterpart.nsp_class:  # there 0 is next
            nsp = [logits[::-1] for logits in nsp]
        mlm = [bert.mlm_logits(states)[0].tolist() for states in rows]
        single = [_states(bert, encoded) for encoded in cut[: len(texts)]]
        vectors = [mean_pool(states, torch.tensor([states.shape[1]]))[0].tolist() for states in single]
    fit = [row for row in range(len(PAIRS)) if pairs[row] == whole[len(texts) + row]]
    fit_single = [row for row in range(len(texts)) if cut[row] == whole[row]]
    filled = model.predictor.fill_masks(QUESTION, _TOP_K).masks[0].candidates
    if not model.has_token_types:
        whole, cut = [row[:1] for row in whole], [row[:1] for row in cut]
    return {
        "encoded": whole,
        "encoded, composed": whole[: len(TEXTS)] + whole[len(texts) :],
        "cut": cut,
        "mlm logits": mlm,
        "nsp logits": nsp,
        "mlm logits that fit": [mlm[row] for row in fit],
        "nsp logits that fit": [nsp[row] for row in fit],
        "pooled": pooled,
        "vectors": vectors,
        "vectors that fit": [vectors[row] for row in fit_single],
        "filled": [[candidate.token_id, candidate.probability] for candidate in filled],
    }


def _encoded(model: ExportedModel, *texts: str, longest: int | None = None) -> list[list[int]]:
    """Return ids and token types of one or two texts, cut to `longest` tokens."""
    _, cls_id, sep_id, _, _ = model.tokenizer.special_ids
    parts = [model.tokenizer.encode(text) for text in texts]
    if longest is not None:
        kept = truncate_longest_first(len(parts[0]), len(parts[-1]) if len(parts) == 2 else 0, longest - len(parts) - 1)  # noqa: PLR2004
        parts = [part[: int(length)] for part, length in zip(parts, kept, strict=False)]
    ids = [cls_id, *parts[0], sep_id]
    types = [0] * len(ids)
    for part in parts[1:]:
        ids += [*part, sep_id]
        types += [1] * (len(part) + 1)
    return [ids, types]


def _states(bert: Bert, encoded: list[list[int]]) -> torch.Tensor:
    """Return the last layer's states [1, seq, hidden] of one row."""
    ids, types = encoded
    with torch.inference_mode():
        states: torch.Tensor = bert(
            torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([int(np.sum(np.equal(types, 0)))])
        )
    return states
