"""A tokenizer that a user brings keeps its own settings, in whatever files it comes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer

from bertpipe.core.errors import DataError, MissingInputError, ModelError
from bertpipe.core.params import Params
from bertpipe.data.tokenization.comparison import difference
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, Tokenizer, load_tokenizer, word_level_tokenizer
from bertpipe.data.tokenization.user_tokenizer import GivenTokenizer, given_tokenizer, read_tokenizer
from bertpipe.data.tokenization.wordpiece import wordpiece_tokenizer
from bertpipe.model.huggingface.load import load_huggingface
from bertpipe.stages.evaluate import run_evaluate
from exports import export_of, save_model_with
from models import save_tiny_huggingface
from prepared import Prepare, folder_of
from runs import train
from vocabularies import TEXTS, byte_level, sentencepiece, unmarked

BERT_ORDER = ("[PAD]", "the", "cat", "##s", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens elsewhere than ours, as in bert-base-uncased."""
CASED = (*BERT_ORDER, "The", "el", "él", "El", "Él", "猫", "##猫", "好", ".", "##.", "cat-nip")
SAID = "The cats. El él Él 猫好 cat-nip [MASK]"


def given_file(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join([*lines, ""]).encode("utf-8"))
    return path


def files(folder: Path, **contents: object) -> Path:
    """Write JSON files into a model's folder; `vocabulary` is a vocab.txt, `tokenizer` a tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        contents = {"config": {"model_type": "bert", "vocab_size": 400}} | contents
    for name, content in contents.items():
        if name == "vocabulary":
            given_file(folder / "vocab.txt", *content)  # type: ignore[misc]
        elif isinstance(content, Tokenizer):
            content.save(folder / "tokenizer.json")
        else:
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def given(path: Path, *, lowercase: bool = True, strip_accents: bool = False) -> Tokenizer:
    return given_tokenizer(path, lowercase=lowercase, strip_accents=strip_accents).tokenizer


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.tokens(tokenizer.encode(text))


# A vocab.txt alone


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", [(), ("",), ("", "", "")])
def test_a_vocabulary_with_pieces_is_berts(tmp_path: Path, end: str, tail: tuple[str, ...]) -> None:
    tokenizer = given(given_file(tmp_path / "vocab.txt", *BERT_ORDER, *tail, end=end))
    assert tokenizer.special_ids == (0, 5, 6, 7, 4)
    assert tokenizer.vocab_size == len(BERT_ORDER)
    assert tokens(tokenizer, "The cats, [MASK]") == ["the", "cat", "##s", "[UNK]", "[MASK]"]


def test_a_byte_order_mark_is_not_part_of_the_first_token(tmp_path: Path) -> None:
    path = given_file(tmp_path / "vocab.txt", "\ufeff[PAD]", *BERT_ORDER[1:])
    assert given(path).special_ids[0] == 0


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        (("el", "si"), ["el", "si"], None),  # as bert-base-uncased
        (("él", "el", "sí"), ["él", "sí"], "has 'él': accents are kept"),
        (("Él", "él", "el", "SÍ"), ["Él", "SÍ"], "has 'Él': capitals and accents are kept"),
    ],
)
@pytest.mark.parametrize("lowercase", [False, True])
def test_the_vocabulary_shows_whether_case_and_accents_are_kept(
    tmp_path: Path, words: tuple[str, ...], expected: list[str], said: str | None, lowercase: bool
) -> None:
    path = given_file(tmp_path / "vocab.txt", *BERT_ORDER, *words)
    read = given_tokenizer(path, lowercase=lowercase, strip_accents=True)
    assert tokens(read.tokenizer, "Él SÍ") == expected
    assert any(said in note for note in read.notes) if said else not any("comes without" in note for note in read.notes)


def test_a_vocabulary_of_words_is_the_notebooks(tmp_path: Path) -> None:
    tokenizer = given(given_file(tmp_path / "vocab.txt", *SPECIAL_TOKENS, "cat", "."))
    assert tokens(tokenizer, "Cat. dog") == ["cat", ".", "[UNK]"]


def test_of_a_token_that_is_there_twice_the_last_line_counts(tmp_path: Path) -> None:
    lines = (*BERT_ORDER, "mat", "cat")
    read = read_tokenizer(given_file(tmp_path / "vocab.txt", *lines))
    assert read.tokenizer.encode("the cat") == [1, 9]
    assert read.tokenizer.vocab_size == 10
    assert read.notes == (f"{tmp_path / 'vocab.txt'} has 1 token(s) twice, such as 'cat': the last line is its id",)
    theirs = AutoTokenizer.from_pretrained(files(tmp_path / "hf", vocabulary=lines))
    assert theirs("the cat", add_special_tokens=False)["input_ids"] == [1, 9]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (BERT_ORDER[:-1], r"vocab\.txt lacks \[MASK\]: a BERT vocabulary needs all of"),
        ((*BERT_ORDER[1:], "[PAD]"), r"vocab\.txt: \[PAD\] has id 7, it must be 0: put it first"),
        (
            ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"),
            r"has no ## pieces, .* begins with \[PAD\] \[CLS\] .*, this one with \[PAD\] \[UNK\]",
        ),
        ((*SPECIAL_TOKENS, "a" * 900, "a" * 900), "names .* twice"),
        (("x" * 900,) * 20, "lacks"),
        (("version https://git-lfs.github.com/spec/v1", "oid sha256:0", "size 1"), "fetch it with `git lfs pull`"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path, lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        given(given_file(tmp_path / "vocab.txt", *lines))
    assert len(str(caught.value)) <= 500


def test_a_vocabulary_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(DataError, match=r"vocab\.txt is not UTF-8"):
        given(tmp_path / "vocab.txt")


# A directory with a vocab.txt


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"do_lower_case": True},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": None},
        {"do_lower_case": False, "tokenize_chinese_chars": False},
        {"do_lower_case": False, "tokenizer_class": "BertTokenizer", "never_split": ["cat-nip"]},
        {"do_lower_case": False, "tokenizer_class": "BertTokenizerFast", "model_max_length": 512},
        {"do_lower_case": False, "tokenizer_class": "ElectraTokenizer"},
        {"do_lower_case": False, "mask_token": {"content": "cat", "lstrip": True, "__type": "AddedToken"}},
        {"do_lower_case": False, "unk_token": "el", "mask_token": "猫"},
        {"do_lower_case": False, "added_tokens_decoder": {"2": {"content": "cat", "special": True}}},
    ],
)
def test_a_vocabulary_is_read_with_the_settings_beside_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Transformers' own tokenizer is the judge; the params say something else in any case."""
    folder = files(tmp_path, vocabulary=CASED, tokenizer_config=settings)
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs(SAID, add_special_tokens=False)["input_ids"]
    assert read_tokenizer(folder).tokenizer.encode(SAID) == expected
    assert read_tokenizer(folder / "vocab.txt").tokenizer.encode(SAID) == expected
    ids = (theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id, theirs.unk_token_id)
    assert read_tokenizer(folder).tokenizer.special_ids == ids


def test_a_model_without_pieces_is_wordpiece_still(tmp_path: Path) -> None:
    lines = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "猫", "好")
    folder = files(tmp_path, vocabulary=lines)
    assert read_tokenizer(folder).tokenizer.encode("猫好.") == [5, 6, 1]


@pytest.mark.parametrize("form", ["added_tokens", "added_tokens_decoder"])
def test_tokens_that_are_added_to_a_vocabulary_get_their_ids(tmp_path: Path, form: str) -> None:
    names = {"cat.nip": 19, "dog,fish": 20}
    decoder = {str(token_id): {"content": name, "special": False} for name, token_id in names.items()}
    said = {"do_lower_case": False} | ({form: decoder} if form == "added_tokens_decoder" else {})
    folder = files(tmp_path, vocabulary=CASED, tokenizer_config=said)
    if form == "added_tokens":
        files(folder, added_tokens=names)
    theirs = AutoTokenizer.from_pretrained(folder)
    text = "the cat.nip and dog,fish"
    assert read_tokenizer(folder).tokenizer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    assert read_tokenizer(folder).tokenizer.encode("cat.nip") == [19]


@pytest.mark.parametrize("added", [{"new": 40}, {"new": "x"}, ["new"], {"new": [[1] * 900]}])
def test_tokens_that_cannot_be_added_are_refused(tmp_path: Path, added: object) -> None:
    folder = files(tmp_path, vocabulary=CASED, added_tokens=added)
    with pytest.raises(DataError, match=r"the id 40, and it gets 19|cannot be read|not a JSON object") as caught:
        read_tokenizer(folder)
    assert len(str(caught.value)) <= 500


def test_what_only_slow_tokenizers_follow_is_said(tmp_path: Path) -> None:
    said = {"do_lower_case": True, "never_split": ["cat-nip", "[MASK]"], "do_basic_tokenize": False}
    notes = read_tokenizer(files(tmp_path, vocabulary=CASED, tokenizer_config=said)).notes
    assert [note.partition(" has ")[2] for note in notes] == [
        "never_split ['cat-nip']: not followed, as in transformers' fast tokenizers",
        "do_basic_tokenize false: not followed, as in transformers' fast tokenizers",
    ]


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"vocabulary": CASED, "tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}}, "BertJapanese"),
        ({"vocabulary": CASED, "tokenizer_config": {"do_lower_case": "yes"}}, "write true, false or null"),
        ({"vocabulary": CASED, "tokenizer_config": ["x" * 900]}, "not a JSON object"),
        ({"tokenizer_config": {"do_lower_case": True}}, r"has no vocabulary \(tokenizer\.json or vocab\.txt\)"),
        ({"vocab": {"a": 0}}, r"write one from its vocab\.json with transformers' AutoTokenizer"),
    ],
)
def test_a_directory_that_cannot_be_read_is_refused(tmp_path: Path, contents: dict[str, object], said: str) -> None:
    with pytest.raises((DataError, MissingInputError), match=said) as caught:
        given(files(tmp_path, **contents))
    assert len(str(caught.value)) <= 500


# A tokenizer.json


def changed(tokenizer: Tokenizer, change: Callable[[dict[str, Any]], object]) -> Tokenizer:
    """Return a tokenizer whose tokenizer.json was changed."""
    content = json.loads(tokenizer.backend.to_str())
    change(content)
    return Tokenizer(type(tokenizer.backend).from_str(json.dumps(content)), tokenizer.special_tokens)


def cased(**settings: Any) -> Tokenizer:  # noqa: ANN401
    return wordpiece_tokenizer(CASED, **({"lowercase": False, "strip_accents": False} | settings))


@pytest.mark.parametrize("tokenizer_config", [None, {}, {"model_max_length": 9}, {"tokenizer_class": "BertTokenizer"}])
def test_a_tokenizer_file_is_what_it_says(tmp_path: Path, tokenizer_config: object) -> None:
    short = changed(cased(), lambda content: content["model"].update(max_input_chars_per_word=3))
    short.backend.enable_truncation(1)
    short.backend.enable_padding(length=5)
    contents = {} if tokenizer_config is None else {"tokenizer_config": tokenizer_config}
    folder = files(tmp_path, tokenizer=short, **contents)
    assert tokens(given(folder), "The cats él") == ["The", "[UNK]", "él"]
    assert tokens(given(folder / "tokenizer.json"), "The cats él") == ["The", "[UNK]", "él"]


def test_settings_of_berts_class_come_before_those_of_the_file(tmp_path: Path) -> None:
    said = {"do_lower_case": True, "strip_accents": False, "tokenizer_class": "BertTokenizer"}
    read = read_tokenizer(files(tmp_path, tokenizer=cased(), tokenizer_config=said))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert read.tokenizer.encode(SAID) == theirs(SAID, add_special_tokens=False)["input_ids"]
    assert [note.partition(" says ")[2] for note in read.notes] == [
        "normalizer.lowercase is True, and tokenizer.json False: the former is used"
    ]
    other = {"do_lower_case": True, "tokenizer_class": "PreTrainedTokenizerFast"}
    read = read_tokenizer(files(tmp_path, tokenizer=cased(), tokenizer_config=other))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert read.tokenizer.encode(SAID) == theirs(SAID, add_special_tokens=False)["input_ids"]
    assert read.notes == ()


@pytest.mark.parametrize("make", [byte_level, unmarked, lambda: sentencepiece(["▁", *sorted(set("".join(TEXTS)))])])
def test_a_tokenizer_file_of_any_model_is_read_alone(tmp_path: Path, make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    save_tiny_huggingface(tmp_path, vocab_size=400)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_huggingface(tmp_path)
    assert loaded.tokenizer.encode(TEXTS[0], "the text").ids == tuple(tokenizer.encode(TEXTS[0]))
    assert loaded.tokenizer.unknown_id not in loaded.tokenizer.encode(TEXTS[0], "the text").ids
    assert given(tmp_path).encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert loaded.tokenizer_difference(given(tmp_path)) is None


def renamed(tokenizer: Tokenizer, *names: str) -> Tokenizer:
    text = tokenizer.backend.to_str()
    for usual, name in zip(SPECIAL_TOKENS, names, strict=True):
        text = text.replace(json.dumps(usual), json.dumps(name))
    return Tokenizer(type(tokenizer.backend).from_str(text), names)


def test_other_names_of_the_special_tokens_are_kept(tiny: Params, prepare: Prepare, tmp_path: Path) -> None:
    tokenizer = renamed(byte_level(), "<pad>", "<s>", "</s>", "<mask>", "<unk>")
    tokenizer.save(tmp_path / "tokenizer.json")
    texts = [f"{' '.join(TEXTS)} Número {n}." for n in range(60)]
    prepare(folder_of(tmp_path / "text", texts), tmp_path / "data", tokenizer=str(tmp_path / "tokenizer.json"))
    stored = load_tokenizer(tmp_path / "data" / "tokenizer.json")
    assert stored.special_tokens == tokenizer.special_tokens
    train(tiny, tmp_path, tmp_path / "data", epochs=1)
    export, _ = export_of(tmp_path / "model")
    card = (export / "README.md").read_text(encoding="utf-8")
    assert "<mask>" in card
    assert "[MASK]" not in card
    theirs = AutoTokenizer.from_pretrained(export)
    assert (theirs.mask_token, theirs.cls_token, theirs.unk_token) == ("<mask>", "<s>", "<unk>")
    assert theirs("niño", "niña")["input_ids"] == [1, *stored.encode("niño"), 2, *stored.encode("niña"), 2]
    assert load_huggingface(export).tokenizer_difference(stored) is None


def test_names_of_both_kinds_are_found(tmp_path: Path) -> None:
    names = ("<pad>", "[CLS]", "[SEP]", "[MASK]", "<unk>")  # as in ALBERT's vocabulary
    renamed(sentencepiece(["▁", *"abc"]), *names).save(tmp_path / "tokenizer.json")
    assert given(tmp_path).special_tokens == names
    assert given(tmp_path).special_ids == (0, 1, 2, 3, 4)


def _without_unknown(content: dict[str, Any]) -> None:
    content["model"]["unk_token"] = "[nothing]"


def test_a_tokenizer_without_a_token_for_what_is_unknown_is_refused(tmp_path: Path) -> None:
    changed(cased(), _without_unknown).save(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match=r"is not a tokenizer\.json: WordPiece error: Missing \[UNK\]"):
        given(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * 10**5, '{"a": NaN', "\x00", '{"never_split": 5}', '{"tokenizer_class": [5]}']
)
def test_settings_that_are_damaged_or_odd_never_end_in_a_traceback(tmp_path: Path, content: str) -> None:
    files(tmp_path, vocabulary=CASED)
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    try:
        read_tokenizer(tmp_path)
    except DataError as error:
        assert len(str(error)) <= 500  # noqa: PT017


def test_names_that_only_a_directory_tells_are_for_asking_alone(tmp_path: Path) -> None:
    tokenizer = renamed(cased(), "[PAD]", "[CLS]", "[SEP]", "<hidden>", "[UNK]")
    save_tiny_huggingface(tmp_path, vocab_size=40)
    files(tmp_path, tokenizer=tokenizer, tokenizer_config={"mask_token": "<hidden>"})
    assert load_huggingface(tmp_path).tokenizer.encode("the [MASK]", "the text").ids == (1, 7)
    with pytest.raises(DataError, match=r"calls \[MASK\] '<hidden>': data can be made with"):
        given(tmp_path)


def test_ids_with_gaps_are_refused(tmp_path: Path) -> None:
    text = word_level_tokenizer([*SPECIAL_TOKENS, "a"]).backend.to_str().replace('"a":5', '"a":7')
    (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="6 tokens have ids up to 7: number them without gaps"):
        given(tmp_path / "tokenizer.json")


def test_a_path_to_nothing_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"prepare\.tokenizer is .*wordpeace, .* write wordpiece, words, or"):
        given(tmp_path / "wordpeace")


# The params, which do not decide


def test_the_params_are_said_not_to_apply_where_they_differ(tmp_path: Path) -> None:
    folder = files(tmp_path, vocabulary=CASED, tokenizer_config={"do_lower_case": False})

    def notes(**choice: bool) -> GivenTokenizer:
        return given_tokenizer(folder, **choice)

    assert notes(lowercase=True, strip_accents=False).notes == (
        f"{folder} keeps its own settings, lowercase false and strip_accents false: "
        f"prepare.lowercase and prepare.strip_accents do not apply",
    )
    assert notes(lowercase=False, strip_accents=False).notes == ()


def test_prepare_says_so(prepare: Prepare, reviews: Path, tmp_path: Path) -> None:
    folder = files(tmp_path / "hf", vocabulary=CASED, tokenizer_config={"do_lower_case": False})
    said: list[str] = []
    prepare(reviews, tmp_path / "data", tokenizer=str(folder), on_note=said.append)
    assert [note for note in said if "keeps its own settings" in note]


# A model and its data


def test_equal_tokenizers_in_different_files_do_not_differ(tmp_path: Path) -> None:
    one = read_tokenizer(files(tmp_path / "one", vocabulary=CASED, tokenizer_config={"do_lower_case": False}))
    other = read_tokenizer(files(tmp_path / "other", tokenizer=cased(), tokenizer_config={"strip_accents": False}))
    assert difference(one.tokenizer, other.tokenizer) is None
    assert difference(other.tokenizer, one.tokenizer) is None


def _with_added(content: dict[str, Any]) -> None:
    content["added_tokens"].append(content["added_tokens"][0] | {"content": "new", "id": len(CASED), "special": False})


def _without_last(content: dict[str, Any]) -> None:
    del content["model"]["vocab"]["cat-nip"]


def _swapped(content: dict[str, Any]) -> None:
    vocabulary = content["model"]["vocab"]
    vocabulary["the"], vocabulary["cat"] = vocabulary["cat"], vocabulary["the"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["normalizer"].update(lowercase=True), "normalizer.lowercase is False for the model and True for"),
        (lambda c: c["normalizer"].update(strip_accents=True), "normalizer.strip_accents is False for the model and T"),
        (lambda c: c["normalizer"].update(handle_chinese_chars=False), "normalizer.handle_chinese_chars is True for"),
        (lambda c: c["normalizer"].update(clean_text=False), "normalizer.clean_text is True for the model and False"),
        (
            lambda c: c.update(normalizer=None),
            "normalizer.type is 'BertNormalizer' for the model and None for the data",
        ),
        (
            lambda c: c["pre_tokenizer"].update(type="Whitespace"),
            "pre_tokenizer.type is 'BertPreTokenizer' for the mod",
        ),
        (lambda c: c["model"].update(max_input_chars_per_word=9), "model.max_input_chars_per_word is 100 for the mod"),
        (
            lambda c: c["model"].update(continuing_subword_prefix="@@"),
            "model.continuing_subword_prefix is '##' for the",
        ),
        (_swapped, "the token of id 1 is 'the' for the model and 'cat' for the data"),
        (_without_last, "the token of id 18 is 'cat-nip' for the model and None for the data"),
        (_with_added, "the token of id 19 is None for the model and 'new' for the data"),
    ],
)
def test_the_difference_of_two_tokenizers_is_named(change: Callable[[dict[str, Any]], object], said: str) -> None:
    found = difference(cased(), changed(cased(), change))
    assert found is not None
    assert found.startswith(said)
    assert len(found) <= 200


def test_merges_scores_and_added_tokens_make_a_difference() -> None:
    def merges(content: dict[str, Any]) -> None:
        content["model"]["merges"].reverse()

    def scores(content: dict[str, Any]) -> None:
        content["model"]["vocab"][8][1] -= 1.0

    def flags(content: dict[str, Any]) -> None:
        content["added_tokens"][-1]["single_word"] = True

    pieces = sentencepiece(["▁", *"abc"])
    pieces.backend.add_tokens([AddedToken("b c")])
    assert str(difference(byte_level(), changed(byte_level(), merges))).startswith("merge 0 is ")
    assert str(difference(pieces, changed(pieces, scores))).startswith("score 8 is ")
    assert str(difference(pieces, changed(pieces, flags))).startswith("the added token b c is ")
    lowered = changed(pieces, lambda content: content.update(normalizer={"type": "Lowercase"}))
    assert str(difference(pieces, lowered)) == "normalizer.type is 'NFC' for the model and 'Lowercase' for the data"


def test_what_joins_and_shows_texts_makes_no_difference() -> None:
    other = cased()
    other.backend.post_processor = None
    other.backend.decoder = None
    other.backend.enable_truncation(3)
    assert difference(cased(), other) is None


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_model_is_not_trained_or_measured_on_data_of_another_case(
    tiny: Params, prepare: Prepare, reviews: Path, tmp_path: Path, kind: str
) -> None:
    model = tmp_path / "model-given"
    if kind == "ours":
        save_model_with(model, cased(), max_positions=128)
    else:
        save_tiny_huggingface(model, vocab_size=len(CASED), max_position_embeddings=128)
        for file in model.glob("tokenizer*"):
            file.unlink()
        files(model, vocabulary=CASED, tokenizer_config={"do_lower_case": False, "strip_accents": False})
    cased(lowercase=True).save(tmp_path / "tokenizer.json")
    prepare(reviews, tmp_path / "other", tokenizer=str(tmp_path / "tokenizer.json"))
    said = r"normalizer\.lowercase is False for the model and True for the data\): .*prepare\.tokenizer: .*model-given"
    with pytest.raises(ModelError, match=said) as caught:
        train(tiny, tmp_path, tmp_path / "other", init=str(model))
    assert "was trained with another tokenizer than" in str(caught.value)
    with pytest.raises(ModelError, match=said):
        run_evaluate(tiny.evaluate, tiny.runtime, model=model, data=tmp_path / "other", out=tmp_path / "m.json")
    prepare(reviews, tmp_path / "own", tokenizer=str(model))
    train(tiny, tmp_path, tmp_path / "own", init=str(model), epochs=1)


def test_a_normalizer_that_is_not_berts_tells_its_case(tmp_path: Path) -> None:
    tokenizer = sentencepiece(["▁", *"abc"], lowercase=True)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert given_tokenizer(tmp_path, lowercase=True, strip_accents=False).notes == ()
    tokenizer.backend.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    tokenizer.save(tmp_path / "tokenizer.json")
    (note,) = given_tokenizer(tmp_path, lowercase=True, strip_accents=False).notes
    assert "lowercase false and strip_accents true" in note
