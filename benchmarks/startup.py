"""How long the command line takes to answer, against a bare Typer app."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Work, alternate

ROUNDS = 15
BARE = '''
import typer
app = typer.Typer()
@app.command()
def one(name: str = "x") -> None:
    """Do one thing."""
@app.command()
def two(name: str = "x") -> None:
    """Do another."""
app()
'''


def help_time(work: Path) -> list[dict[str, Any]]:
    """Return the time of `bertpipe --help` and of a two-command Typer app's `--help`."""
    bare = work / "bare_typer.py"
    bare.write_text(BARE, encoding="utf-8")
    commands = {"bare Typer": [sys.executable, str(bare)], "bertpipe": [sys.executable, "-m", "bertpipe"]}

    def ask(command: list[str]) -> Work:
        subprocess.run([*command, "--help"], capture_output=True, check=True)  # noqa: S603
        return Work(sequences=1)

    turns = alternate({name: lambda command=command: ask(command) for name, command in commands.items()}, rounds=ROUNDS)
    theirs, ours = (1 / turns[name].rate("sequences") for name in ("bare Typer", "bertpipe"))
    loads_torch = "torch" in _modules_of_help()
    return [
        {
            "work": "--help",
            "bare_typer_ms": 1000 * theirs,
            "ours_ms": 1000 * ours,
            "ratio": ours / theirs,
            "goal": 1.5,
            "loads_torch": loads_torch,
        }
    ]


def _modules_of_help() -> set[str]:
    code = "import sys; sys.argv = ['bertpipe', '--help']\ntry:\n import bertpipe.__main__ as m; m.main()\n"
    code += "except SystemExit: pass\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return set(done.stderr.split())
