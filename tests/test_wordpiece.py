"""WordPiece: the same vocabulary on every run, from what it is given; and vocabularies that a user brings."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertpipe.core.errors import DataError
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer
from bertpipe.data.tokenization.vocabulary import count_words
from bertpipe.data.tokenization.wordpiece import train_wordpiece
from bertpipe.sources.sample.reviews import generate_reviews

BERT_ORDER = ("[PAD]", "the", "cat", "##s", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens elsewhere than ours, as in bert-base-uncased."""


def trained(
    *texts: str, vocab_size: int = 100, min_frequency: int = 1, lowercase: bool = True, strip_accents: bool = False
) -> Tokenizer:
    counts = count_words(texts, as_words=False, lowercase=lowercase, strip_accents=strip_accents)
    return train_wordpiece(
        counts.words.items(),
        counts.characters,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        lowercase=lowercase,
        strip_accents=strip_accents,
    )


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.tokens(range(tokenizer.vocab_size))


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.tokens(tokenizer.encode(text))


def digest() -> str:
    """Return the hash of a vocabulary made from the sample's reviews, many of whose pairs are equally frequent."""
    reviews = [review.text for review in generate_reviews(seed=7, films=40, reviews=150)]
    return hashlib.sha256(trained(*reviews, vocab_size=600).backend.to_str().encode()).hexdigest()


def test_the_vocabulary_is_the_same_in_every_process() -> None:
    code = "from test_wordpiece import digest; print(digest())"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert found == {f"{digest()}\n"}


def test_pieces_worked_by_hand() -> None:
    # "ab" stands three times, "##bc" never: of "abc" the pair "a ##b" is merged first, then "ab ##c".
    tokenizer = trained("ab ab abc, c", vocab_size=100)
    assert vocabulary(tokenizer) == [*SPECIAL_TOKENS, "##a", "##b", "##c", ",", "a", "b", "c", "ab", "abc"]
    assert tokens(tokenizer, "abcab,") == ["abc", "##a", "##b", ","]


def test_a_piece_has_to_be_frequent_enough() -> None:
    assert "abc" not in vocabulary(trained("ab ab abc", min_frequency=2))
    assert "ab" in vocabulary(trained("ab ab abc", min_frequency=2))


def test_the_vocabulary_is_no_larger_than_asked_for() -> None:
    reviews = [review.text for review in generate_reviews(seed=7, films=40, reviews=50)]
    assert trained(*reviews, vocab_size=300).vocab_size == 300


def test_special_tokens_have_their_ids_and_everything_else_is_readable(tmp_path: Path) -> None:
    tokenizer = trained("the cat sat on the mat")
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert tokens(again, "the [MASK] sat") == ["the", "[MASK]", "sat"]
    assert again.backend.to_str() == tokenizer.backend.to_str()
    assert tokens(again, "the § sat") == ["the", "[UNK]", "sat"]


def test_rare_characters_give_way_to_pieces() -> None:
    # A quarter of 100 - 5 entries: 23 characters, the most frequent ones, the first by code among equals.
    rare = "".join(chr(code) for code in range(0x4E00, 0x4E00 + 50))
    found = vocabulary(trained(f"aaa bb {rare}"))
    assert [token for token in found if len(token) == 1] == ["a", "b", *rare[:21]]


def test_marks_and_chinese_characters_never_go_on_with_a_word() -> None:
    found = set(vocabulary(trained("it's 日本, isn't it")))
    assert {"'", "日", ",", "##s"} <= found
    assert not {"##'", "##日", "##,"} & found


@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "expected"),
    [
        (True, False, ["sí", "si", "año"]),
        (True, True, ["si", "si", "ano"]),
        (False, False, ["Sí", "si", "Año"]),
    ],
)
def test_spanish_keeps_its_accents_unless_told_not_to(
    lowercase: bool, strip_accents: bool, expected: list[str]
) -> None:
    tokenizer = trained(*["Sí, si es así. El Año"] * 3, lowercase=lowercase, strip_accents=strip_accents)
    assert tokens(tokenizer, "Sí si Año") == expected


def test_words_above_the_limit_take_no_part_in_the_vocabulary() -> None:
    lines = [f"a bright day {number}" for number in range(20)]
    blob, limit = "0a1b2c3d" * 50_000, "de" * 50
    plain = count_words([*lines, limit], as_words=False, lowercase=True, strip_accents=False)
    long = count_words([*lines, limit, blob, limit + "d"], as_words=False, lowercase=True, strip_accents=False)
    assert (long.words, long.too_long, plain.too_long) == (plain.words, 2, 0)
    tokenizer = trained(*lines, limit, blob, vocab_size=150)
    assert tokens(tokenizer, f"a {limit}d day") == ["a", "[UNK]", "day"]
    assert "[UNK]" not in tokens(tokenizer, limit)
    assert max(map(len, vocabulary(tokenizer))) <= 100 + len("##")


@pytest.mark.parametrize("as_words", [False, True])
def test_a_picture_within_a_text_fills_no_vocabulary(as_words: bool) -> None:
    picture = "src=data:image/png;base64," + "iVBO/Rw0+KGgo/" * 500
    text = f"see the {picture} here"
    counts = count_words([text], as_words=as_words, lowercase=True, strip_accents=False)
    assert counts.words == {"see": 1, "the": 1, "here": 1}
    assert counts.too_long == 1


def test_a_language_without_spaces_has_long_strings_of_short_words() -> None:
    counts = count_words(["天地玄黄" * 500, "\x0b a b" * 500], as_words=False, lowercase=True, strip_accents=False)
    assert counts.words == {**dict.fromkeys("天地玄黄ab", 500)}
    assert counts.too_long == 0


def test_texts_without_characters_are_refused() -> None:
    with pytest.raises(DataError, match="no characters"):
        trained(" \n ")
