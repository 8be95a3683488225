"""The words that bertpipe does not use, and the ones it uses instead: one word for one thing, in plain English.

In Python, names are looked up where others meet them: functions, classes, arguments, attributes, imports. In documents,
they are looked up within code. Phrases are looked up everywhere, also across the end of a line.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
NAMES = {
    "Wanted": "QueryPositions",
    "Share.WHOLE": "SINGLE",
    "leads": "is_main",
    "world.told": "world.broadcast",
    "world.total": "world.all_reduce_sum",
    "world.highest": "world.all_reduce_max",
    "world.scattered": "world.broadcast_or_shard",
    "world.agree": "world.assert_equal",
    "joined": "init_distributed",
    "settles": "needs_warmup_pass",
    "told": "broadcast, with_progress or splits",
    "Setting": "RunSpec",
    "Start": "InitialModel",
    "Plan": "StepSchedule",
    "ResidentBatcher": "DeviceBatcher",
    "Room": "ShapeBudget",
    "idle": "without_targets",
    "ahead": "prefetch",
    "Survey": "DocumentDigests",
    "Fates": "SplitAssignment",
    "Kept": "SplitDocument",
    "Found": "CorpusStats",
    "kept_lengths": "truncate_longest_first",
    "fitting": "truncate_longest_first",
    "Votes": "CooccurrenceCounts",
    "agreed": "mutual_best_pairs",
    "drawn=": "init_weights=",
    "Undrawn": "no_init",
    "undrawn": "no_init",
    "IGNORED": "IGNORE_INDEX",
    "whole_file": "atomic_file",
    "whole_directory": "atomic_directory",
    "only_one": "exclusive_lock",
    "check_place": "check_target",
    "Setback": "RetryableError",
    "Arrived": "PartialDownload",
    "undisturbed": "signals_blocked",
    "_listen": "check_stop_request",
    "at_once": "interruptible",
    "craft": "patterns",
    "judgement": "patterns",
}
"""A name, `base.attribute` or `argument=`, and the one to use."""
PHRASES = {
    r"an? (stage|row|pair|line|step|token|epoch|split|pass|process|second|interval|layer|predictor)"
    r" an? (command|row|line|pair|run|split|stage|epoch|step|file|table|shard|document|predictor|interval)": "per",
    r"nats an? \w+": "nats per",
    r"(tokens|texts|rows|sequences|steps) an? (second|step|batch|pass|line)": "per",
    r"(go|goes|going|went|gone) on from": "resume from",
    r"an?new": "again; 'starts over' or 'restarts' for a run",
    r"what is to go where": "where the output is written",
    r"see to (it|the \w+)": "fix this, or check the ...",
    r"the disk refuses": "writing failed",
    r"before any weight is drawn": "before the weights are initialised",
    r"(is|are|of|with) no numbers?": "is not a number, or is not finite",
    r"has its reason in its place": "reports the error on that line",
    r"made right": "corrected",
    r"mend(s|ed|ing)?": "fix",
}
"""A phrase, as a regular expression with blanks where white space is, and what to write."""


def sources() -> list[Path]:
    """Return the files that the words are kept out of."""
    docs = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]
    python = [*(PROJECT / "src").rglob("*.py"), *(PROJECT / "tests").rglob("*.py")]
    spared = {PROJECT / "docs" / "explanation" / "log.md", Path(__file__).resolve()}
    return sorted(path for path in [*docs, *python] if path not in spared)


def names_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield each name of a Python file with its line; an attribute of a name also as `name.attribute`."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Attribute):
            yield line, node.attr
            if isinstance(node.value, ast.Name | ast.Attribute):
                yield line, f"{node.value.id if isinstance(node.value, ast.Name) else node.value.attr}.{node.attr}"
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield line, node.arg
            yield line, f"{node.arg}="
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield line, node.name
        elif isinstance(node, ast.alias):
            yield from ((line, part) for part in [node.asname, *node.name.split(".")] if part)


def code_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield each name within the code of a document with its line."""
    for found in re.finditer(r"```python.*?```|(?<!`)`[^`\n]+`(?!`)", text, flags=re.DOTALL):
        for name in re.finditer(r"[A-Za-z_]\w*(\.\w+)?", found[0]):
            yield text.count("\n", 0, found.start() + name.start()) + 1, name[0]


def unwanted(text: str, *, python: bool) -> list[tuple[int, str, str]]:
    """Return line, word and the word to use, for each that a file should not have."""
    names = names_in(text) if python else code_in(text)
    found = [(line, name, NAMES[name]) for line, name in names if name in NAMES]
    prose = text.lower()
    prose = re.sub(r'^[ \t]*(#|[frb]?"+)|"+[ \t]*$', lambda quote: " " * len(quote[0]), prose, flags=re.MULTILINE)
    for phrase, better in PHRASES.items():
        pattern = rf"\b{phrase}\b".replace(" ", r"\s+")
        for match in re.finditer(pattern, prose):
            found.append((prose.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), better))
    return sorted(set(found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("files.whole_file(x)", [(1, "whole_file", "atomic_file")]),
        ("from x import only_one", [(1, "only_one", "exclusive_lock")]),
        ("class Wanted: ...\n", [(1, "Wanted", "QueryPositions")]),
        ("x = 1\nself.world.told(x)", [(2, "told", NAMES["told"]), (2, "world.told", "world.broadcast")]),
        ("def f(*, drawn): ...", [(1, "drawn=", "init_weights=")]),
        ("# a run that goes\n# on from there", [(1, "goes on from", "resume from")]),
        ('x = (f"it goes on {a} "\n  "from there: mend it")', [(2, "mend", "fix")]),
        ('x = (\n    f"it goes on "\n    f"from {a}"\n)', [(2, "goes on from", "resume from")]),
        ('"""Write one row a line."""', []),
        ('"""Write a row a line."""', [(1, "a row a line", "per")]),
        ("joined = drawn = told = report.total", []),
    ],
)
def test_names_and_phrases_are_found_where_they_are(text: str, expected: list[tuple[int, str, str]]) -> None:
    assert unwanted(text, python=True) == expected


def test_in_a_document_names_count_within_code_alone() -> None:
    text = "Start here: told you so.\n`only_one` and\n```python\nStart()\n```\nIt goes\non from there."
    assert unwanted(text, python=False) == [
        (2, "only_one", "exclusive_lock"),
        (4, "Start", "InitialModel"),
        (6, "goes on from", "resume from"),
    ]


def test_the_words_stay_out() -> None:
    said = [
        f"{path.relative_to(PROJECT)}:{line}: {word!r}: write {better}"
        for path in sources()
        for line, word, better in unwanted(path.read_text(encoding="utf-8"), python=path.suffix == ".py")
    ]
    assert said == [], "\n" + "\n".join(said)
