"""Text to ids: torchtext's `basic_english`, and the tokenizer file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import vocabularies
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.data.tokenization.tokenizer import (
    MASK_ID,
    SPECIAL_TOKENS,
    UNK_ID,
    Tokenizer,
    basic_english,
    load_tokenizer,
    parse_tokenizer,
    word_level_tokenizer,
)
from bertpipe.data.tokenization.vocabulary import rank_words
from datasets import word_piece_tokenizer
from vocabularies import byte_level, llama_like, sentencepiece, unmarked, with_word_ends

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


# Every kind of vocabulary


MARKED: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "byte-level, no space in front": lambda: byte_level(add_prefix_space=False),
    "SentencePiece": lambda: sentencepiece([*set("".join(vocabularies.TEXTS)), "▁", "▁ni", "ño", "▁El", "▁árbol"]),
    "SentencePiece by the normalizer": llama_like,
    "ends of words": with_word_ends,
}


def words_of(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the words that the tables find in the tokens of a text, each decoded."""
    words: list[bytes] = []
    ids = tokenizer.encode(text)
    for before, token_id in zip([tokenizer.special_ids[1], *ids], ids, strict=False):
        token = tokenizer.pieces.text(tokenizer.tokens([token_id])[0])
        if tokenizer.continues_word[token_id] and not tokenizer.ends_word[before]:
            words[-1] += token
        else:
            words.append(token)
    return [word.decode("utf-8").strip() for word in words]


@pytest.mark.parametrize("text", vocabularies.TEXTS)
@pytest.mark.parametrize("kind", MARKED)
def test_the_words_of_a_vocabulary_that_marks_them_are_the_texts(kind: str, text: str) -> None:
    """The tables cut as BERT does: at white space and around punctuation, but never within a word."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    tokenizer = MARKED[kind]()
    expected = [word for word, _ in BertPreTokenizer().pre_tokenize_str(text)]
    found = [word for word in words_of(tokenizer, text) if word]
    assert "".join(found) == "".join(expected)
    starts = np.cumsum([0, *map(len, expected)]).tolist()
    cuts = np.cumsum([0, *map(len, found)]).tolist()
    assert set(cuts) <= set(starts)  # no word is cut
    assert len(cuts) > len(starts) / 2  # some are joined: a piece such as `?»,` holds several


@pytest.mark.parametrize("text", vocabularies.TEXTS)
def test_the_bytes_of_byte_level_and_sentencepiece_tokens_are_the_texts(text: str) -> None:
    for make in (MARKED["byte-level"], llama_like):  # these put a space in front
        tokenizer = make()
        assert tokenizer.token_bytes[tokenizer.encode(text)].sum() == len(f" {text}".encode())
    bare = byte_level(add_prefix_space=False)
    assert bare.token_bytes[bare.encode(text)].sum() == len(text.encode())
    ends = with_word_ends()
    assert ends.token_bytes[ends.encode(text)].sum() == len(text.replace(" ", "").encode())


def test_bytes_are_those_of_the_normalised_text() -> None:
    tokenizer = sentencepiece(["▁", *"abcß"], lowercase=True)
    assert tokenizer.token_bytes[tokenizer.encode("A BC")].sum() == len(" a bc")


def test_characters_that_are_cut_into_bytes_stay_in_one_word() -> None:
    tokenizer = byte_level(["ab"], add_prefix_space=False, size=262)  # hardly any merge: every byte is a token
    assert words_of(tokenizer, "ñandú 猫!") == ["ñandú", "", "猫", "!"]
    assert words_of(llama_like(), "¡猫!")[1:] == ["¡", "猫", "!"]


def test_a_chinese_character_is_a_word() -> None:
    tokenizer = sentencepiece(["▁", *"我爱猫", "ab"])
    assert words_of(tokenizer, "我爱ab猫") == ["", "我", "爱", "ab", "猫"]


def test_what_an_added_token_spells_is_literal() -> None:
    tokenizer = byte_level()
    tokenizer.backend.add_tokens(["Ġx", "ñ"])
    read = parse_tokenizer(tokenizer.backend.to_str(), "made")
    ids = [read.backend.token_to_id(token) for token in ("Ġx", "ñ")]
    assert read.token_bytes[ids].tolist() == [3, 2]


def test_a_vocabulary_without_marks_says_so() -> None:
    assert not unmarked().pieces.marks_words
    assert not word_piece_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"], prefix="").pieces.marks_words
    assert all(make().pieces.marks_words for make in MARKED.values())
    assert word_level_tokenizer([*SPECIAL_TOKENS, *WORDS]).pieces.marks_words
