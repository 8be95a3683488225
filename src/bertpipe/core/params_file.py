"""A params file, read into its schema."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import Params

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def load_params(path: Path) -> Params:
    """Return the validated content of a params file.

    Raises:
        ParamsError: the file is missing, is not YAML, or breaks the schema; all faults are named at once, each
            with its dotted name.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    data = _read_yaml(path)
    try:
        # JSON, because pydantic's strict mode takes a JSON array for a tuple but not a list.
        return TypeAdapter(Params).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for detail in error.errors():
            name, fault = _describe(detail)
            faults.setdefault(name, []).append(fault)  # several where a value may be of several types
        lines = "\n".join(f"  {name}: {', or '.join(fault)}" for name, fault in faults.items())
        raise ParamsError(f"{path} has {len(faults)} fault(s):\n{lines}") from error


def _read_yaml(path: Path) -> object:
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    if not path.is_file():
        raise ParamsError(f"no params file at {path}: run in the project's folder, or name one with --params")
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error


def _describe(detail: "ErrorDetails") -> tuple[str, str]:
    """Return one fault as its dotted name, without pydantic's type tags, and what is wrong."""
    known = {
        "missing": "is missing: add it",
        "unexpected_keyword_argument": "is not known: check its spelling, or remove it",
    }
    name = ".".join(str(part) for part in detail["loc"] if not _is_type_tag(str(part)))
    text = known.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    says_it_itself = detail["type"] in {"missing", "value_error", "union_tag_invalid", "union_tag_not_found"}
    given = "" if says_it_itself else f" (given: {detail['input']!r:.60})"
    return name or "the file", f"{text}{given}"


def _is_type_tag(part: str) -> bool:
    return part in {"nsp", "mlm"} or part.startswith(("function-", "literal["))
