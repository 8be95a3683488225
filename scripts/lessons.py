"""Writes lessons/lesson.ipynb (English) and lessons/leccion.ipynb (Spanish) from lessons/lesson.py.

The source has each text cell twice, one per language, and each code cell once. The notebooks have no outputs: those
differ from machine to machine. `--check` writes nothing: it exits with 1 and names the stale notebooks.
"""

import argparse
import sys
from itertools import count
from pathlib import Path
from typing import Any

import jupytext
import nbformat

LESSONS = Path(__file__).parent.parent / "lessons"
SOURCE = "lesson.py"
NOTEBOOKS = {"lesson.ipynb": "en", "leccion.ipynb": "es"}
"""The files and their languages."""


def notebook(source: str, language: str) -> Any:  # noqa: ANN401
    """Return the notebook of a source's code cells and of its text cells in one language."""
    read = jupytext.reads(source, fmt="py:percent")
    numbers = count(1)
    cells = []
    for cell in read.cells:
        if cell.metadata.get("lang", language) != language:
            continue
        make = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        metadata = {name: value for name, value in cell.metadata.items() if name != "lang"}
        cells.append(make(cell.source, id=f"cell-{next(numbers):03}", metadata=metadata))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    facts = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=facts)


def page(name: str) -> str:
    """Return what a notebook's file has to hold."""
    source = (LESSONS / SOURCE).read_text(encoding="utf-8")
    return nbformat.writes(notebook(source, NOTEBOOKS[name]), version=4) + "\n"


def stale() -> list[str]:
    """Return the names of the notebooks that differ from what the source says."""
    return [
        name
        for name in NOTEBOOKS
        if not (LESSONS / name).is_file() or (LESSONS / name).read_text(encoding="utf-8") != page(name)
    ]


def main() -> int:
    """Write the notebooks, or with `--check` say which are stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a notebook is stale")
    if parser.parse_args().check:
        for name in (found := stale()):
            sys.stderr.write(f"error: lessons/{name} is stale: run `python scripts/lessons.py`\n")
        return min(len(found), 1)
    for name in NOTEBOOKS:
        (LESSONS / name).write_text(page(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
