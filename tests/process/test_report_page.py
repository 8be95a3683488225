"""The page of `report` in a real browser: Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.artifacts import write_json
from bertpipe.core.params import Params
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.model.store import save_model
from bertpipe.stages.report import run_report
from exports import METRICS
from models import tiny_bert

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the extra dev")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: install the package chromium")
LOOKS = [(width, theme) for width in (375, 1440) for theme in ("light", "dark")]
a_phone_and_a_screen = pytest.mark.parametrize("opened", [(375, "light"), (1440, "dark")], indirect=True, ids=str)
HOSTILE = "</script><script>document.title = 'hit'</script><img src=x onerror=\"document.title = 'hit'\">"
CONTRAST = """() => {
  const parts = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
  const light = (colour) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const all = (names) => [...document.querySelectorAll(names)];
  const texts = all("p, td, th, caption, summary, a, button, label, select, h1, h2, mark, code");
  const inks = all(".chart svg text").map((t) => [getComputedStyle(t).fill, behind(t)]);
  const shown = texts.filter((t) => t.textContent.trim()).map((t) => [getComputedStyle(t).color, behind(t)]);
  const styles = (mark) => [getComputedStyle(mark).stroke, getComputedStyle(mark).fill];
  const colour = (mark) => styles(mark).find((found) => found.startsWith("rgb("));
  const marks = all(".mark-line path, .mark-rect.role-mark path, .mark-symbol.role-mark path")
    .filter((mark) => !mark.closest("#chart-attention")).map(colour)
    .filter(Boolean).map((c) => [c, behind(document.body)]);
  const lowest = (pairs) => Math.min(...pairs.map(([one, other]) => ratio(one, other)));
  return { texts: lowest([...shown, ...inks]), marks: lowest(marks), count: marks.length };
}"""
"""The lowest contrast of any text, and of any line, bar or point, by the formula of WCAG 2.2."""


@pytest.fixture(scope="module")
def page_file(tiny: Params, trained: Path, parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a whole run."""
    folder = tmp_path_factory.mktemp("page")
    size = load_tokenizer(parquet / "tokenizer.json").vocab_size
    bert = tiny_bert(vocab_size=size, max_positions=64)  # of several layers and heads
    save_model(folder / "model", bert, parquet / "tokenizer.json", facts={})
    write_json(folder / "metrics.json", METRICS)
    answer = {"candidates": [{"token": HOSTILE, "token_id": 9, "probability": 0.5}], "position": 2}
    rows = [
        {"task": "mlm", "inputs": {"text": f"the [MASK] {'the ' * number}. {HOSTILE * (number == 2)}"}, "model": "m",
         "expect": None, "as_expected": None, "answer": {"filled_text": "", "masks": [answer], "warnings": []}}
        for number in range(3)
    ]  # fmt: skip
    write_json(folder / "examples.json", rows)
    run_report(
        tiny.evaluate, tiny.runtime, model=folder / "model", data=parquet, history=trained / "history.csv",
        epochs=trained / "epochs.csv", timing=trained / "timing.csv", metrics=folder / "metrics.json",
        examples=folder / "examples.json", answers=trained / "answers.json", out=folder / "report.html",
    )  # fmt: skip
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a headless Chromium."""
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=LOOKS, ids=str)
def opened(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Any]:  # noqa: ANN401
    """Return the page once its charts are drawn; afterwards nothing was wrong, and nothing was fetched."""
    width, theme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asking: asked.append(asking.url))
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-drawn=yes]")
    yield page
    page.close()
    assert said == []
    assert asked == [page_file.as_uri()]


def test_all_charts_are_drawn_and_nothing_is_wider_than_the_window(opened: Any) -> None:  # noqa: ANN401
    charts = opened.query_selector_all("[data-chart]")
    assert len(charts) == 10
    for chart in charts:
        assert chart.query_selector("svg .mark-line, svg .mark-rect, svg .mark-symbol")
        assert chart.get_attribute("role") == "img"
    wide, window = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= window
    assert opened.title().startswith("Report on")  # no text of the data ran
    assert opened.locator("body").inner_text().count("document.title = 'hit'") >= 2


def test_text_and_marks_have_the_contrast_of_level_aa(opened: Any) -> None:  # noqa: ANN401
    opened.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    for _ in range(2):  # the theme of the system, and the other one
        lowest = opened.evaluate(CONTRAST)
        assert lowest["texts"] >= 4.5
        assert lowest["marks"] >= 3
        assert lowest["count"] > 20
        opened.click("#theme")


@a_phone_and_a_screen
def test_every_control_works_from_the_keyboard(opened: Any) -> None:  # noqa: ANN401
    focused = "document.activeElement.id || document.activeElement.tagName"
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.getAttribute('href')") == "#main"
    opened.keyboard.press("Tab")
    assert opened.evaluate(focused) == "theme"
    seen = set[tuple[str, str]]()
    for _ in range(2):
        colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        seen.add((colour, opened.get_attribute("#theme", "aria-pressed")))
        opened.keyboard.press("Enter")
    assert seen == {("rgb(255, 255, 255)", "false"), ("rgb(20, 24, 29)", "true")}
    reached = set[str]()
    for _ in range(150):
        opened.keyboard.press("Tab")
        at = opened.evaluate(focused)
        if at == "SUMMARY":
            opened.keyboard.press("Enter")
            assert opened.evaluate("document.activeElement.parentElement.open")
        elif at.startswith("attention-"):
            said = opened.inner_text("#attention-said")
            first = opened.evaluate("document.activeElement.selectedIndex") == 0
            opened.keyboard.press("ArrowDown" if first else "ArrowUp")
            playwright.expect(opened.locator("#attention-said")).not_to_have_text(said)
            reached.add(at)
        elif at == "BODY":
            break
    assert reached == {"attention-example", "attention-layer", "attention-head"}
    assert opened.evaluate("[...document.querySelectorAll('details')].every((part) => part.open)")


@a_phone_and_a_screen
def test_the_grid_of_attention_shows_the_numbers_of_its_table(opened: Any) -> None:  # noqa: ANN401
    opened.select_option("#attention-head", index=1)
    opened.select_option("#attention-example", index=1)
    playwright.expect(opened.locator("#attention-said")).to_contain_text("head 2")
    opened.evaluate("document.getElementById('figure-attention').querySelector('details').open = true")
    size = opened.locator("#attention-table tbody tr").count()
    assert opened.locator("#chart-attention .mark-rect.role-mark path").count() == size**2
    content = opened.evaluate("JSON.parse(document.getElementById('content').textContent).attention[1]")
    layer = int(opened.input_value("#attention-layer"))
    first = opened.locator("#attention-table tbody tr").first.inner_text().split("\t")
    assert [int(cell) for cell in first[1:]] == content["percent"][layer][1][0]


@a_phone_and_a_screen
def test_a_point_under_the_mouse_shows_its_numbers(opened: Any) -> None:  # noqa: ANN401
    opened.locator("#chart-mlm-loss .mark-symbol.role-mark path").last.hover()
    assert "optimizer step" in opened.inner_text("#vg-tooltip-element")


@a_phone_and_a_screen
def test_print_has_light_colours_and_every_chart(opened: Any) -> None:  # noqa: ANN401
    opened.emulate_media(media="print")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.locator("#theme").is_hidden()
    assert all(chart.is_visible() for chart in opened.query_selector_all("[data-chart] svg"))
