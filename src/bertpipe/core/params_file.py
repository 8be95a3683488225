"""A params file, read into its schema.

A file whose key `extends` names another one, relative to its own folder, is an overlay: it holds only the values that
differ. Sections are merged key by key. Any other value replaces the base's as a whole, also a list, and a mapping whose
keys the user chose (`data.corpora`): each of these is one value.
"""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bertpipe.core.artifacts import PARAMS_FILE
from bertpipe.core.errors import LONGEST_MESSAGE, ParamsError
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import Params

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_PACKAGED = Path(__file__).parents[1] / "project"
PROJECT = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3]
"""The folder with bertpipe's params.yaml, params/ and dvc.yaml: within a wheel, or the root of a checkout."""
_SHOWN = 60
"""Characters of a name in a message."""
_MOST_VALUES = 100_000
"""Of a params file, each alias written out: a few lines of YAML can name billions."""
_Layers = list[tuple[Path, Any]]
"""A params file and its content, without `extends`; then the file that it extends, and so on."""


def load_params(path: Path, changes: Mapping[str, object] | None = None) -> Params:
    """Return the validated content of a params file, merged with what it extends.

    `changes` are values by their dotted names, such as `train.epochs`, in place of the file's.

    Raises:
        ParamsError: the file or its base is missing, is not YAML, or breaks the schema; all faults are named at once,
            each with its dotted name.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    layers = _read_layers(path)
    if changes:
        layers.insert(0, (Path("changes"), _nested(changes)))
    content = _merge_layers(layers)
    try:
        change_paths(content, os.path.expanduser)
        if _count(content, {}) > _MOST_VALUES:
            raise ParamsError(
                f"{path} has more than {_MOST_VALUES:,} values, because its aliases (*) repeat: remove them"
            )
        unreadable = [f"{name}: {fault}" for name, fault in _unreadable(content)]
    except RecursionError as error:
        raise ParamsError(f"{path} has a value within itself: write it out") from error
    if unreadable:
        raise _fault_list(path, unreadable)
    try:
        # JSON, because pydantic's strict mode takes a JSON array for a tuple but not a list.
        return TypeAdapter(Params).validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        faults: dict[str, list[str]] = {}
        for detail in error.errors():
            name, fault = _describe(detail, layers)
            faults.setdefault(name, []).append(fault)  # several where a value may be of several types
        raise _fault_list(path, [f"{name}: {', or '.join(fault)}" for name, fault in faults.items()]) from error


def packaged_params(name: str | None = None) -> Path:
    """Return bertpipe's own params.yaml, or the file in params/ with a recipe's values.

    Raises:
        ParamsError: there is no such recipe.
    """
    files = {path.stem: path for path in sorted((PROJECT / "params").rglob("*.yaml"))}
    if name is None:
        return PROJECT / PARAMS_FILE
    if name not in files:
        raise ParamsError(f"there is no recipe {shown(name)[:_SHOWN]}: take one of {', '.join(files)}")
    return files[name]


def _nested(changes: Mapping[str, object]) -> dict[str, Any]:
    """Return values by dotted names as sections."""
    content: dict[str, Any] = {}
    for name, value in changes.items():
        *sections, key = name.split(".")
        inner = reduce(lambda mapping, section: mapping.setdefault(section, {}), sections, content)
        inner[key] = value
    return content


def _fault_list(path: Path, faults: Sequence[str]) -> ParamsError:
    """Return an error that names the first faults, as many as a message has room for, and how many there are."""
    message = f"{path} has {len(faults)} fault(s):"
    for number, fault in enumerate(faults):
        if number and len(message) + len(fault) > LONGEST_MESSAGE - len("\n  \n  ..."):
            return ParamsError(f"{message}\n  ...")
        message += f"\n  {fault}"
    return ParamsError(message)


def merged_text(path: Path) -> str:
    """Return a params file as YAML that extends nothing: its values in its base, with the comments of both.

    Raises:
        ParamsError: see `load_params`; the schema is not checked.
    """
    layers = _read_layers(path, comments=True)
    return path.read_text(encoding="utf-8") if len(layers) == 1 else yaml_text(_merge_layers(layers))


def yaml_text(content: Any) -> str:  # noqa: ANN401
    """Return what ruamel.yaml has read, with later changes, as YAML in the form of params.yaml, with its comments."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml, text = YAML(), io.StringIO()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 1000
    yaml.representer.add_representer(type(None), lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null"))
    yaml.dump(content, text)
    return text.getvalue()


def change_paths(content: Any, change: Callable[[str], str]) -> None:  # noqa: ANN401
    """Change, in place, each value of a params file that can be the path of what a command reads.

    Not in `data`: DVC reads these itself.
    """

    def change_in(mapping: object, key: str) -> None:
        if isinstance(mapping, dict) and isinstance(value := mapping.get(key), str):
            changed = change(value)
            if changed != value:
                mapping[key] = changed

    if isinstance(content, dict):
        for section, key in (("download", "source"), ("prepare", "tokenizer"), ("train", "init")):
            change_in(content.get(section), key)
        infer = content.get("infer")
        examples = infer.get("examples") if isinstance(infer, dict) else None
        for example in examples if isinstance(examples, list) else ():
            change_in(example, "model")


def _count(content: Any, counts: dict[int, int]) -> int:  # noqa: ANN401
    """Return how many values a value holds, itself included; `counts` has those of what several aliases name."""
    if id(content) not in counts:
        parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
        counts[id(content)] = 1 + sum(_count(part, counts) for part in parts)
    return counts[id(content)]


def _unreadable(content: Any, place: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Yield the dotted names of keys that DVC ignores and of values that no text can have, and what to do."""
    if isinstance(content, str) and "\0" in content:
        yield place, "has a NUL character: remove it"
    if isinstance(content, str) and _has_half_a_character(content):
        yield place, "has half a character (a lone surrogate): write all of it"
    for key, value in (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    ):
        name = json.dumps(key, default=str).strip('"')[:_SHOWN]
        if isinstance(content, dict) and not isinstance(key, str):
            yield f"{place}.{name}".lstrip("."), f'write it in quotes, "{name}": DVC ignores names that are not text'
        elif isinstance(key, str) and _has_half_a_character(key):
            yield f"{place}.{name}".lstrip("."), "the name has half a character (a lone surrogate): write all of it"
        else:
            yield from _unreadable(value, f"{place}.{key}".lstrip("."))


def _has_half_a_character(text: str) -> bool:
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # joins two halves side by side
    return any("\ud800" <= character <= "\udfff" for character in whole)


def _read_layers(path: Path, *, comments: bool = False) -> _Layers:
    """Return the content of a params file and of each that it extends, itself first."""
    layers: _Layers = []
    current: Path | None = path
    while current is not None:
        if any(current.resolve() == above.resolve() for above, _ in layers):
            cycle = " extends ".join(str(file) for file in [*(above for above, _ in layers), current])
            raise ParamsError(f"{cycle}: that is a cycle, remove one line `extends`")
        content = _read_yaml(current, comments=comments, extended_by=layers[-1][0] if layers else None)
        base = _base(current, content.pop("extends")) if isinstance(content, dict) and "extends" in content else None
        layers.append((current, content))
        current = base
    for file, content in layers if len(layers) > 1 else ():
        if not isinstance(content, dict):
            raise ParamsError(f"{file} holds no sections, so {layers[0][0]} cannot extend it")
    return layers


def _base(path: Path, extends: object) -> Path:
    if not isinstance(extends, str) or not extends or "\0" in extends:
        raise ParamsError(f"{path} extends {extends!r}, which is not a path: write `extends: ../params.yaml`")
    try:
        return path.parent / Path(extends).expanduser()
    except RuntimeError as error:
        raise ParamsError(f"{path} extends {extends}: {error}") from error


def _read_yaml(path: Path, *, comments: bool, extended_by: Path | None) -> Any:  # noqa: ANN401
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    if not path.is_file():
        if extended_by is not None:
            raise ParamsError(f"no params file at {path}, which {extended_by} extends: correct its line `extends`")
        raise ParamsError(f"no params file at {path}: run in the project's folder, or name one with --params")
    try:
        reader = YAML(typ="rt") if comments else YAML(typ="safe", pure=True)
        return reader.load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise ParamsError(f"{path} is not YAML: line {line} is not UTF-8; save the file as UTF-8") from error
    except (YAMLError, ValueError, RecursionError) as error:  # a date or number that there is not, too deep
        reason = str(error).partition("To suppress this check")[0].strip()
        raise ParamsError(f"{path} is not YAML: {reason}") from error


def _merge_layers(layers: _Layers) -> Any:  # noqa: ANN401
    return reduce(lambda base, overlay: _merged(base, overlay, Params), [content for _, content in reversed(layers)])


def _merged(base: dict[str, Any], overlay: dict[str, Any], schema: type) -> dict[str, Any]:
    """Return a copy of `base` with the values of `overlay`; what the schema has as a section is merged itself."""
    kinds, merged = get_type_hints(schema), base.copy()
    for key, value in overlay.items():
        is_section = is_dataclass(kinds.get(key)) and isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value, kinds[key]) if is_section else value
    return merged


def _describe(detail: "ErrorDetails", layers: _Layers) -> tuple[str, str]:
    """Return one fault as its dotted name, without pydantic's type tags, and what is wrong."""
    known = {
        "missing": "is missing: add it",
        "unexpected_keyword_argument": "is not known: check its spelling, or remove it",
    }
    parts = [part for part in detail["loc"] if not _is_type_tag(str(part))]
    text = known.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    says_it_itself = detail["type"] in {"missing", "value_error", "union_tag_invalid", "union_tag_not_found"}
    given = "" if says_it_itself else f" (given: {detail['input']!r:.60})"
    holder = parts[:-1] if detail["type"] == "missing" else parts
    file = next((file for file, content in layers if _holds(content, holder)), layers[-1][0])
    where = "" if file == layers[0][0] else f" [in {file}]"
    return ".".join(map(str, parts)) or "the file", f"{text}{given}{where}"


def _holds(content: Any, parts: Sequence[int | str]) -> bool:  # noqa: ANN401
    """Return whether a file's content has the value at these keys and indices."""
    for part in parts:
        known = range(len(content)) if isinstance(content, list) else content if isinstance(content, dict) else ()
        if part not in known:
            return False
        content = content[part]
    return True


def _is_type_tag(part: str) -> bool:
    return part in {"nsp", "mlm"} or part.startswith(("constrained-", "literal["))
