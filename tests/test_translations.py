"""The pages in Spanish say what the English ones say: the same headings, commands, outputs, links and figures."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
ENGLISH = ["README.md", "docs/tutorials/first-run.md", "docs/tutorials/notebook-run.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
MEASURED = re.compile(r"<!-- benchmarks: begin.*<!-- benchmarks: end -->", flags=re.DOTALL)


def both(name: str) -> tuple[str, str]:
    english = PROJECT / name
    return english.read_text(encoding="utf-8"), english.with_suffix(".es.md").read_text(encoding="utf-8")


def levels(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", BLOCK.sub("", text), flags=re.MULTILINE)]


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the kind and text of each code block, without the comments beside commands."""
    return [(kind, re.sub(r"^(\$ .*?) +# .*$", r"\1", code, flags=re.MULTILINE)) for kind, code in BLOCK.findall(text)]


def anchors(text: str) -> list[str]:
    """Return what the headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), flags=re.MULTILINE)
    return [re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings]


def figures(text: str) -> list[str]:
    """Return the numbers of the tables, written as in English."""
    tables = "\n".join(re.findall(r"^\|.*$", MEASURED.sub("", text), flags=re.MULTILINE))
    return [re.sub(r"\D", "", number) for number in re.findall(r"\d[\d.,]*\d|\d", tables)]


@pytest.mark.parametrize("name", ENGLISH)
def test_headings_match_one_to_one(name: str) -> None:
    english, spanish = map(levels, both(name))
    assert spanish == english
    assert len(english) > 4


@pytest.mark.parametrize("name", ENGLISH)
def test_commands_and_outputs_are_the_same(name: str) -> None:
    english, spanish = map(blocks, both(name))
    assert spanish == english
    assert sum(code.count("$ ") for _, code in english) > 4


@pytest.mark.parametrize("name", ENGLISH)
def test_tables_have_the_same_figures(name: str) -> None:
    english, spanish = both(name)
    assert figures(spanish) == figures(english)
    assert MEASURED.findall(spanish) == MEASURED.findall(english)


@pytest.mark.parametrize("name", ENGLISH)
def test_nothing_is_left_out(name: str) -> None:
    english, spanish = (BLOCK.sub("", MEASURED.sub("", text)) for text in both(name))
    assert len(spanish) > 0.95 * len(english)
    assert spanish.count("\n\n") == english.count("\n\n")
    assert spanish.count("](") >= english.count("](")
    assert set(re.findall(r"`([^`\n]+)`", english)) <= set(re.findall(r"`([^`\n]+)`", spanish)) | {
        "lessons/lesson.ipynb"
    }


@pytest.mark.parametrize("name", ENGLISH)
def test_links_of_the_spanish_page_lead_somewhere(name: str) -> None:
    page = (PROJECT / name).with_suffix(".es.md")
    for target, anchor in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            file = page.parent / target
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), anchor
