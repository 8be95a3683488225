"""Writes docs/reference/commands.md from the command line, and params.md from the schema and params.yaml.

`--check` writes nothing: it exits with 1 and names the stale pages.
"""

import argparse
import ast
import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

import typer
import typer.main

from bertpipe.cli.app import app
from bertpipe.core.params import Params
from bertpipe.core.params_file import load_params

PROJECT = Path(__file__).parent.parent
REFERENCE = PROJECT / "docs" / "reference"
GENERATED = "<!-- made by scripts/reference.py: run it, do not edit this page -->\n\n"


def commands_page() -> str:
    """Return the page of all commands, in the order in which `--help` lists them."""
    group = typer.main.get_command(app)
    return (
        f"{GENERATED}# Commands\n\n{_plain(group.help or '')}\n\n"
        "Every command has `--help`, works without DVC on the default paths, and takes `--json` for output that "
        "programs read.\n`bertpipe --version` shows the version.\n"
        "An error that you can fix is one message on standard error and exit code 1. Ctrl-C gives 130, SIGTERM 143.\n\n"
        + "\n".join(_commands(group, app.info.name or ""))
    )


def _commands(command: Any, name: str) -> Iterator[str]:  # noqa: ANN401
    """Yield the section of a command, or those of a group's commands."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield _command(command, name)
    else:
        for inner_name, inner_command in inner.items():
            yield from _commands(inner_command, f"{name} {inner_name}")


def _command(command: Any, name: str) -> str:  # noqa: ANN401
    hints = typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    usage: list[str] = [name]
    rows: dict[str, list[list[str]]] = {"argument": [], "option": []}
    for parameter in command.params:
        value_type, info = typing.get_args(hints[parameter.name])[:2]
        kind = parameter.param_type_name
        shown = _shown(parameter, value_type) if kind == "option" else parameter.name.upper()
        if parameter.required:
            usage.append(shown)
        elif kind == "argument":
            usage.append(f"[{shown}]")
        rows[kind].append([f"`{shown}`", _meaning(info, value_type), _default(parameter)])
    parts = [f"## {name}\n\n{_plain(command.help or '')}\n\n```text\n{' '.join([*usage, '[OPTIONS]'])}\n```"]
    parts += [_table([kind.title(), "Meaning", "Default"], lines) for kind, lines in rows.items() if lines]
    return "\n\n".join(parts) + "\n"


def _shown(option: Any, value_type: object) -> str:  # noqa: ANN401
    flags = " / ".join([*option.opts, *option.secondary_opts])
    return flags if option.is_flag else f"{flags} {option.metavar or _placeholder(value_type)}"


def _placeholder(value_type: object) -> str:
    inside = [part for part in typing.get_args(value_type) if part is not NoneType]
    if inside and typing.get_origin(value_type) is not Literal:  # X | None, list[X]
        return _placeholder(inside[0])
    return "NUMBER" if value_type is int else "PATH" if value_type is Path else "TEXT"


def _meaning(info: Any, value_type: object) -> str:  # noqa: ANN401
    choices = [part for part in (value_type, *typing.get_args(value_type)) if typing.get_origin(part) is Literal]
    among = f" {_type(choices[0])}." if choices else ""
    lowest = f" At least {info.min}." if info.min is not None else ""
    return f"{_plain(info.help or '')}{among}{lowest}"


def _default(parameter: Any) -> str:  # noqa: ANN401
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return _plain(parameter.show_default)
    if parameter.default is None or isinstance(parameter.default, bool):
        return {True: "yes", False: "no", None: ""}[parameter.default]
    return f"`{parameter.default}`"


def params_page() -> str:
    """Return the page of all params: what each means, which values it takes, and its value in params.yaml."""
    values = load_params(PROJECT / "params.yaml")
    sections = [
        section
        for field in dataclasses.fields(Params)
        for section in _sections(field.name, getattr(values, field.name))
    ]
    return (
        f"{GENERATED}# Params\n\n"
        "Every number of the pipeline is in `params.yaml`; the schema has no defaults of its own. An unknown key, a "
        "missing one or a value out of its limits is an error that names the key.\nThe last column is the value in "
        "`params.yaml`; the files in `params/` hold other sets.\n\n" + "\n".join(sections)
    )


def _sections(name: str, values: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield a section of the params, and those within it."""
    kind = type(values)
    docs, hints = _field_docs(kind), typing.get_type_hints(kind, include_extras=True)
    rows, inner = [], []
    for field in dataclasses.fields(kind):
        value = getattr(values, field.name)
        if dataclasses.is_dataclass(value):
            inner.append((f"{name}.{field.name}", docs[field.name], value))
            continue
        rows.append([f"`{field.name}`", docs[field.name], _type(hints[field.name]), _value(value)])
    yield f"## {name}\n\n{_plain(inspect.getdoc(kind) or '')}\n\n{_table(['Key', 'Meaning', 'Takes', 'Value'], rows)}\n"
    for inner_name, _, value in inner:
        yield from _sections(inner_name, value)
    first_of_each: dict[type, Any] = {}
    for value in _parts(values):
        first_of_each.setdefault(type(value), value)
    for value in first_of_each.values():
        yield from _sections(f"{name}.examples, task {value.task}", value)


def _parts(values: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the records within lists of a section: the examples of `infer`."""
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if isinstance(value, tuple):
            yield from (part for part in value if dataclasses.is_dataclass(part))


def _field_docs(kind: type) -> dict[str, str]:
    """Return what the string below each field says.

    Raises:
        ValueError: a field has none.
    """
    body = typing.cast("ast.ClassDef", ast.parse(inspect.getsource(kind)).body[0]).body
    docs = {
        line.target.id: _plain(ast.literal_eval(below.value))
        for line, below in pairwise(body)
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }
    missing = [field.name for field in dataclasses.fields(kind) if field.name not in docs]
    if missing:
        raise ValueError(f"{kind.__name__}: write a docstring below {', '.join(missing)}")
    return docs


_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
"""The names of limits in annotated-types, in words."""
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "`true` or `false`", NoneType: "`null`"}


def _type(hint: Any) -> str:  # noqa: ANN401
    """Return which values a field takes, in words."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        limits = [
            f"{word} {_number(getattr(limit, name))}"
            for limit in inside[1:]
            for name, word in _BOUNDS.items()
            if getattr(limit, name, None) is not None
        ]
        return ", ".join([_type(inside[0]), " and ".join(limits)]).removesuffix(", ")
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inside)
    if origin in (typing.Union, UnionType):
        return " or ".join(map(_type, inside))
    if origin is dict:
        return "a mapping of names to " + _type(inside[1])
    if origin is tuple:
        return "a list of the examples below"
    return _NAMES.get(hint, "a section")


def _number(value: float) -> str:
    """Return a number as a person writes it."""
    return "2**63 - 1" if value == 2**63 - 1 else str(int(value)) if value == int(value) else str(value)


def _value(value: object) -> str:
    """Return a value as YAML has it."""
    if isinstance(value, tuple):
        return f"{len(value)} of them"
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    return f"`{_number(value) if isinstance(value, int | float) else value}`"


def _plain(text: str) -> str:
    """Return a docstring or help text as one line of Markdown, without Typer's escape of a bracket."""
    return re.sub(r"\s+", " ", text.replace("\\[", "[")).strip().replace("|", "\\|")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace(chr(10), ' ') for cell in line)} |" for line in lines)


PAGES = {"commands.md": commands_page, "params.md": params_page}
"""The generated pages and their functions."""


def stale() -> list[str]:
    """Return the names of the pages that differ from what the code says."""
    return [
        name
        for name, page in PAGES.items()
        if not (REFERENCE / name).is_file() or (REFERENCE / name).read_text(encoding="utf-8") != page()
    ]


def main() -> int:
    """Write the pages, or with `--check` say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    if parser.parse_args().check:
        for name in (found := stale()):
            sys.stderr.write(f"error: docs/reference/{name} is stale: run `python scripts/reference.py`\n")
        return min(len(found), 1)
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
