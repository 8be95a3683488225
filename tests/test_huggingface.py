import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForPreTraining

from bertpipe.errors import ModelError
from bertpipe.model.bert import Bert
from bertpipe.model.huggingface import load_huggingface
from models import PIECES, save_tiny_huggingface, tiny_bert


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_tiny_huggingface(tmp_path / "hf")
    return tmp_path / "hf"


def test_importing_the_module_does_not_import_transformers() -> None:
    code = "import sys, bertpipe.model.huggingface, bertpipe.inference; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nsp_logits_are_huggingfaces_in_our_order(directory: Path) -> None:
    network = BertForPreTraining.from_pretrained(directory).eval()
    given = AutoTokenizer.from_pretrained(directory)("the cats sat.", "the dog.", return_tensors="pt")
    with torch.inference_mode():
        theirs = network(**given).seq_relationship_logits[0]
    ids = given["input_ids"][0].tolist()
    ours = load_huggingface(directory).nsp_logits(ids, given["token_type_ids"][0].tolist().index(1))
    assert ours.tolist() == pytest.approx([theirs[1].item(), theirs[0].item()], abs=1e-6)


def test_mlm_logits_are_those_of_the_positions_asked(directory: Path) -> None:
    network = BertForPreTraining.from_pretrained(directory).eval()
    given = AutoTokenizer.from_pretrained(directory)("the [MASK] sat on [MASK].", return_tensors="pt")
    with torch.inference_mode():
        theirs = network(**given).prediction_logits[0, [2, 5]]
    ours = load_huggingface(directory).mlm_logits(given["input_ids"][0].tolist(), [2, 5])
    assert ours.shape == (2, len(PIECES))
    torch.testing.assert_close(ours, theirs)


def test_loading_writes_nothing_to_the_terminal(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_tiny_huggingface(directory, head="BertForMaskedLM")
    capfd.readouterr()
    load_huggingface(directory)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_without_nsp_head_answers_mlm_and_refuses_nsp(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path, head="BertForMaskedLM")
    loaded = load_huggingface(tmp_path)
    assert not loaded.has_nsp_head
    assert loaded.mlm_logits([2, 5, 4, 3], [2]).shape == (1, len(PIECES))
    with pytest.raises(ModelError, match="no trained next-sentence head"):
        loaded.nsp_logits([2, 5, 3, 6, 3], 3)


def test_a_checkpoint_without_masked_word_head_is_refused(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path, head="BertModel")
    with pytest.raises(ModelError, match="no trained masked-word head"):
        load_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "'roberta'"),
        ({"model_type": "no-such-thing"}, "not a BERT that transformers can read"),
        ({"vocab_size": 3}, "do not belong together"),
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


def _load_by_name(name: str, tmp_path: Path, **environment: str) -> tuple[str, float]:
    """Load a hub name in a process of its own; return its output and the seconds of loading."""
    code = (
        "import sys, time, transformers\n"
        "from transformers import AutoConfig, AutoTokenizer, BertForPreTraining\n"
        "from bertpipe.errors import ModelError\n"
        "from bertpipe.model.huggingface import load_huggingface\n"
        "started_at = time.perf_counter()\n"
        "try:\n"
        "    print(load_huggingface(sys.argv[1]).has_nsp_head)\n"
        "except ModelError as error:\n"
        "    print(error)\n"
        "print(time.perf_counter() - started_at)\n"
    )
    env = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"} | environment
    run = subprocess.run(
        [sys.executable, "-c", code, name], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    *message, seconds = run.stdout.splitlines()
    return "\n".join(message), float(seconds)


def test_a_hub_that_cannot_be_reached_gives_one_line_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        message, elapsed_s = _load_by_name("owner/name", tmp_path, HF_ENDPOINT=endpoint)
    assert message.startswith("owner/name is not in the local cache, and the Hugging Face hub cannot be reached")
    assert "\n" not in message
    assert elapsed_s < 10


def test_offline_mode_is_named_as_the_reason(tmp_path: Path) -> None:
    message, _ = _load_by_name("owner/name", tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in message


def test_a_cached_name_is_loaded_without_the_network(tmp_path: Path) -> None:
    """The cache's layout is the one huggingface_hub documents: refs/main names a folder below snapshots."""
    repository = tmp_path / "home" / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    save_tiny_huggingface(repository / "snapshots" / ("0" * 40))
    message, _ = _load_by_name("owner/name", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert message == "True"


def _copy_weights(source: Bert, target: BertForPreTraining) -> None:
    """Give Hugging Face's network the weights of ours: this spells out which tensor is which."""
    ours = source.state_dict()
    theirs = {
        "bert.embeddings.word_embeddings.weight": ours["embeddings.token.weight"],
        "bert.embeddings.position_embeddings.weight": ours["embeddings.position.weight"],
        "bert.embeddings.token_type_embeddings.weight": ours["embeddings.segment.weight"],
        "cls.predictions.decoder.weight": ours["mlm_decoder.weight"],
        "cls.predictions.decoder.bias": ours["mlm_decoder.bias"],
        "cls.predictions.bias": ours["mlm_decoder.bias"],
    }
    modules = {
        "bert.embeddings.LayerNorm": "embeddings.norm",
        "bert.pooler.dense": "pooler",
        "cls.predictions.transform.dense": "mlm_transform.dense",
        "cls.predictions.transform.LayerNorm": "mlm_transform.norm",
    }
    for number in range(len(source.layers)):
        layer, prefix = f"layers.{number}", f"bert.encoder.layer.{number}"
        modules |= {
            f"{prefix}.attention.output.dense": f"{layer}.attention_output",
            f"{prefix}.attention.output.LayerNorm": f"{layer}.attention_norm",
            f"{prefix}.intermediate.dense": f"{layer}.feed_forward_in",
            f"{prefix}.output.dense": f"{layer}.feed_forward_out",
            f"{prefix}.output.LayerNorm": f"{layer}.feed_forward_norm",
        }
        for kind in ("weight", "bias"):
            thirds = ours[f"{layer}.query_key_value.{kind}"].chunk(3)
            for name, third in zip(("query", "key", "value"), thirds, strict=True):
                theirs[f"{prefix}.attention.self.{name}.{kind}"] = third
    for kind in ("weight", "bias"):
        theirs |= {f"{name}.{kind}": ours[f"{own}.{kind}"] for name, own in modules.items()}
        theirs[f"cls.seq_relationship.{kind}"] = ours[f"nsp_head.{kind}"].flip(0)  # there class 0 is next
    target.load_state_dict(theirs, strict=True)


def test_our_bert_computes_what_huggingfaces_does() -> None:
    vocab, seq, lengths, starts = 23, 13, [13, 7, 11], [5, 3, 11]
    ours = tiny_bert(vocab_size=vocab, embedding_dim=15, heads=5, layers=3, feed_forward_dim=19).double()
    theirs = BertForPreTraining(
        BertConfig(
            vocab_size=vocab,
            hidden_size=15,
            num_attention_heads=5,
            num_hidden_layers=3,
            intermediate_size=19,
            max_position_embeddings=17,
        )
    )
    theirs = theirs.double().eval()
    _copy_weights(ours, theirs)
    ids = torch.randint(5, vocab, (len(lengths), seq), generator=torch.Generator().manual_seed(3))
    length, start = torch.tensor(lengths), torch.tensor(starts)
    real = torch.arange(seq) < length[:, None]
    segments = ((torch.arange(seq) >= start[:, None]) & real).long()
    with torch.inference_mode():
        expected = theirs(input_ids=ids, attention_mask=real.long(), token_type_ids=segments, output_hidden_states=True)
        hidden = ours(ids, length, start)
        mlm, nsp = ours.mlm_logits(hidden), ours.nsp_logits(hidden)
    exactly = {"rtol": 0, "atol": 1e-9}
    torch.testing.assert_close(hidden[real], expected.hidden_states[-1][real], **exactly)
    torch.testing.assert_close(mlm[real], expected.prediction_logits[real], **exactly)
    torch.testing.assert_close(nsp, expected.seq_relationship_logits.flip(1), **exactly)
    assert nsp.std() > 0.01  # not all equal for want of signal
