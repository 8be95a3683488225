"""Check that the committed results are of this tree: sources, params and commands are those of dvc.lock."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
_ABSENT = ("deleted", "not in cache")
"""DVC's words for data that are not in the checkout, and cannot be compared."""


def main() -> int:
    """Print each difference; return 1 if there is one."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=PROJECT,
        check=True,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    found = differences(json.loads(done.stdout))
    for line in found:
        sys.stderr.write(f"{line}\n")
    if found:
        sys.stderr.write(
            "error: dvc.lock and reports/ are not of this tree: run `make repro` and commit what it wrote\n"
        )
    return int(bool(found))


def differences(status: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return one line per difference from dvc.lock.

    Args:
        status: the output of `dvc status --json`: by stage, changed commands as strings, other changes as mappings.
    """
    lines = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):
                lines.append(f"{stage}: {change}")
                continue
            for kind, entries in change.items():
                lines.extend(
                    f"{stage}: {kind}: {name} ({what})" for name, what in entries.items() if what not in _ABSENT
                )
    return lines


if __name__ == "__main__":
    sys.exit(main())
