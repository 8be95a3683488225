"""Run in a process of its own, without bertpipe: what transformers makes of directories, as JSON and tensors.

`python fresh_huggingface.py JOB OUT`: the job names directories, texts and rows; OUT gets `answers.json` and a
`logits.safetensors`. This module is no test: test_export_fresh.py starts it.
"""

import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor


def logits(network: Any, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
    with torch.inference_mode():
        answer = network.eval()(
            input_ids=rows["ids"], attention_mask=rows["mask"], token_type_ids=rows["segments"]
        )  # fmt: skip
    if "prediction_logits" in answer:
        return answer.prediction_logits, answer.seq_relationship_logits
    return answer.logits, None


def loaded(kind: Any, directory: str) -> tuple[Any, dict[str, list[str]]]:  # noqa: ANN401
    network, info = kind.from_pretrained(directory, output_loading_info=True)
    return network, {name: sorted(map(str, keys)) for name, keys in info.items() if keys}


def examples(card: str, directory: str) -> list[str]:
    """Return what each example of a model card prints."""
    printed = []
    for code in re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL):
        assert "OWNER/NAME" in code
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(code.replace("OWNER/NAME", directory), {})
        printed.append(shown.getvalue())
    return printed


def answers(model: dict[str, Any], rows: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Any]:
    directory, name = model["directory"], model["name"]
    network, info = loaded(transformers.AutoModelForPreTraining, directory)
    masked, masked_info = loaded(transformers.AutoModelForMaskedLM, directory)
    tensors[f"{name}.mlm"], tensors[f"{name}.nsp"] = logits(network, rows)  # type: ignore[assignment]
    tensors[f"{name}.masked"], _ = logits(masked, rows)
    tensors[f"{name}.mlm64"], tensors[f"{name}.nsp64"] = logits(network.double(), rows)  # type: ignore[assignment]
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    fill = transformers.pipeline("fill-mask", model=directory, top_k=3)
    return {
        "class": type(network).__name__,
        "dtype": str(masked.dtype),
        "info": info,
        "masked_info": masked_info,
        "single": [dict(tokenizer(text)) for text in model["texts"]],
        "pairs": [dict(tokenizer(*pair)) for pair in model["pairs"]],
        "cut": dict(tokenizer(*model["long_pair"], truncation=True)),
        "padded": dict(tokenizer(model["texts"], padding=True)),
        "decoded": tokenizer.decode(tokenizer(*model["pairs"][0])["input_ids"]),
        "filled": fill(model["question"]),
        "examples": examples((Path(directory) / "README.md").read_text(encoding="utf-8"), directory),
    }


def main() -> None:
    assert "bertpipe" not in sys.modules
    sys.modules["bertpipe"] = None  # type: ignore[assignment]  # an import of it would fail
    job_file, out = map(Path, sys.argv[1:])
    job = json.loads(job_file.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tensors: dict[str, Tensor] = {}
    found = {
        model["name"]: answers(model, load_file(job_file.parent / f"{model['name']}.safetensors"), tensors)
        for model in job
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "logits.safetensors")
    (out / "answers.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
