"""Which of our own source files a module needs: the code that a result depends on."""

import ast
import hashlib
from pathlib import Path

_PACKAGE = "bertpipe"
_ROOT = Path(__file__).parents[2]


def source_files(module: str) -> tuple[Path, ...]:
    """Return the files of `module` and of everything within bertpipe that it imports, directly or not, sorted.

    Imports inside functions count. A package's own `__init__.py` counts where a name is taken from it.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = _file(name)
        waiting.extend(_imports(found[name]))
    return tuple(sorted(found.values()))


def source_digest(module: str) -> str:
    """Return one SHA-256 over the content of `source_files(module)`."""
    digest = hashlib.sha256()
    for path in source_files(module):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.extend(_target(node.module, alias.name) for alias in node.names)
    return [name for name in names if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]


def _target(module: str, name: str) -> str:
    """Return the module that `from module import name` reads: a submodule, or the module itself."""
    submodule = f"{module}.{name}"
    return submodule if module.partition(".")[0] == _PACKAGE and _path(submodule).is_file() else module


def _file(name: str) -> Path:
    path = _path(name)
    return path if path.is_file() else path.with_suffix("") / "__init__.py"


def _path(name: str) -> Path:
    return _ROOT.joinpath(*name.split(".")).with_suffix(".py")
