"""Text to ids: torchtext's `basic_english`, and the tokenizer file."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.data.tokenization.tokenizer import (
    MASK_ID,
    SPECIAL_TOKENS,
    UNK_ID,
    basic_english,
    load_tokenizer,
    word_level_tokenizer,
)
from bertpipe.data.tokenization.vocabulary import rank_words
from datasets import word_piece_tokenizer

WORDS = ("the", "cat", "'", "s", ".", "mask")
MARKS = "'\".,()!?;:<>/ \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u2028\u3000"
# Letters whose lower case Python and Rust may write with different characters are for no English text.
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["<br />", "<BR />", "don't", "Mr.", "...", "ÉTÉ", "naïve", "日本", "[MASK]"]),
        st.text(st.characters(max_codepoint=0x17F, exclude_characters="\u0130"), max_size=6),
        st.text(MARKS, max_size=4),
    )
).map("".join)


def by_the_rules(text: str) -> list[str]:
    """Return the words as the design writes the rules down, in Python."""
    text = text.lower().replace("'", " ' ").replace('"', "").replace(".", " . ").replace("<br />", " ")
    for mark in ",()!?":
        text = text.replace(mark, f" {mark} ")
    return text.replace(";", " ").replace(":", " ").split()


@given(TEXTS)
@example('It\'s <br />a "good" film (really)!  Yes; no: maybe? A.B,C')
@example("a\x1cb\x85c\u3000d")
@example("<BR />x<br/>y<br />z")
def test_basic_english_follows_the_rules(text: str) -> None:
    assert list(basic_english([text])) == [by_the_rules(text)]


def test_basic_english_worked_by_hand() -> None:
    assert list(basic_english(["It's GOOD.<br /><br />Isn't \"it\"? (Yes; no: 3.5!)", ""])) == [
        ["it", "'", "s", "good", ".", "isn", "'", "t", "it", "?", "(", "yes", "no", "3", ".", "5", "!", ")"],
        [],
    ]


def test_ids_are_places_in_the_vocabulary() -> None:
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, *WORDS])
    assert tokenizer.encode("The CAT's hat.") == [5, 6, 7, 8, UNK_ID, 9]
    assert tokenizer.encode("the [MASK] mask [mask]") == [5, MASK_ID, 10, UNK_ID]
    assert tokenizer.encode("") == []
    assert tokenizer.vocab_size == 11
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert (tokenizer.mask_id, tokenizer.unknown_id) == (3, 4)
    assert tokenizer.is_special.tolist() == [True] * 5 + [False] * 6


def test_an_id_without_a_word_reads_as_unknown() -> None:
    tokenizer = word_level_tokenizer([*SPECIAL_TOKENS, *WORDS])
    ids = np.array([1, 6, 99])
    assert tokenizer.tokens(ids) == ["[CLS]", "cat", "[unknown-99]"]  # type: ignore[arg-type]


def test_a_tokenizer_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    saved = word_level_tokenizer([*SPECIAL_TOKENS, *WORDS])
    saved.save(path)
    first = path.read_bytes()
    read = load_tokenizer(path)
    text = "The [MASK]'s \x1ccat."
    assert read.encode(text) == saved.encode(text) == [5, 3, 7, 8, 6, 9]
    read.save(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize("words", [(), ("a", "b"), ("[CLS]", "[PAD]", "[SEP]", "[MASK]", "[UNK]", "a")])
def test_a_vocabulary_begins_with_the_special_tokens(words: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"begins with \[PAD\] \[CLS\] \[SEP\] \[MASK\] \[UNK\]"):
        word_level_tokenizer(words)


def test_a_word_named_twice_is_refused() -> None:
    with pytest.raises(DataError, match="names 'cat' twice"):
        word_level_tokenizer([*SPECIAL_TOKENS, "the", "cat", "sat", "cat"])


def test_a_missing_tokenizer_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="run `bertpipe convert` or `bertpipe prepare` first"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "1.0"}'])
def test_what_is_not_a_tokenizer_is_said_to_be_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"is not a tokenizer\.json"):
        load_tokenizer(path)


def test_a_tokenizer_without_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    word_level_tokenizer([*SPECIAL_TOKENS, *WORDS]).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "[MASK]"]
    del content["model"]["vocab"]["[MASK]"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"lacks \[MASK\]"):
        load_tokenizer(path)


def test_a_vocabulary_ranks_words_by_frequency_then_spelling() -> None:
    texts = [["b", "a", "c", "a"], ["c", "d", "[MASK]", "[PAD]"], []]
    assert rank_words(texts) == [*SPECIAL_TOKENS, "a", "c", "b", "d"]
    assert rank_words([]) == list(SPECIAL_TOKENS)


def test_pieces_that_continue_a_word_are_told_by_the_tokenizers_own_prefix() -> None:
    vocabulary = ["[PAD]", "##s", "[UNK]", "[CLS]", "[SEP]", "cat", "[MASK]", "#", "##", "@@s"]
    assert np.flatnonzero(word_piece_tokenizer(vocabulary).continues_word).tolist() == [1, 8]
    assert np.flatnonzero(word_piece_tokenizer(vocabulary, prefix="@@").continues_word).tolist() == [9]
    assert not word_level_tokenizer([*SPECIAL_TOKENS, "##s"]).continues_word.any()


def test_special_tokens_continue_no_word_whatever_the_prefix() -> None:
    assert not word_piece_tokenizer([*SPECIAL_TOKENS, "cat"], prefix="[").continues_word.any()


def test_the_bytes_of_a_token_are_those_of_its_text() -> None:
    pieces = word_piece_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "caf", "##é", "##", "[unknown-8]"])
    assert pieces.token_bytes.tolist() == [0, 0, 0, 0, 0, 3, 2, 0, 0]
    words = word_level_tokenizer([*SPECIAL_TOKENS, "niño", "[unknown-6]"])
    assert words.token_bytes.tolist() == [0, 0, 0, 0, 0, 5, 0]
