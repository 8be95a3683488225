"""Token ids of exported tokenizers, as the classes of transformers read them, on any text at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, parse_tokenizer
from bertpipe.data.tokenization.user_tokenizer import given_tokenizer
from bertpipe.data.tokenization.wordpiece import wordpiece_tokenizer
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


TEXTS = (
    "The cat's MAT, sat.",
    "Café CAFÉ cafe\u0301 naïve é",
    "猫 the猫cat 日本語",
    "the😀cat 👩\u200d👧 🇩🇪",
    "[MASK] cat[MASK] [mask] [UNK]",
    "  the\tcat\n\x00\u00ad\ufffd dog ",
    "İSTANBUL ΣΑΣ ß",
    "s" * 101,
    "newword",
    "",
)
BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast")
ALL_CLASSES = ("AutoTokenizer", "PreTrainedTokenizerFast")


def exported(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Write a tokenizer as `export` does, and return its tokenizer_config.json."""
    save_huggingface_tokenizer(folder, tokenizer, max_positions=170)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    content: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    return content


def assert_same(theirs: Any, own: Tokenizer) -> None:  # noqa: ANN401
    """Compare ids and token types of single texts and of pairs."""
    _, cls_id, sep_id, _, _ = own.special_ids
    for first in TEXTS:
        one = [cls_id, *own.encode(first), sep_id]
        single = theirs(first)
        assert (single["input_ids"], single["token_type_ids"]) == (one, [0] * len(one)), first
        for second in filter(None, TEXTS):  # transformers takes an empty B for none
            other = [*own.encode(second), sep_id]
            pair = theirs(first, second)
            assert pair["input_ids"] == [*one, *other], (first, second)
            assert pair["token_type_ids"] == [0] * len(one) + [1] * len(other)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False, None])
@pytest.mark.parametrize("chinese", [True, False])
def test_every_class_for_bert_gives_the_ids_of_a_wordpiece(
    tmp_path: Path, lowercase: bool, strip_accents: bool | None, chinese: bool
) -> None:
    content = json.loads(
        wordpiece_tokenizer([*PIECES, "猫", "##猫", "É"], lowercase=lowercase, strip_accents=False).backend.to_str()
    )
    content["normalizer"] |= {"strip_accents": strip_accents, "handle_chinese_chars": chinese}
    own = parse_tokenizer(json.dumps(content), "pieces")
    config = exported(tmp_path, own)
    told = {name: config[name] for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars")}
    assert told == {"do_lower_case": lowercase, "strip_accents": strip_accents, "tokenize_chinese_chars": chinese}
    assert config["tokenizer_class"] == "BertTokenizer"  # in transformers.js it alone returns token types unasked
    for name in (*ALL_CLASSES, *BERT_CLASSES):
        assert_same(getattr(transformers, name).from_pretrained(tmp_path), own)
    (tmp_path / "tokenizer.json").unlink()
    assert_same(transformers.BertTokenizer.from_pretrained(tmp_path), own)  # from the vocab.txt, as old releases do


def test_the_settings_of_a_tokenizer_from_hugging_face_survive(tmp_path: Path) -> None:
    settings = {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False}
    vocab = {piece: number for number, piece in enumerate(PIECES)}
    theirs = transformers.BertTokenizer(vocab=vocab, **settings)
    theirs.save_pretrained(tmp_path / "theirs")
    own = given_tokenizer(tmp_path / "theirs", lowercase=True, strip_accents=False).tokenizer
    (tmp_path / "export").mkdir()
    assert exported(tmp_path / "export", own).items() >= settings.items()
    back = transformers.BertTokenizer.from_pretrained(tmp_path / "export")
    for text in TEXTS:
        assert back(text)["input_ids"] == theirs(text)["input_ids"]


def test_a_vocab_txt_has_one_token_per_line_in_the_order_of_the_ids(tmp_path: Path) -> None:
    exported(tmp_path, piece_tokenizer())
    assert (tmp_path / "vocab.txt").read_text(encoding="utf-8").split("\n") == [*PIECES, ""]


def set_to(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:  # noqa: ANN401
    """Return a change of one value of a tokenizer.json."""

    def change(content: dict[str, Any]) -> None:
        for name in path[:-1]:
            content = content[name]
        content[path[-1]] = value

    return change


def changed_pieces(change: Callable[[dict[str, Any]], None]) -> Tokenizer:
    content = json.loads(piece_tokenizer().backend.to_str())
    change(content)
    return parse_tokenizer(json.dumps(content), "changed")


def trained(model: Any, pre_tokenizer: Any, decoder: Any, trainer: Any) -> Tokenizer:  # noqa: ANN401
    backend = Backend(model)
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    backend.train_from_iterator(["the cat sat on the mat, café 猫 dog"] * 9, trainer)
    return Tokenizer(backend)


def byte_level() -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=[*SPECIAL_TOKENS], initial_alphabet=alphabet, show_progress=False
    )
    return trained(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), trainer)


def unigram() -> Tokenizer:
    trainer = trainers.UnigramTrainer(
        vocab_size=40, special_tokens=[*SPECIAL_TOKENS], unk_token="[UNK]", show_progress=False
    )
    return trained(models.Unigram(), pre_tokenizers.Metaspace(), decoders.Metaspace(), trainer)


def with_an_added_word() -> Tokenizer:
    tokenizer = piece_tokenizer()
    tokenizer.backend.add_tokens(["newword"])
    return Tokenizer(tokenizer.backend)


OTHERS: dict[str, Callable[[], Tokenizer]] = {
    "words": word_tokenizer,
    "byte-level": byte_level,
    "unigram": unigram,
    "added word": with_an_added_word,
    "longer words": lambda: changed_pieces(set_to("model", "max_input_chars_per_word", value=200)),
    "other prefix": lambda: changed_pieces(set_to("model", "continuing_subword_prefix", value="@@")),
    "controls kept": lambda: changed_pieces(set_to("normalizer", "clean_text", value=False)),
    "no normalizer": lambda: changed_pieces(set_to("normalizer", value=None)),
    "white space only": lambda: changed_pieces(set_to("pre_tokenizer", value={"type": "WhitespaceSplit"})),
    "composed first": lambda: changed_pieces(
        lambda content: content.update(
            normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, content["normalizer"]]}
        )
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_tokenizer_keeps_its_own_class(tmp_path: Path, name: str) -> None:
    own = OTHERS[name]()
    config = exported(tmp_path, own)
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not (tmp_path / "vocab.txt").exists()  # transformers 4 would read it with the wrong preparation
    for each in ALL_CLASSES:
        assert_same(getattr(transformers, each).from_pretrained(tmp_path), own)


def test_equal_tokenizers_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save_huggingface_tokenizer(tmp_path / name, Tokenizer(piece_tokenizer().backend), max_positions=17)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
