import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertpipe.core.errors import BertpipeError, ModelError
from bertpipe.data.tokenization.user_tokenizer import given_tokenizer
from bertpipe.model.huggingface.load import load_huggingface
from bertpipe.model.loading import load_any_model
from models import PIECES, save_tiny_huggingface

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * b"a" + b"\nsize 440473133\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_tiny_huggingface(tmp_path / "hf")
    return tmp_path / "hf"


def test_transformers_is_not_imported(directory: Path) -> None:
    """Its import takes longer than all else that an answer takes."""
    code = (
        "import sys, bertpipe.stages.export, bertpipe.export.hub\n"
        "from bertpipe.inference.predictor import load_predictor\n"
        f"load_predictor({str(directory)!r}).next_sentence('the cat', 'sat'); sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_writes_nothing_to_the_terminal(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_tiny_huggingface(directory, head="BertForMaskedLM")
    capfd.readouterr()
    load_huggingface(directory)
    assert capfd.readouterr() == ("", "")


def test_a_whole_checkpoint_needs_no_word(directory: Path) -> None:
    loaded = load_huggingface(directory)
    assert (loaded.missing_heads, loaded.notes) == (frozenset(), ())


@pytest.mark.parametrize(
    ("head", "missing"),
    [
        ("BertForMaskedLM", {"nsp": "next-sentence"}),
        ("BertForNextSentencePrediction", {"mlm": "masked-word"}),
        ("BertModel", {"mlm": "masked-word", "nsp": "next-sentence"}),
    ],
)
def test_a_missing_head_is_said_and_starts_the_same_each_time(
    tmp_path: Path, head: str, missing: dict[str, str]
) -> None:
    save_tiny_huggingface(tmp_path, head=head)
    loaded, again = load_huggingface(tmp_path), load_huggingface(tmp_path)
    assert loaded.missing_heads == missing.keys()
    said = [f"{tmp_path} has no {name} head: it gets initial weights, to be trained" for name in missing.values()]
    assert list(loaded.notes) == said
    for name, tensor in loaded.bert.state_dict().items():
        assert torch.equal(tensor, again.bert.state_dict()[name]), name


def test_an_encoder_that_is_not_whole_is_refused(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"is not complete \(1 tensors are missing, bert\.encoder\.layer\.1\.output\."):
        load_huggingface(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "'roberta'.*: take one of these"),
        ({"model_type": "no-such-thing"}, "is a model of type 'no-such-thing', and bertpipe reads"),
        ({"vocab_size": 3}, "do not belong together"),
        (
            {"hidden_size": "big"},
            "hidden_size 'big' in its config.json, and its input should be a valid integer",
        ),
        ({"type_vocab_size": 0}, "has type_vocab_size 0 in .* greater than or equal to 1"),
        ({"max_position_embeddings": 7}, "has max_position_embeddings 7 in .* greater than or equal to 8"),
        ({"num_attention_heads": 0}, "has num_attention_heads 0 in"),
        ({"num_hidden_layers": 2**40}, "has num_hidden_layers 1099511627776 in"),
        ({"num_attention_heads": 4}, "has hidden_size 6, which is not a multiple of its num_attention_heads 4"),
        ({"model_type": 5}, "is a model of type 5, and"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "has a quantization_config"),
        ({"layer_norm_eps": math.nan}, "has layer_norm_eps nan in its config"),
        (
            {"hidden_dropout_prob": 7.0},
            "hidden_dropout_prob 7.0 in .* input should be less than 1",
        ),
        ({"hidden_act": "x" * 900}, "activation 'xxx"),
        ({"hidden_size": "x" * 900}, "hidden_size 'xxx"),
        (
            {"num_hidden_layers": 0},
            "has num_hidden_layers 0 in .* greater than or equal to 1",
        ),
        ({"hidden_act": "silu"}, "activation 'silu', and bertpipe computes gelu, "),
        ({"is_decoder": True}, "a decoder's attention"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
    ],
)
def test_a_config_that_is_not_this_berts_is_refused(directory: Path, change: dict[str, object], message: str) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message) as caught:
        load_huggingface(directory)
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"not tensors", r"weights of .* cannot be read: .*; fetch them again"),
        ("model.safetensors", None, "cannot be read as a Hugging Face model: .*; fetch it again"),
        ("model.safetensors", LFS, r"model\.safetensors is a pointer to .*: fetch it with `git lfs pull`"),
        ("tokenizer.json", LFS, r"tokenizer of .* is a pointer to .*: fetch it with `git lfs pull`"),
        ("model.safetensors.index.json", b'{"weight_map": {}}', "is not an index of shards: it needs metadata and a"),
        ("tokenizer.json", b"{}", "tokenizer of .* cannot be read"),
        ("tokenizer.json", None, "no vocabulary"),
        ("config.json", b"{", "cannot be read.*; fetch it again"),
    ],
)
def test_a_damaged_directory_gives_one_line(directory: Path, name: str, content: bytes | None, message: str) -> None:
    if name.endswith(".index.json"):
        (directory / "model.safetensors").unlink()
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_huggingface(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_link_to_nothing_is_named(directory: Path, name: str) -> None:
    """As in a part of the hub's cache that was copied by itself."""
    (directory / name).unlink()
    (directory / name).symlink_to("../../blobs/abc")
    with pytest.raises(ModelError, match=rf"its {name} is a link to nothing: fetch the model again, or copy it with"):
        load_any_model(directory)


def test_weights_of_another_size_are_refused(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 13}))
    with pytest.raises(ModelError, match=r"weights of .* do not have the sizes in its config\.json"):
        load_huggingface(directory)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda old: {"embeddings.token_type_embeddings": old[:1]}, r"token_type_embeddings.* size \[1, 6\].*\[2, 6\]"),
        (lambda old: {"embeddings.token_type_embeddings": old.to(torch.int8)}, r"has the type torch\.int8"),
    ],
)
def test_a_tensor_of_another_form_is_named(directory: Path, change: Any, said: str) -> None:  # noqa: ANN401
    weights = load_file(directory / "model.safetensors")
    for name, tensor in change(weights["bert.embeddings.token_type_embeddings.weight"]).items():
        weights[f"bert.{name}.weight"] = tensor.contiguous()
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(ModelError, match=said):
        load_huggingface(directory)


@pytest.mark.parametrize(
    ("shard", "said"), [("../other.safetensors", "is not an index"), (5, "is not an index"), ("b", "is not there")]
)
def test_an_index_names_files_beside_it(directory: Path, shard: object, said: str) -> None:
    (directory / "model.safetensors").rename(directory.parent / "other.safetensors")
    index = {"metadata": {}, "weight_map": {"bert.embeddings.word_embeddings.weight": shard}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=said):
        load_huggingface(directory)


# What other programs write


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("tf_model.h5", r"weights of TensorFlow alone \(tf_model\.h5\), and bertpipe reads model\.safetensors or"),
        ("bert_model.ckpt.index", r"weights of TensorFlow alone \(bert_model\.ckpt\.index\)"),
        ("flax_model.msgpack", "weights of Flax alone"),
        ("onnx/model.onnx", "weights of ONNX alone"),
        ("model.gguf", "weights of GGUF alone"),
        ("adapter_model.safetensors", "weights of an adapter alone"),
        ("model.fp16.safetensors", r"but model\.fp16\.safetensors: rename it"),
    ],
)
def test_weights_of_another_kind_are_named(directory: Path, file: str, said: str) -> None:
    (directory / file).parent.mkdir(exist_ok=True)
    (directory / "model.safetensors").rename(directory / file)
    with pytest.raises(ModelError, match=said):
        load_huggingface(directory)


@pytest.mark.parametrize("key", ["state_dict", "model", "x" * 900])
def test_a_trainings_checkpoint_is_named(directory: Path, key: str) -> None:
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save({key: weights, "epoch": 3}, directory / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=rf"pytorch_model\.bin holds '{key[:9]}.* in place of tensors .* state_dict"
    ) as e:
        load_huggingface(directory)
    assert len(str(e.value)) <= 500


@pytest.mark.parametrize(
    ("prefixes", "said"),
    [
        (("student.",), "has tensors with 'student.' before their names"),
        (("query.", "passage."), "has 2 networks, with 'passage.' and 'query.' before their names"),
        (("x" * 900 + ".",), "has tensors with 'xxx"),
    ],
)
def test_names_that_no_wrapper_makes_are_told(directory: Path, prefixes: tuple[str, ...], said: str) -> None:
    weights = load_file(directory / "model.safetensors")
    renamed = {prefix + name: tensor.clone() for prefix in prefixes for name, tensor in weights.items()}
    save_file(renamed, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said) as caught:
        load_huggingface(directory)
    assert len(str(caught.value)) <= 500


def test_what_else_a_directory_holds_is_no_hindrance(directory: Path, tmp_path: Path) -> None:
    """A clone of a repository, seen through the links of a cache, in a folder that cannot be written."""
    for name in (".gitattributes", "README.md", "pytorch_model.bin.tmp", "training_args.bin", "vocab.json"):
        (directory / name).write_bytes(b"\xff\x00")
    (directory / "special_tokens_map.json").write_text('{"mask_token": {"content": "[MASK]", "lstrip": true}}')
    (directory / ".git").mkdir()
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in directory.iterdir() if path.is_file())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / str(number))
    (tmp_path / "link").symlink_to(snapshot)
    snapshot.chmod(0o500)
    loaded = load_huggingface(tmp_path / "link")
    assert (loaded.missing_heads, loaded.notes) == (frozenset(), ())


def test_a_place_near_a_model_is_told_from_it(directory: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--owner--name"
    (cache / "snapshots").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"model\.safetensors is not a model directory: .*; name the directory .*hf$"):
        load_any_model(directory / "model.safetensors")
    with pytest.raises(ModelError, match=r"is not a model directory: it has no config\.json, but .*hf has one$"):
        load_any_model(tmp_path)
    directory.rename(cache / "snapshots" / "0123")
    with pytest.raises(ModelError, match=r"it has no config\.json, but .*snapshots/0123 has one$"):
        load_any_model(cache)
    first = tmp_path / "google"
    first.mkdir()
    for name in ("bert_config.json", "vocab.txt", "bert_model.ckpt.index"):
        (first / name).touch()
    with pytest.raises(ModelError, match=r"it has no config\.json, and it has the weights of TensorFlow alone"):
        load_any_model(first)


def test_a_byte_order_mark_before_a_tokenizers_settings_is_dropped(directory: Path) -> None:
    path = directory / "tokenizer_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_huggingface(directory).notes == ()


@pytest.mark.parametrize(
    ("file", "said"), [("tokenizer_78b.model", "from its tokenizer_78b"), ("optimizer.pt", "copy")]
)
def test_a_vocabulary_that_is_not_there_is_said_how_to_get(directory: Path, file: str, said: str) -> None:
    for path in directory.glob("tokenizer*"):
        path.unlink()
    (directory / file).write_bytes(b"x")
    with pytest.raises(ModelError, match=rf"has no vocabulary \(tokenizer\.json or vocab\.txt\): .*{said}"):
        load_huggingface(directory)


# Any damage


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**40, 1.5, math.nan, "", "x" * 900, "[MASK]", "\ud83d", [], [1], {}, {"content": 5},
)  # fmt: skip
SETTINGS = ("never_split", "do_lower_case", "added_tokens_decoder", "mask_token", "tokenizer_class", "auto_map")


def changed(content: Any, draw: random.Random) -> Any:  # noqa: ANN401
    """Return the content of a JSON file with a value removed, added or replaced, somewhere in it."""
    if isinstance(content, dict) and content and draw.random() < 0.9:
        name, kind = draw.choice(list(content)), draw.random()
        if kind < 0.2:
            return {key: value for key, value in content.items() if key != name}
        if kind < 0.3:
            return content | {draw.choice(SETTINGS): draw.choice(ODD)}
        return content | {name: changed(content[name], draw)}
    if isinstance(content, list) and content and draw.random() < 0.8:
        place = draw.randrange(len(content))
        return [*content[:place], changed(content[place], draw), *content[place + 1 :]]
    return draw.choice(ODD)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return bytes that are cut off, flipped or repeated."""
    place = draw.randrange(len(content) + 1)
    other = bytes([draw.randrange(256)])
    return draw.choice(
        [content[:place], content[:place] + other + content[place + 1 :], content + content[:place], b""]
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_directory_damaged_anywhere_is_read_or_refused_in_one_line(directory: Path, seed: int) -> None:
    draw = random.Random(seed)
    (directory / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    (directory / "added_tokens.json").write_text("{}")
    if draw.random() < 0.4:
        (directory / "tokenizer.json").unlink()
    path = draw.choice(sorted(directory.iterdir()))
    if path.suffix == ".json" and draw.random() < 0.75:
        path.write_text(json.dumps(changed(json.loads(path.read_bytes()), draw)))
    else:
        path.write_bytes(damaged(path.read_bytes(), draw))
    for read in (load_huggingface, lambda folder: given_tokenizer(folder, lowercase=True, strip_accents=False)):
        try:
            notes = read(directory).notes
        except BertpipeError as error:
            assert len(str(error)) <= 500  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert all(len(note) <= 500 for note in notes)
