"""Say what the committed results were not made from: sources, params or commands that are not those of dvc.lock."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
_ABSENT = ("deleted", "not in cache")
"""What DVC says of data that is not in the checkout, which nobody can compare here."""


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
            "error: dvc.lock and reports/ are of something else: run `make repro` and commit what it wrote\n"
        )
    return int(bool(found))


def differences(status: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return a line for each thing that differs from dvc.lock.

    Args:
        status: what `dvc status --json` printed: by stage, changed commands as strings, other changes as mappings.
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
