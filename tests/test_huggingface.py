import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertpipe.core.errors import ModelError
from bertpipe.model.huggingface_load import load_huggingface
from models import save_tiny_huggingface


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_tiny_huggingface(tmp_path / "hf")
    return tmp_path / "hf"


def test_transformers_is_imported_only_once_it_is_used() -> None:
    names = ("model.huggingface_load", "inference.predictor", "stages.export", "export.hub")
    modules = ", ".join(f"bertpipe.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('transformers' in sys.modules)"
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
        ({"model_type": "roberta"}, "'roberta'"),
        ({"model_type": "no-such-thing"}, "not a BERT that transformers can read"),
        ({"vocab_size": 3}, "do not belong together"),
        ({"hidden_size": "big"}, "config of .* cannot be read"),
        ({"num_hidden_layers": 0}, "has 0 layers and 17 positions, and bertpipe needs 1 and 8 at least"),
        ({"hidden_act": "silu"}, "activation 'silu', and bertpipe computes gelu, "),
        ({"is_decoder": True}, "a decoder's attention"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
    ],
)
def test_a_config_that_is_not_this_berts_is_refused(directory: Path, change: dict[str, object], message: str) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message):
        load_huggingface(directory)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"not tensors", r"weights of .* cannot be read"),
        ("model.safetensors", None, "cannot be read as a Hugging Face model"),
        ("tokenizer.json", b"{}", "tokenizer of .* cannot be read"),
        ("tokenizer.json", None, "no vocabulary"),
        ("config.json", b"{", "cannot be read"),
    ],
)
def test_a_damaged_directory_gives_one_line(directory: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_huggingface(directory)
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_are_refused(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 13}))
    with pytest.raises(ModelError, match=r"weights of .* cannot be read"):
        load_huggingface(directory)
