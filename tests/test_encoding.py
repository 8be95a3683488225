"""The encoder: the ids that the tokenizer gives, whatever the text, and no special token out of a text."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from bertpipe.data.tokenization import encoder
from bertpipe.data.tokenization.encoder import Encoder
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, word_level_tokenizer
from bertpipe.data.tokenization.wordpiece import wordpiece_tokenizer

WORDS = (
    "the", "cat", "sat", "##s", "##at", "c", "a", "b", "e", "s", "##c", "##a", "##b", "##e", "i", "##i", "é", "##é",
    "日", ".", ",", "'", '"', "<", ">", "/", "br", "[", "]", "mask", "sep", "-", "##\u0307",
)  # fmt: skip
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["the", "cats", "Cat's", "<br />", '<br" />', "[MASK]", "[SEP]", "[sep]", "été", "ÉTÉ", "İi", "ﬁ"]
        ),
        st.text(
            st.sampled_from("acste.,'\"<>/[] \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u3000\u200b\ufeff\x00"),
            max_size=8,
        ),
        st.text(max_size=8),
    ),
    max_size=8,
).map("".join)


def bert(*, lowercase: bool = True, strip_accents: bool = False) -> Tokenizer:
    return wordpiece_tokenizer([*SPECIAL_TOKENS, *WORDS], lowercase=lowercase, strip_accents=strip_accents)


def words(*, composed: bool = False) -> Tokenizer:
    known = [word for word in WORDS if not word.startswith("##")]
    return word_level_tokenizer([*SPECIAL_TOKENS, *known, "été"], composed=composed)


def across_spaces() -> Tokenizer:
    """Return a tokenizer whose tokens may hold white space."""
    vocabulary = {token: token_id for token_id, token in enumerate([*SPECIAL_TOKENS, "a", "b", "a b"])}
    backend = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(",", "removed")
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return Tokenizer(backend)


def asked(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """Return what the tokenizer itself says, told to read special tokens as letters; `[UNK]` where it cannot."""
    backend = Backend.from_str(tokenizer.backend.to_str())
    backend.encode_special_tokens = True

    def ids(text: str) -> list[int]:
        found = backend.encode(text, add_special_tokens=False).ids
        return [tokenizer.unknown_id if token_id in tokenizer.special_ids else token_id for token_id in found]

    return ids


def encoded(encoder: Encoder, texts: list[str]) -> list[list[int]]:
    token_ids, counts = encoder.encode(texts)
    assert token_ids.dtype == np.int32
    assert len(counts) == len(texts)
    return [part.tolist() for part in np.split(token_ids, np.cumsum(counts)[:-1])] if texts else []


@pytest.mark.parametrize(
    "make",
    [
        bert,
        lambda: bert(lowercase=False),
        lambda: bert(strip_accents=True),
        words,
        lambda: words(composed=True),
        across_spaces,
    ],
    ids=["bert", "cased", "without accents", "words", "composed words", "across spaces"],
)
def test_ids_are_those_of_the_tokenizer(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    encoder, expected = Encoder(tokenizer), asked(tokenizer)

    @settings(max_examples=400)
    @given(st.lists(TEXTS, min_size=1, max_size=4))
    @example(["a\x1cb", "a\x0bb", "a\x85b", "a\u2028b", "a\xa0b"])
    @example(['<br" />'])
    @example(["", " "])
    @example(["e\u0301te\u0301", 'e"\u0301 \u0301', "e<br />\u0301"])
    @example(["s" * 100, "s" * 101, "aB3" * 40 + ".s", "the " + "s" * 500 + "-" + "s" * 99, "é" * 101, "e\u0301" * 60])
    def check(texts: list[str]) -> None:
        assert encoded(encoder, texts) == list(map(expected, texts))

    check()


@pytest.mark.parametrize("make", [bert, words])
def test_every_character_on_its_own_and_between_letters(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    characters = [chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000]
    texts = [f"a{character}b {character}" for character in characters]
    assert encoded(Encoder(tokenizer), texts) == list(map(asked(tokenizer), texts))


def test_worked_by_hand() -> None:
    ids = {token: token_id for token_id, token in enumerate([*SPECIAL_TOKENS, *WORDS])}
    (found,) = encoded(Encoder(bert()), ["The cats sat."])
    assert found == [ids["the"], ids["cat"], ids["##s"], ids["sat"], ids["."]]


def test_special_tokens_in_a_text_are_letters() -> None:
    for make in (bert, words):
        tokenizer = make()
        unmasked = [token_id for token_id in tokenizer.special_ids if token_id != tokenizer.unknown_id]
        token_ids, _ = Encoder(tokenizer).encode([f"the {token} cat{token}" for token in SPECIAL_TOKENS])
        assert not set(token_ids.tolist()) & set(unmasked)
        assert tokenizer.mask_id in tokenizer.encode("the [MASK]")  # the tokenizer itself is left as it was


def test_a_special_token_that_is_a_word_like_any_other_becomes_unknown() -> None:
    backend = Backend(models.WordLevel({token: i for i, token in enumerate([*SPECIAL_TOKENS, "a"])}, unk_token="[UNK]"))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    assert encoded(Encoder(Tokenizer(backend)), ["a [MASK] a"]) == [[5, 4, 5]]


def test_words_are_forgotten_when_there_are_too_many_and_ids_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_WORDS_KEPT", 3)
    tokenizer = bert()
    texts = ["cats sat the cat. a, b; c: ats", "the the cats", "bats eats seats " + "s" * 90]
    assert encoded(Encoder(tokenizer), texts) == list(map(asked(tokenizer), texts))


def test_a_tokenizer_that_cuts_and_pads_is_not_asked_to() -> None:
    tokenizer = bert()
    tokenizer.backend.enable_truncation(2)
    tokenizer.backend.enable_padding(length=9)
    (found,) = encoded(Encoder(tokenizer), ["the cat sat"])
    assert len(found) == 3
