"""What the sources may not say: whatever would let data, models or settings run code, or leave their place."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

UNPICKLES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "pickletools"}
TALKS = {
    "socket",
    "requests",
    "httpx",
    "aiohttp",
    "urllib3",
    "ftplib",
    "telnetlib",
    "smtplib",
    "paramiko",
    "webbrowser",
}
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
STARTS_PROGRAMS = re.compile(
    r"os\.(system|popen|exec[lv]\w*|spawn\w+|posix_spawn\w*)|pty\.spawn|asyncio\.create_subprocess_\w+"
)
UNPACKS = {"extract", "extractall", "unpack_archive"}
LOADS_CODE = {"torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "pandas.read_pickle"}
MAY_START_PROGRAMS = {
    "scripts/check_results.py",
    "scripts/repro_copy.py",
    "benchmarks/quality.py",
    "benchmarks/shards.py",
    "benchmarks/startup.py",
    "benchmarks/prepare.py",
    "benchmarks/processes.py",
    "clients/environments.py",
}
MAY_TALK = {
    "src/bertpipe/commands/demo.py",  # it looks for a port of this machine that is free
    "src/bertpipe/sources/web.py",
    "src/bertpipe/sources/engines/ray.py",  # it asks whether anything answers at an address that the user gives
}


def faults(source: str, file: str = "src/bertpipe/any.py") -> list[str]:
    """Return what a source file says that it may not, each with its line."""
    tree = ast.parse(source)
    found = _Faults(file=file, tree=tree, names=_imported(tree))
    for node in ast.walk(tree):
        found.look_at(node)
    if file.startswith("src/"):
        found.look_for_the_environment()
    return found.lines


def _imported(tree: ast.AST) -> dict[str, str]:
    """Return the full name behind each name that an import gives."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                names[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@dataclass
class _Faults:
    file: str
    tree: ast.AST
    names: Mapping[str, str]
    lines: list[str] = field(default_factory=list)

    def look_at(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._module(node, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                self._module(node, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                self._setting(node, key.value if isinstance(key, ast.Constant) else None, value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    self._setting(node, target.slice.value, node.value)
                elif isinstance(target, ast.Attribute):
                    self._setting(node, target.attr, node.value)

    def _tell(self, node: ast.AST, what: str) -> None:
        self.lines.append(f"{self.file}:{getattr(node, 'lineno', 0)}: {what}")

    def _module(self, node: ast.AST, name: str) -> None:
        top = name.split(".", maxsplit=1)[0]
        if top in UNPICKLES:
            self._tell(node, f"imports {top}, which runs what it reads")
        if (top in TALKS or name.startswith(("urllib.request", "http.client"))) and self.file not in MAY_TALK:
            self._tell(node, f"imports {name}: downloads and Ray alone use the network")
        if top == "subprocess" and self.file not in MAY_START_PROGRAMS:
            self._tell(node, "imports subprocess: only some files start programs")

    def _name(self, function: ast.expr) -> str:
        parts: list[str] = []
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        root = self.names.get(function.id) if isinstance(function, ast.Name) else None
        if root is None:  # a variable, or a builtin if it stands alone
            root = function.id if isinstance(function, ast.Name) and not parts else "?"
        return ".".join([root, *reversed(parts)])

    def _call(self, node: ast.Call) -> None:
        name = self._name(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
        for key, value in keywords.items():
            self._setting(node, key, value)
        if name.removeprefix("builtins.") in RUNS_CODE:
            self._tell(node, f"calls {name}")
        if name in LOADS_CODE:
            self._tell(node, f"calls {name}, which runs what it reads")
        if name == "torch.load" and not _is(keywords.get("weights_only"), True):
            self._tell(node, "calls torch.load without weights_only=True")
        if name.rsplit(".", maxsplit=1)[-1] in UNPACKS:
            self._tell(node, f"calls {name}: members are read, never unpacked to their names")
        if STARTS_PROGRAMS.fullmatch(name):
            self._tell(node, f"calls {name}")
        if name == "tempfile.mktemp":
            self._tell(node, "calls tempfile.mktemp: a name is not yet a private file")
        if name.startswith("yaml.") and name.rsplit(".", maxsplit=1)[-1] not in {
            "safe_load",
            "safe_load_all",
            "safe_dump",
            "dump",
        }:
            self._tell(node, f"calls {name}: only YAML(typ='safe') is read")
        if name == "ruamel.yaml.YAML" and not isinstance(keywords.get("typ", ast.Constant("rt")), ast.Constant):
            self._tell(node, "makes a YAML reader of a type that is not written out")
        if name == "importlib.import_module" and not (node.args and isinstance(node.args[0], ast.Constant)):
            self._tell(node, "imports a module whose name is not written out")
        if name == "importlib.import_module" and node.args and isinstance(node.args[0], ast.Constant):
            self._module(node, str(node.args[0].value))
        if name.endswith(".from_pretrained"):
            self._from_pretrained(node, name)

    def _setting(self, node: ast.AST, key: object, value: ast.expr) -> None:
        """Look at `key=value`, `{"key": value}`, `x["key"] = value` and `x.key = value`."""
        for name in ("trust_remote_code", "shell", "allow_pickle", "allow_all_kernels"):
            if key == name and not _is(value, False):
                self._tell(node, f"sets {name} to something other than False")
        if key == "weights_only" and not _is(value, True):
            self._tell(node, "sets weights_only to something other than True")
        if key == "pickle_module":
            self._tell(node, "names a pickle module")
        if key == "verify" and _is(value, False):
            self._tell(node, "sets verify to False")
        if key == "typ" and isinstance(value, ast.Constant) and value.value == "unsafe":
            self._tell(node, "reads YAML that makes objects")

    def _from_pretrained(self, node: ast.Call, name: str) -> None:
        needed = {"trust_remote_code": False, "weights_only": True, "attn_implementation": "eager"}
        if name.split(".")[-2].endswith(("Tokenizer", "Config")):
            needed = {"trust_remote_code": False}
        given = self._given(node)
        for key, value in needed.items():
            if key not in given or not (isinstance(given[key], ast.Constant) and given[key].value == value):  # type: ignore[attr-defined]
                self._tell(node, f"calls {name} without {key}={value!r}")

    def _given(self, node: ast.Call) -> dict[str, ast.expr]:
        """Return the keywords of a call, those of a `**name` too where a dict of that name is written out."""
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
        spread = {
            keyword.value.id for keyword in node.keywords if keyword.arg is None and isinstance(keyword.value, ast.Name)
        }
        for other in ast.walk(self.tree):
            targets = [other.target] if isinstance(other, ast.AnnAssign) else getattr(other, "targets", [])
            named = any(isinstance(target, ast.Name) and target.id in spread for target in targets)
            if named and isinstance(value := getattr(other, "value", None), ast.Dict):
                pairs = zip(value.keys, value.values, strict=True)
                given |= {str(key.value): each for key, each in pairs if isinstance(key, ast.Constant)}
        return given

    def look_for_the_environment(self) -> None:
        """What is taken from the environment, which holds secrets, is taken by name; `list` gives the names alone."""
        by_name = {
            id(node.value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get")
        }
        by_name |= {
            id(node.args[0])
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and self._name(node.func) == "list" and len(node.args) == 1
        }
        for node in ast.walk(self.tree):
            is_environment = isinstance(node, ast.Name | ast.Attribute) and self._name(node) == "os.environ"
            if is_environment and id(node) not in by_name:
                self._tell(node, "takes the whole environment, which holds secrets")
