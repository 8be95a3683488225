"""The class of every command: a text may begin with a dash, and a path with `~`."""

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from bertpipe.cli.terminal import show_note
from bertpipe.core.errors import InputError, WriteError
from bertpipe.core.file_kinds import shown
from bertpipe.core.stores.objects import refuse_url, url_of, without_file_scheme

_OPTION = re.compile(r"--?[A-Za-z][A-Za-z0-9-]*(=.*)?", re.DOTALL)
"""What an option can look like; whatever else begins with a dash is a text, such as `- Who is it?`."""
_MARK = "\1text\1"
"""Hides a text's dash from the parser."""
_SHOWN_CHARACTERS = 60
_OUTPUTS = ("out", "history", "epoch_history", "timing", "epoch_answers")
"""Parameters that name outputs; of all commands but `train`, only the first is one."""
_READ_WHOLE = ("input_", "labelled", "test")
"""Parameters that may name a folder of which every file is read."""
_URLS = ("data", "model", "models", "init", "state")
"""Parameters that take the URL of an object store."""
_PLACED = ("train", "prepare", "convert", "export")
"""Commands whose output may be at such a URL."""
_NO_INPUTS = ("source",)
"""A download checks a zip and writes the same bytes, also to where they come from."""


class Command(TyperCommand):
    """A command that takes `- Who is it?` for a text, and `--out=~/x`, which no shell expands, for a path at home."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer does not export Click's class
        """Parse arguments; an error about what is no option says how to write a text that looks like one."""
        end = args.index("--") if "--" in args else len(args)
        try:
            rest = super().parse_args(ctx, [*map(_marked, args[:end]), *args[end:]])
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                is_unknown = hasattr(error, "possibilities") and self._names("argument")
                hint = ": write -- before a text that begins with a dash" if is_unknown else ""
                error.message = message.replace(_MARK, "") + hint  # type: ignore[attr-defined]
            raise
        options = self._names("option")
        ctx.params = {name: _unmarked(value, is_option=name in options) for name, value in ctx.params.items()}
        ctx.params = {name: _placed(self.name, name, value) for name, value in ctx.params.items()}
        _check_outputs(self.name, ctx.params)
        _note_pipes(ctx.params)
        return rest

    def _names(self, kind: str) -> set[str | None]:
        return {param.name for param in self.params if param.param_type_name == kind}


def _placed(command: str | None, name: str, value: object) -> object:
    """Return a path, also of one that is written as a URL of this machine.

    Raises:
        InputError: it is another URL, and the command takes none there.
    """
    if isinstance(value, list):
        return [_placed(command, name, each) for each in value]
    takes_urls = name in _URLS or (name == "out" and command in _PLACED) or (command, name) == ("prepare", "text")
    if (isinstance(value, Path) or name == "input_") and value is not None:
        (url_of if takes_urls else refuse_url)(str(value))
    return without_file_scheme(value) if isinstance(value, Path) else value


def _check_outputs(command: str | None, values: Mapping[str, object]) -> None:
    """Refuse an output file that would replace what the command reads, a params file, or another output.

    Raises:
        WriteError: there is one.
    """
    given = _each(values)
    paths = {name: Path(str(value)) for name, value in given.items() if isinstance(value, str | Path) and value != "-"}
    outputs = {name: paths[name] for name in (_OUTPUTS if command == "train" else _OUTPUTS[:1]) if name in paths}
    inputs = {name: path for name, path in paths.items() if name not in {*outputs, *_NO_INPUTS}}
    for name, out in outputs.items():
        shown_out = shown(str(out))[-_SHOWN_CHARACTERS:]
        twin = next((other for other in outputs if other != name and outputs[other].resolve() == out.resolve()), None)
        if twin:
            raise WriteError(f"{shown_out} is named for two outputs: name another file for one of them")
        for other, path in inputs.items():
            if other in _READ_WHOLE and path.is_dir() and path.resolve() in out.resolve().parents:
                raise WriteError(
                    f"{shown_out} lies in a folder that the command reads, and the next run would read it: name a "
                    "place outside"
                )
            if out.is_file() and os.path.isfile(path) and out.samefile(path):  # noqa: PTH113 - may be a long text
                raise WriteError(
                    f"{shown_out} is a file that the command reads, and the output would replace it: name another file"
                )
        if out.suffix.lower() in {".yaml", ".yml"} and out.is_file():
            raise WriteError(
                f"{shown_out} looks like a params file, and the output would replace it: name another file"
            )


def _each(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values of parameters, those of one that is given several times by a name each."""
    several = {
        f"{name} {at}": each
        for name, value in values.items()
        if isinstance(value, list)
        for at, each in enumerate(value)
    }
    return {**values, **several}


def _note_pipes(values: Mapping[str, object]) -> None:
    """Say which paths are named pipes: opening one waits for its other end, which may never come."""
    for value in _each(values).values():
        path = str(value)
        if isinstance(value, str | Path) and not path.startswith(("/dev/", "/proc/")):
            with suppress(OSError, ValueError):  # nothing is there, or it is a text
                if stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
                    show_note(f"{shown(path)[-_SHOWN_CHARACTERS:]} is a pipe: waiting for its other end; Ctrl-C stops")


def text_argument(value: str | None) -> str | None:
    """Return an argument as text, also where the process's locale is not UTF-8.

    Raises:
        InputError: its bytes are not UTF-8.
    """
    if value is None or value.isascii():
        return value
    try:
        # Python keeps bytes that its locale does not have as surrogates.
        return os.fsencode(value).decode("utf-8") if re.search(r"[\udc80-\udcff]", value) else value
    except UnicodeError as error:
        raise InputError(
            f"the argument '{shown(value)[:_SHOWN_CHARACTERS]}' is not UTF-8: use a terminal in UTF-8 and set "
            "PYTHONUTF8=1, or write the text into a file in UTF-8 and name that with --input"
        ) from error


def utf8_path(value: Any) -> Any:  # noqa: ANN401 - a path, a name or None
    """Return the path of a directory; the libraries that read and write models and tables need its name in UTF-8.

    Raises:
        InputError: it is not UTF-8.
    """
    path = str(Path(value).absolute()) if value else ""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"the path {shown(path)[-_SHOWN_CHARACTERS:]} is not UTF-8, and the libraries that read and write "
            "models and tables need that: rename the folder, or name another one"
        ) from error
    return value


def _marked(argument: str) -> str:
    is_text = len(argument) > 1 and argument.startswith("-") and not _OPTION.fullmatch(argument)
    return _MARK + argument if is_text else argument


def _unmarked(value: object, *, is_option: bool) -> object:
    if isinstance(value, Path):
        path = Path(str(_unmarked(str(value), is_option=is_option)))
        try:
            path.resolve()
        except RuntimeError as error:  # of Python before 3.13
            raise InputError(f"{shown(str(path))} is a link that leads to itself: name another path") from error
        return path
    if not isinstance(value, str):
        return value
    text = value.removeprefix(_MARK)
    return os.path.expanduser(text) if is_option and text.startswith("~/") else text  # noqa: PTH111 - may be no path
