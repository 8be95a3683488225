"""The environments of the clients, below .venv/clients, and programs that run there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parent / ".venv" / "clients"
TORCH = "torch>=2.11,<2.14"


class ClientError(Exception):
    """A client could not be installed, or did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program that opens exported models."""

    packages: tuple[str, ...]
    """What pip or npm installs; empty for the environment of this process."""
    part: str
    """The part of python_client.py that asks it; empty for javascript_client.mjs."""
    needs: str | None = None
    """The client whose files it reads."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Model types that it does not read, with the reason."""


CLIENTS: Mapping[str, Client] = {
    "transformers": Client(packages=(), part="transformers"),
    "transformers-4.57": Client(packages=("transformers==4.57.*",), part="transformers"),
    "transformers-4.41": Client(
        packages=("transformers==4.41.*",),
        part="transformers",
        lacks={"modernbert": "transformers has ModernBERT from 4.48 on"},
    ),
    "sentence-transformers": Client(packages=("sentence-transformers",), part="sentence-transformers"),
    "onnx": Client(packages=("optimum-onnx[onnxruntime]",), part="onnx"),
    "transformers.js": Client(
        packages=("@huggingface/transformers",),
        part="",
        needs="onnx",
        lacks={"megatron-bert": "transformers.js has no class for MegatronBERT"},
    ),
}


def answers_of(name: str, job: Sequence[Mapping[str, Any]], out: Path, on_note: Callable[[str], None]) -> Any:  # noqa: ANN401
    """Install a client where it is missing, and return what it answers, and its `versions`.

    Args:
        name: of the client.
        job: the models and the questions.
        out: an empty folder.
        on_note: gets a note on what is done.

    Raises:
        ClientError: it cannot be installed, or fails.
    """
    client = CLIENTS[name]
    job_file = out / "job.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    if client.part:
        python = _python_environment(name, client, on_note) if client.packages else Path(sys.executable)
        command = [str(python), str(HERE / "python_client.py"), client.part, str(job_file), str(out)]
        place = out
    else:
        place = _node_environment(name, client, on_note)
        command = ["node", str(HERE / "javascript_client.mjs"), str(job_file), str(out)]
    on_note(f"asking {name}")
    hidden = {"PYTHONPATH", "HF_TOKEN", "HF_HUB_CACHE"}
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "home"), "TOKENIZERS_PARALLELISM": "false"}
    _run(command, place, {key: value for key, value in os.environ.items() if key not in hidden} | settings)
    return json.loads((out / "answers.json").read_text(encoding="utf-8"))


def _python_environment(name: str, client: Client, on_note: Callable[[str], None]) -> Path:
    """Return the interpreter of a client's environment, which is made where it is missing or has other packages."""
    place = FOLDER / name
    python, done = place / "bin" / "python", place / "installed"
    wanted = "\n".join((TORCH, *client.packages))
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return python
    on_note(f"installing {name}")
    shutil.rmtree(place, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(place)], FOLDER, dict(os.environ))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    index = os.environ.get("TORCH_INDEX")
    _run([*pip, *(["--index-url", index] if index else []), TORCH], FOLDER, dict(os.environ))
    _run([*pip, TORCH, *client.packages], FOLDER, dict(os.environ))
    done.write_text(wanted, encoding="utf-8")
    return python


def _node_environment(name: str, client: Client, on_note: Callable[[str], None]) -> Path:
    """Return the folder with a client's node_modules."""
    place = FOLDER / name
    if (place / "package-lock.json").is_file():
        return place
    if not shutil.which("npm"):
        raise ClientError(f"{name} needs Node.js 20 or later with npm: install them, or name other clients")
    on_note(f"installing {name}")
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    # A script of onnxruntime-node would fetch libraries for a GPU.
    _run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *client.packages], place, dict(os.environ))
    return place


def _run(command: Sequence[str], place: Path, environment: Mapping[str, str]) -> str:
    """Return what a program prints."""
    done = subprocess.run(  # noqa: S603
        command, cwd=place, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise ClientError(f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
