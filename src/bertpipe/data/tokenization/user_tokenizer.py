"""A tokenizer that the user brings: a `tokenizer.json` or a `vocab.txt`."""

from collections import Counter
from pathlib import Path

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.data.tokenization.tokenizer import PAD_ID, SPECIAL_TOKENS, Tokenizer, load_tokenizer, word_level_tokenizer
from bertpipe.data.tokenization.wordpiece import CONTINUATION, wordpiece_tokenizer


def given_tokenizer(path: Path, *, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """Return the tokenizer of a `tokenizer.json`, of a `vocab.txt` (suffix `.txt`), or of a directory with one of them.

    It neither truncates nor pads.

    A `vocab.txt` has one token per line. With `##` pieces it is BERT's; without, and beginning with the special tokens
    in our order, it has the words of `basic_english`.

    Raises:
        MissingInputError: there is no such file.
        DataError: it is neither; it lacks a special token or has only those; `[PAD]` is not id 0; ids have gaps.
    """
    if path.is_dir():
        names = ("tokenizer.json", "vocab.txt")
        path = next((path / name for name in names if (path / name).is_file()), path)
    if not path.is_file():
        raise MissingInputError(
            f"prepare.tokenizer is {path}, but there is no such file: write wordpiece, words, or the path of a "
            "tokenizer.json or vocab.txt, or of a directory with one of them"
        )
    if path.suffix == ".txt":
        tokenizer = _of_vocabulary(path, lowercase=lowercase, strip_accents=strip_accents)
    else:
        tokenizer = load_tokenizer(path)
    tokenizer.backend.no_truncation()
    tokenizer.backend.no_padding()
    if tokenizer.special_ids[0] != PAD_ID:
        raise DataError(f"{path}: [PAD] has id {tokenizer.special_ids[0]}, it must be {PAD_ID}: put it first")
    if tokenizer.is_special.all():
        raise DataError(
            f"{path} has no token but {' '.join(SPECIAL_TOKENS)}: every word would be [UNK]; add words to it"
        )
    largest = max(tokenizer.backend.get_vocab().values())
    if largest + 1 != tokenizer.vocab_size:
        raise DataError(f"{path}: {tokenizer.vocab_size} tokens have ids up to {largest}: number them without gaps")
    return tokenizer


def _of_vocabulary(path: Path, *, lowercase: bool, strip_accents: bool) -> Tokenizer:
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    tokens = [line.removesuffix("\r") for line in lines]
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise DataError(f"{path} lacks {' '.join(missing)}: a BERT vocabulary needs all of {' '.join(SPECIAL_TOKENS)}")
    token, count = Counter(tokens).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}, line {tokens.index(token) + 1}: {token!r} is there {count} times: keep it once")
    if any(token.startswith(CONTINUATION) and token != CONTINUATION for token in tokens):
        return wordpiece_tokenizer(tokens, lowercase=lowercase, strip_accents=strip_accents)
    if tuple(tokens[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise DataError(
            f"{path} has no {CONTINUATION} pieces, so its tokens are words, and a vocabulary of words begins with "
            f"{' '.join(SPECIAL_TOKENS)}, this one with {' '.join(tokens[: len(SPECIAL_TOKENS)])}"
        )
    return word_level_tokenizer(tokens)
