"""Token ids of exported tokenizers, as `AutoTokenizer` reads them, on any text at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from bertpipe.data.tokenization.tokenizer import Tokenizer, parse_tokenizer
from bertpipe.export.huggingface import save_huggingface_tokenizer
from exports import PIECES, WORDS, piece_tokenizer, word_tokenizer

TOKENIZERS = {
    "words": word_tokenizer(),
    "pieces": piece_tokenizer(),
    "pieces without accents": piece_tokenizer(strip_accents=True),
    "cased pieces": piece_tokenizer(lowercase=False),
}
PARTS = (*WORDS, *PIECES, " ", "<br />", '"', "É", "E\u0301", "\u00a0", "\x1e", "İ", "ß", "猫", "\u200d", "\n")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return each tokenizer as AutoTokenizer reads it from its export."""
    from transformers import AutoTokenizer

    found = {}
    for name, tokenizer in TOKENIZERS.items():
        folder = tmp_path_factory.mktemp("tokenizer")
        save_huggingface_tokenizer(folder, tokenizer, max_positions=17)
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
        found[name] = AutoTokenizer.from_pretrained(folder)
    return found


@pytest.mark.parametrize("name", TOKENIZERS)
@given(
    first=st.text() | st.lists(st.sampled_from(PARTS)).map("".join),
    second=st.text(min_size=1) | st.lists(st.sampled_from(PARTS), min_size=1).map("".join),
)
def test_ids_and_segments_are_ours(read: dict[str, Any], name: str, first: str, second: str) -> None:
    own = TOKENIZERS[name]
    _, cls_id, sep_id, _, _ = own.special_ids
    one, other = own.encode(first), own.encode(second)
    single, pair = read[name](first), read[name](first, second)
    assert single["input_ids"] == [cls_id, *one, sep_id]
    assert pair["input_ids"] == [cls_id, *one, sep_id, *other, sep_id]
    assert single["token_type_ids"] == [0] * (len(one) + 2)
    assert pair["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(other) + 1)


def test_what_a_given_tokenizer_does_around_texts_is_bertpipes(tmp_path: Path) -> None:
    """A tokenizer.json may join texts in its own way, cut them and pad them; bertpipe never lets it."""
    from transformers import AutoTokenizer

    given_one = piece_tokenizer()
    given_one.backend.post_processor = processors.TemplateProcessing(
        single="[SEP] $A", pair="$A $B", special_tokens=[("[SEP]", 3)]
    )
    given_one.backend.enable_truncation(4)
    given_one.backend.enable_padding(length=14)
    content = json.loads(given_one.backend.to_str())
    content["added_tokens"][4]["lstrip"] = True  # of [MASK]
    before = parse_tokenizer(json.dumps(content), "given")
    as_it_was = before.backend.to_str()
    save_huggingface_tokenizer(tmp_path, before, max_positions=17)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("the cat [MASK] on the mat")["input_ids"] == [2, 5, 6, 4, 8, 5, 9, 3]
    with_tokenizers_alone = parse_tokenizer((tmp_path / "tokenizer.json").read_text(encoding="utf-8"), "exported")
    assert with_tokenizers_alone.backend.encode("the cat on the mat the cat on the mat").ids == [
        2, 5, 6, 8, 5, 9, 5, 6, 8, 5, 9, 3,
    ]  # fmt: skip
    assert before.backend.to_str() == as_it_was


def test_equal_tokenizers_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save_huggingface_tokenizer(tmp_path / name, Tokenizer(word_tokenizer().backend), max_positions=17)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
