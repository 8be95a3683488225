"""The page: sections as one HTML file that needs nothing else."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from bertpipe.core.atomic import atomic_file, check_target_file
from bertpipe.core.errors import WriteError, write_errors
from bertpipe.core.file_kinds import shown
from bertpipe.report.content import Attention, Cell, Picture, Section

_FOLDER = Path(__file__).parent
_MARK = '<meta name="generator" content="bertpipe report">'
_SHOWN = 100
"""Characters of a path in a message."""
_HEAD = 2000
"""Bytes of a page that hold its mark."""


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the whole page; equal sections give equal text.

    Whatever the sections hold is shown as text: the template escapes it, and within the scripts `<` is written as an
    escape. A policy in the page forbids every request.
    """
    blocks = [block for section in sections for block in section.blocks]
    examples = [example for block in blocks if isinstance(block, Attention) for example in block.examples]
    charts = {block.name: block.spec for block in blocks if isinstance(block, Picture | Attention)}
    content = {"charts": charts, "attention": [{"tokens": one.tokens, "percent": one.percent} for one in examples]}
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=True
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    environment.filters["cell"] = _cell
    # Files of this package and of vl-convert, not of the world: they are code, and stay as they are.
    parts = {name: Markup((_FOLDER / f"page.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}  # noqa: S704
    template = environment.from_string((_FOLDER / "page.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        content=content,
        library=_library(),
        mark=Markup(_MARK),  # noqa: S704
        **parts,
    )


def check_page_file(out: Path) -> None:
    """Refuse a target file that cannot be written, or that holds something else than a page of ours.

    Raises:
        BusyError: another process is writing there.
        WriteError: it cannot be written, or would replace something else.
    """
    check_target_file(out)
    with write_errors(out):
        if out.is_file() and (head := out.read_bytes()[:_HEAD]) and _MARK.encode() not in head:
            name = shown(str(out))[-_SHOWN:]
            raise WriteError(
                f"{name} is not a page that this version of `bertpipe report` wrote: move it away, or name another "
                "file with --out"
            )


def write_page(out: Path, text: str, sections: Sequence[Section], on_note: Callable[[str], None]) -> dict[str, Any]:
    """Write a page whole, note once each part that its sections lack, and return what a command says of it."""
    with atomic_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    left_out = [why for section in sections for why in section.left_out]
    for why in dict.fromkeys(left_out):
        on_note(f"left out: {why}")
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "sections": [section.name for section in sections],
        "left_out": left_out,
    }


@cache
def _library() -> Markup:
    """Return Vega, Vega-Lite and Vega-Embed as one script; made once per process, which takes two seconds."""
    return Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))  # noqa: S704


def _cell(value: Cell) -> str:
    """Return a cell as text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else value
