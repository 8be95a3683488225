"""Writes the files of a Hugging Face Space beside an exported model."""

from pathlib import Path

import jinja2

from bertpipe.core.artifacts import NSP_FOLDER
from bertpipe.model.bert import Bert
from bertpipe.model.huggingface.weights import COUNTERPARTS

APP_NAME = "app.py"
SPACE_METADATA = {"sdk": "gradio", "sdk_version": "6.31.0", "app_file": APP_NAME}
"""What the hub reads of the card of a Space; it ignores this on the card of a model."""
_HERE = Path(__file__).parent
_AS_THEY_ARE = ("page.py", "requirements.txt")


def save_space(directory: Path, bert: Bert, *, title: str, text: str, pair: tuple[str, str]) -> None:
    """Write app.py, page.py and requirements.txt.

    Args:
        directory: where the exported model lies.
        bert: its network, which has a counterpart in transformers.
        title: of the page.
        text: an example with a mask.
        pair: an example of two sentences.
    """
    has_own_nsp_class = COUNTERPARTS[bert.params.architecture].nsp_class is not None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False  # noqa: S701 - Python, not HTML
    )  # fmt: skip
    environment.filters["literal"] = ascii
    app = environment.from_string((_HERE / "app.py.jinja").read_text(encoding="utf-8")).render(
        title=title,
        text=text,
        pair=pair,
        nsp_folder=NSP_FOLDER if has_own_nsp_class else None,
        next_class=int(has_own_nsp_class),  # as bertpipe.model.huggingface.weights says
    )
    (directory / APP_NAME).write_text(app, encoding="utf-8", newline="\n")
    for name in _AS_THEY_ARE:
        (directory / name).write_bytes((_HERE / name).read_bytes())
