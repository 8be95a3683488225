"""A tokenizer that the user brings, with its own settings: a file, or a directory of Hugging Face's or of ours."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertpipe.core.artifacts import CONFIG_NAME, TOKENIZER_CONFIG_NAME, TOKENIZER_NAME, read_json, refuse_lfs_pointer
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.data.tokenization.comparison import settings_of
from bertpipe.data.tokenization.tokenizer import (
    PAD_ID,
    SPECIAL_TOKENS,
    Tokenizer,
    parse_tokenizer,
    special_tokens_of,
    unknown_token,
    word_level_tokenizer,
)
from bertpipe.data.tokenization.wordpiece import CONTINUATION, wordpiece_tokenizer

if TYPE_CHECKING:
    from tokenizers import AddedToken

VOCABULARY_NAME = "vocab.txt"
TOKENIZER_FILES = (
    TOKENIZER_NAME, VOCABULARY_NAME, TOKENIZER_CONFIG_NAME, "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
"""What is read of a directory."""
_ROLES = ("pad_token", "cls_token", "sep_token", "mask_token", "unk_token")
"""Hugging Face's names of the special tokens, in the order of `SPECIAL_TOKENS`."""
_SETTINGS = {
    "do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars",
}  # fmt: skip
"""Hugging Face's names of a BertNormalizer's settings."""
_WORDPIECE_CLASSES = re.compile("(Bert|DistilBert|Electra|MobileBert)Tokenizer(Fast)?")
"""The classes of tokenizers whose vocab.txt is BERT's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTokenizer:
    """A tokenizer as it was given."""

    tokenizer: Tokenizer
    """It neither truncates nor pads."""
    notes: tuple[str, ...]
    """What the user should know about how it was read."""


def given_tokenizer(path: Path, *, lowercase: bool, strip_accents: bool) -> GivenTokenizer:
    """Return the tokenizer at `prepare.tokenizer`: one that data can be made with; see `read_tokenizer`.

    It keeps its own settings; a note says so where they are not `lowercase` and `strip_accents`.

    Raises:
        MissingInputError: there is no such file.
        DataError: it cannot be read, or has only special tokens; `[PAD]` is not id 0; ids have gaps; or the special
            tokens have names that a `tokenizer.json` alone does not tell.
    """
    if not path.exists():
        raise MissingInputError(
            f"prepare.tokenizer is {path}, but there is no such file: write wordpiece, words, or the path of a "
            "tokenizer.json or vocab.txt, or of a directory with one of them"
        )
    given = read_tokenizer(path)
    tokenizer = given.tokenizer
    vocabulary = tokenizer.backend.get_vocab()
    pad = tokenizer.special_tokens[0]
    if vocabulary[pad] != PAD_ID:
        raise DataError(f"{path}: {pad} has id {vocabulary[pad]}, it must be {PAD_ID}: put it first")
    largest = max(vocabulary.values())
    if largest + 1 != len(vocabulary):
        raise DataError(f"{path}: {len(vocabulary)} tokens have ids up to {largest}: number them without gaps")
    if tokenizer.is_special.all():
        raise DataError(
            f"{path} has no token but {' '.join(tokenizer.special_tokens)}: every word would be [UNK]; add words to it"
        )
    for name, found, usual in zip(tokenizer.special_tokens, special_tokens_of(vocabulary), SPECIAL_TOKENS, strict=True):
        if name != found:
            raise DataError(
                f"{path} calls {usual} {name!r:.60}: data can be made with [PAD] [CLS] [SEP] [MASK] [UNK] or <pad> <s> "
                f"</s> <mask> <unk> alone; rename it in its tokenizer.json"
            )
    own = _case(tokenizer)
    if own == (lowercase, strip_accents):
        return given
    note = (
        f"{path} keeps its own settings, lowercase {str(own[0]).lower()} and strip_accents {str(own[1]).lower()}: "
        f"prepare.lowercase and prepare.strip_accents do not apply"
    )
    return replace(given, notes=(*given.notes, note))


def read_tokenizer(path: Path) -> GivenTokenizer:
    """Return the tokenizer of a file or a directory, with the settings that stand there.

    A `tokenizer.json` is what it says. A `vocab.txt` has one token per line: with `##` pieces, or in a model's
    directory, it is BERT's; else it has the words of `basic_english`. Beside a file of either name, a
    `tokenizer_config.json` of BERT's says whether it lower-cases, strips accents and separates Chinese characters;
    without it, a `vocab.txt` shows that: a token with a capital or an accent is of no use to a tokenizer that removes
    them. The special tokens are those that the directory names, or the usual ones.

    Raises:
        MissingInputError: there is none.
        DataError: it cannot be read, or lacks a special token.
    """
    directory, file = path.parent, path
    if path.is_dir():
        directory, file = path, _file_in(path)
    settings = _Settings.of(directory if file.name in TOKENIZER_FILES else None)
    text = _text(file)
    if file.suffix == ".txt":
        tokenizer, notes = _of_vocabulary(file, text, settings)
    else:
        tokenizer, notes = _of_json(file, text, settings)
    tokenizer.backend.no_truncation()
    tokenizer.backend.no_padding()
    return GivenTokenizer(tokenizer=tokenizer, notes=(*notes, *settings.ignored()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What the files beside a tokenizer say about it."""

    config: Mapping[str, Any]
    special_tokens: Mapping[str, Any]
    added_tokens: Mapping[str, int]
    place: Path | None
    """The tokenizer_config.json; None if there is none."""
    is_model: bool
    """Whether it is in a model's directory."""

    @classmethod
    def of(cls, directory: Path | None) -> "_Settings":
        """Return the settings in a directory; none for None."""
        found: dict[str, Mapping[str, Any]] = {}
        for name in TOKENIZER_FILES[2:]:
            file = None if directory is None else directory / name
            found[name] = _object(file) if file is not None and file.is_file() else {}
        config, special_tokens, added_tokens = found.values()
        place = directory / TOKENIZER_CONFIG_NAME if directory is not None and config else None
        is_model = directory is not None and (directory / CONFIG_NAME).is_file()
        return cls(
            config=config, special_tokens=special_tokens, added_tokens=added_tokens, place=place, is_model=is_model
        )

    @property
    def is_berts(self) -> bool:
        """Whether the class that reads the tokenizer is one of BERT's."""
        name = self.config.get("tokenizer_class")
        return name is None or (isinstance(name, str) and _WORDPIECE_CLASSES.fullmatch(name) is not None)

    def normalizer(self) -> dict[str, Any]:
        """Return what is said about case, accents and Chinese characters, under the names in a tokenizer.json."""
        if not self.is_berts:
            return {}
        wrong = [name for name in _SETTINGS if not isinstance(self.config.get(name), bool | None)]
        if wrong:
            raise DataError(f"{self.place}: {wrong[0]} is {self.config[wrong[0]]!r:.60}: write true, false or null")
        said = {ours: self.config[theirs] for theirs, ours in _SETTINGS.items() if theirs in self.config}
        return {name: value for name, value in said.items() if value is not None or name == "strip_accents"}

    def names(self, vocabulary: Mapping[str, int]) -> tuple[str, ...]:
        """Return the names of the special tokens; an empty one where the directory and the vocabulary have none."""
        said = (self.config.get(role) or self.special_tokens.get(role) for role in _ROLES)
        named = [value.get("content") if isinstance(value, dict) else value for value in said]
        return tuple(
            name if isinstance(name, str) and name in vocabulary else usual
            for name, usual in zip(named, special_tokens_of(vocabulary), strict=True)
        )

    def added(self, path: Path) -> "Iterator[tuple[int, AddedToken]]":
        """Yield the tokens that the directory adds to a vocab.txt, in the order of their ids."""
        from tokenizers import AddedToken  # noqa: PLC0415

        try:
            found: dict[int, tuple[str, dict[str, bool]]] = {}
            for token, token_id in self.added_tokens.items():
                found[int(token_id)] = (token, {})
            for number, facts in (self.config.get("added_tokens_decoder") or {}).items():
                flags = {name: bool(value) for name, value in facts.items() if name not in {"content", "__type"}}
                found[int(number)] = (facts["content"], flags)
            for place, (content, flags) in sorted(found.items()):
                yield place, AddedToken(content, **flags)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"the tokens added to {path} cannot be read: {error!s:.100}") from error

    def ignored(self) -> Iterator[str]:
        """Yield notes about settings that only transformers' slow tokenizers follow."""
        never_split = self.config.get("never_split")
        kept = [token for token in never_split if token not in SPECIAL_TOKENS] if isinstance(never_split, list) else []
        if kept:
            yield f"{self.place} has never_split {kept!r:.60}: not followed, as in transformers' fast tokenizers"
        if self.config.get("do_basic_tokenize") is False:
            yield f"{self.place} has do_basic_tokenize false: not followed, as in transformers' fast tokenizers"


def _file_in(directory: Path) -> Path:
    for name in (TOKENIZER_NAME, VOCABULARY_NAME):
        if (directory / name).is_file():
            return directory / name
    others = sorted(path.name for pattern in ("vocab.json", "*.model") for path in directory.glob(pattern))
    advice = f"write one from its {others[0]:.60} with transformers' AutoTokenizer" if others else "copy its model's"
    raise MissingInputError(f"{directory} has no vocabulary ({TOKENIZER_NAME} or {VOCABULARY_NAME}): {advice}")


def _object(path: Path) -> Mapping[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object: fetch it again")
    return content


def _text(path: Path) -> str:
    """Return the text of a file without a byte order mark, its line ends as those of Unix."""
    try:
        refuse_lfs_pointer(path)
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return text.replace("\r\n", "\n")


def _of_json(path: Path, text: str, settings: _Settings) -> tuple[Tokenizer, list[str]]:
    tokenizer = parse_tokenizer(text, str(path), names=settings.names)
    content = json.loads(tokenizer.backend.to_str())
    if (content["normalizer"] or {}).get("type") != "BertNormalizer":
        return tokenizer, []
    content["normalizer"] |= settings.normalizer()
    changed = parse_tokenizer(json.dumps(content), str(path), names=settings.names)
    before, after = (settings_of(each.backend) for each in (tokenizer, changed))
    notes = [
        f"{settings.place} says {name} is {value}, and {path.name} {before.get(name)}: the former is used"
        for name, value in after.items()
        if before.get(name) != value
    ]
    return changed, notes


def _of_vocabulary(path: Path, text: str, settings: _Settings) -> tuple[Tokenizer, list[str]]:
    tokens = text.rstrip("\n").split("\n")
    named = dict(zip(tokens, range(len(tokens)), strict=True))  # of a token that is there twice, the last
    added = list(settings.added(path))
    names = settings.names(named | {token.content: token_id for token_id, token in added})
    missing = [usual for usual, name in zip(SPECIAL_TOKENS, names, strict=True) if not name]
    if missing:
        raise DataError(f"{path} lacks {' '.join(missing)}: a BERT vocabulary needs all of {' '.join(SPECIAL_TOKENS)}")
    has_pieces = any(token.startswith(CONTINUATION) and token != CONTINUATION for token in tokens)
    if not (has_pieces or settings.is_model or settings.place):
        return _of_words(path, tokens), []
    if not settings.is_berts:
        kind = settings.config["tokenizer_class"]
        raise DataError(
            f"{path} is the vocabulary of {kind!s:.60}, and bertpipe reads BertTokenizer's: save that one's "
            f"{TOKENIZER_NAME} beside it"
        )
    said = settings.normalizer()
    notes = []
    if "lowercase" not in said:
        guessed, evidence = _guessed(tokens, names)
        said = guessed | said
        if evidence:
            notes.append(f"{path} comes without do_lower_case, and has {evidence!r:.60}: {_kept(said)}")
    if twice := [token for place, token in enumerate(tokens) if named[token] != place]:
        notes.append(f"{path} has {len(twice)} token(s) twice, such as {twice[0]!r:.60}: the last line is its id")
    pieces = [token if named[token] == place else unknown_token(place) for place, token in enumerate(tokens)]
    settings_in_full: dict[str, Any] = {"strip_accents": None} | said
    tokenizer = wordpiece_tokenizer(pieces, special_tokens=names, **settings_in_full)
    for token_id, token in added:
        tokenizer.backend.add_tokens([token])
        if tokenizer.backend.token_to_id(token.content) != token_id:
            raise DataError(
                f"the tokens added to {path} give {token.content!r:.60} the id {token_id}, and it gets "
                f"{tokenizer.backend.token_to_id(token.content)}: number them without gaps"
            )
    return tokenizer, notes


def _of_words(path: Path, tokens: Sequence[str]) -> Tokenizer:
    if tuple(tokens[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise DataError(
            f"{path} has no {CONTINUATION} pieces, so its tokens are words, and a vocabulary of words begins with "
            f"{' '.join(SPECIAL_TOKENS)}, this one with {' '.join(tokens[: len(SPECIAL_TOKENS)]):.100}"
        )
    return word_level_tokenizer(tokens)


def _guessed(tokens: Sequence[str], names: Sequence[str]) -> tuple[dict[str, bool], str | None]:
    """Return whether a vocabulary was made of lower-cased text without accents, and a token that shows otherwise."""
    words = [token for token in tokens if token not in names and not re.fullmatch(r"\[.*\]|<.*>", token)]
    capital = next((token for token in words if token != token.lower()), None)
    if capital is not None:
        return {"lowercase": False}, capital
    accent = next((token for token in words if _has_accent(token)), None)
    return {"lowercase": True, "strip_accents": accent is None}, accent


def _kept(said: Mapping[str, Any]) -> str:
    return "accents are kept" if said["lowercase"] else "capitals and accents are kept"


def _case(tokenizer: Tokenizer) -> tuple[bool, bool]:
    """Return whether a tokenizer lower-cases, and whether it strips accents."""
    normalizer = tokenizer.backend.normalizer
    read = normalizer.normalize_str("É") if normalizer else "É"
    return read == read.lower(), not _has_accent(read)


def _has_accent(token: str) -> bool:
    return any(unicodedata.category(character) == "Mn" for character in unicodedata.normalize("NFD", token))
