"""Tokenizers of every kind of vocabulary, made on the spot: byte-level, SentencePiece, with ends of words."""

from collections.abc import Sequence

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, parse_tokenizer

TEXTS = (
    "El niño pidió al médico un árbol mágico, y el médico se lo dio.",
    "«¿Qué árbol?», preguntó la niña; 3.5 metros medía el árbol mágico.",
    "La niña y el niño no piden más árboles: pidieron café.",
)


def _named(backend: Backend) -> Tokenizer:
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return parse_tokenizer(backend.to_str(), "made")


def byte_level(texts: Sequence[str] = TEXTS, *, add_prefix_space: bool = True, size: int = 330) -> Tokenizer:
    backend = Backend(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _named(backend)


def sentencepiece(pieces: Sequence[str], *, lowercase: bool = False) -> Tokenizer:
    """Return a Unigram tokenizer with `▁` for a space, the longer pieces the likelier."""
    scored = [(token, 0.0) for token in SPECIAL_TOKENS] + [(piece, -1.0 / len(piece)) for piece in pieces]
    backend = Backend(models.Unigram(scored, unk_id=4, byte_fallback=False))
    backend.normalizer = normalizers.Lowercase() if lowercase else normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return _named(backend)


def llama_like(texts: Sequence[str] = TEXTS) -> Tokenizer:
    """Return a BPE tokenizer whose normalizer writes spaces as `▁`, with single bytes for unknown characters."""
    single = [f"<0x{byte:02X}>" for byte in range(256)]
    words = sorted({"▁" + word for text in texts for word in text.split()} | {"▁"})
    tokens = [*SPECIAL_TOKENS, *single, *sorted(set("".join(words)) - {"▁"}), *words]
    merges: list[tuple[str, str]] = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
            merges.append((word[: end - 1], word[end - 1]))
    unique = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    model = models.BPE(unique, list(dict.fromkeys(merges)), unk_token="[UNK]", byte_fallback=True, fuse_unk=True)
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _named(backend)


def with_word_ends(texts: Sequence[str] = TEXTS) -> Tokenizer:
    """Return a BPE tokenizer whose last piece of a word ends in `</w>`."""
    backend = Backend(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=70, special_tokens=list(SPECIAL_TOKENS), end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return _named(backend)


def unmarked(texts: Sequence[str] = TEXTS) -> Tokenizer:
    """Return a BPE tokenizer whose pieces do not show where words begin."""
    backend = Backend(models.BPE(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=list(SPECIAL_TOKENS), show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return _named(backend)
