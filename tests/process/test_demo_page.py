"""The page of `demo`, and that of a Space, in a real browser: Chromium, driven by Playwright."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bertpipe.commands.demo import free_port
from bertpipe.core.errors import InputError
from bertpipe.export.space.page import ALL_HEADS, LAST
from bertpipe.inference.predictor import load_predictor
from exports import export_of, piece_tokenizer, save_model_with
from models import save_tiny_huggingface, save_tiny_model
from test_demo import candidates_of, verdict_of

pytest.importorskip("gradio", reason="Gradio is not installed: `make check` has it in an environment of its own")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: it is in the extra dev")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: install the package chromium"),
    # Of the libraries of Gradio's client.
    pytest.mark.filterwarnings("ignore"),
]
HOSTILE = "<img/src=x>"
WATCHED = """
import runpy, sys
log, name, *arguments = sys.argv[1:]
def watch(event, values):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open(log, "a") as file:
            print(values[1] if event == "socket.connect" else values[0], file=file)
sys.addaudithook(watch)
sys.argv = [name, *arguments]
if name.endswith(".py"):
    sys.path[0] = "."
    runpy.run_path(name, run_name="__main__")
else:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
"""
"""Runs a module or a file, and writes down every address that it looks up or connects to."""


class Served:
    """A page in a process of its own, and a window of a browser on it."""

    def __init__(self, folder: Path, *command: str) -> None:
        self.port = free_port("127.0.0.1", None)
        self.url, self._log = f"http://127.0.0.1:{self.port}/", folder / "addresses.txt"
        program = [sys.executable, "-c", WATCHED, str(self._log), *(part.format(port=self.port) for part in command)]
        self.process = subprocess.Popen(
            program, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "GRADIO_SERVER_PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": ""},
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError(self.end())

    def end(self) -> tuple[int, str]:
        """Return the exit code after Ctrl-C, and what was written on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def other_addresses(self) -> list[str]:
        """Return every address of another machine that the process wanted."""
        found = self._log.read_text().splitlines() if self._log.exists() else []
        return [line for line in found if not re.match(r"\(?'?(127\.0\.0\.1|::1|localhost|None)", line)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three models: one has a word that looks like HTML, one is Hugging Face's, one an export."""
    folder = tmp_path_factory.mktemp("demo")
    save_tiny_model(folder / "ours", words=("the", "cat", "sat", ".", HOSTILE))
    save_tiny_huggingface(folder / "theirs")
    save_model_with(folder / "model", piece_tokenizer(), architecture="modern", embedding_dim=12)
    export_of(folder / "model", space=True)
    return folder


@pytest.fixture(scope="module")
def demo(folder: Path) -> Iterator[Served]:
    served = Served(folder, "bertpipe", "demo", "--model", "ours", "--model", "theirs", "--port", "{port}")
    yield served
    served.end()


@pytest.fixture(scope="module")
def space(folder: Path) -> Iterator[Served]:
    served = Served(folder / "model-hf", "app.py")
    yield served
    served.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Window:
    """A page that is open, and what it did."""

    def __init__(self, browser: Any, url: str, width: int = 1440) -> None:  # noqa: ANN401
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.goto(url)
        self.button = self.page.get_by_role("button", name="Ask")
        self.button.wait_for()
        self.first = self.page.get_by_label("Sentence", exact=True)
        self.second = self.page.get_by_label("Second sentence (may stay empty)")

    def box(self, label: str, column: int = 0) -> Any:  # noqa: ANN401
        return self.page.get_by_label(label).nth(column)

    def wait_for(self, box: Any, text: str) -> str:  # noqa: ANN401
        playwright.expect(box).to_have_value(re.compile(re.escape(text)), timeout=20_000)
        return str(box.input_value())


NSP_BOX = "Does the second sentence follow the first?"
FILLED = "The text, filled"
WALK = "The way through the network"


@pytest.fixture(params=[1440, 375])
def window(browser: Any, demo: Served, request: pytest.FixtureRequest) -> Iterator[Window]:  # noqa: ANN401
    window = Window(browser, demo.url, request.param)
    yield window
    assert window.errors == []
    assert [url for url in window.requests if not url.startswith((demo.url, "data:", "blob:"))] == []
    window.page.close()


def test_type_click_and_see_both_models_answer(window: Window, folder: Path) -> None:
    text, second = "the [MASK] sat .", "the cat ."
    window.first.fill(text)
    window.second.fill(second)
    window.button.click()
    for column, name in enumerate(("ours", "theirs")):
        predictor = load_predictor(str(folder / name))
        assert window.wait_for(window.box(NSP_BOX, column), "next") == verdict_of(predictor, text, second)
        assert window.box(FILLED, column).input_value() == predictor.fill_masks(text, 5).filled_text
        shown = window.page.inner_text("body")
        assert all(word in shown and chance in shown for _, word, chance in candidates_of(predictor, text))
        assert "encoder layer 2 [batch 1, seq" in window.box(WALK, column).input_value()
    width = window.page.evaluate("document.documentElement.scrollWidth")
    assert width <= window.page.viewport_size["width"]


def test_errors_appear_on_the_page(window: Window) -> None:
    window.first.fill("the cat")
    window.button.click()
    window.wait_for(window.box("Answer: messages"), "there is no [MASK] in 'the cat'")
    window.first.fill("the cat " * 20 + "[MASK]")
    window.button.click()
    window.wait_for(window.box("Answer: messages"), "the input has 43 tokens, and the model reads 17 at most")
    window.page.get_by_label("Model", exact=True).fill("<b>none</b>")
    window.page.get_by_label("Model", exact=True).press("Enter")
    window.button.click()
    window.wait_for(window.box("Answer: messages"), "there is no model '<b>none</b>' on this page")
    assert "Traceback" not in window.page.content()


def test_nothing_that_is_typed_or_answered_is_rendered_as_html(window: Window) -> None:
    window.first.fill(f"the {HOSTILE} [MASK] <b>x</b> **y** .")
    window.second.fill(HOSTILE)
    window.button.click()
    window.wait_for(window.box(FILLED), HOSTILE)
    window.wait_for(window.box(NSP_BOX), "next")
    playwright.expect(window.page.get_by_text(re.compile(rf"^\d+ {re.escape(HOSTILE)}$")).first).to_be_visible()
    assert window.page.locator("img[src=x]").count() == 0
    assert window.page.locator("b:text-is('x'), strong:text-is('y')").count() == 0
    assert window.page.title() == "bertpipe demo"


def test_the_keyboard_is_enough(window: Window) -> None:
    page = window.page

    def tab_to(label: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if (
                page.evaluate(
                    "document.activeElement.labels?.[0]?.innerText ?? document.activeElement.ariaLabel ?? "
                    "document.activeElement.innerText"
                )
                .strip()
                .startswith(label)
            ):
                return
        raise AssertionError(label)

    tab_to("Sentence")
    page.keyboard.press("Control+A")
    page.keyboard.type("the [MASK] .")
    tab_to("Second sentence")
    page.keyboard.type("the cat .")
    page.keyboard.press("Enter")
    before = window.wait_for(window.box(NSP_BOX), "next")
    tab_to("Model")
    page.keyboard.press("Control+A")
    page.keyboard.type("theirs")
    page.keyboard.press("Enter")
    tab_to("Ask")
    page.keyboard.press("Enter")
    playwright.expect(window.box(NSP_BOX)).not_to_have_value(before, timeout=20_000)
    assert window.box(NSP_BOX).input_value() == window.box(NSP_BOX, 1).input_value()


def fifty_answers(url: str, names: list[str]) -> list[Any]:
    """Return the answers to 50 requests that are all sent before the first is answered."""
    gradio_client = pytest.importorskip("gradio_client")
    clients = [gradio_client.Client(url, verbose=False) for _ in range(5)]

    def ask(number: int) -> Any:  # noqa: ANN401
        text = f"the [MASK] {'the ' * (number % 7)}."
        return clients[number % 5].predict(text, "the .", names[0], names[-1], LAST, ALL_HEADS, api_name="/ask")

    with ThreadPoolExecutor(50) as pool:
        return list(pool.map(ask, range(50)))


def test_fifty_requests_at_once_are_all_answered(demo: Served, folder: Path) -> None:
    answers = fifty_answers(demo.url, ["ours", "theirs"])
    for column, name in enumerate(("ours", "theirs")):
        predictor = load_predictor(str(folder / name))
        for number, found in enumerate(answers):
            text = f"the [MASK] {'the ' * (number % 7)}."
            assert [tuple(row) for row in found[6 * column + 2]["data"]] == candidates_of(predictor, text)
            assert found[6 * column + 3] == verdict_of(predictor, text, "the .")


def test_a_space_answers_in_the_browser_and_fifty_at_once(browser: Any, space: Served, folder: Path) -> None:  # noqa: ANN401
    window = Window(browser, space.url)
    text, second = "the [MASK] sat .", "<b>sat</b>"
    window.first.fill(text)
    window.second.fill(second)
    window.button.click()
    predictor = load_predictor(str(folder / "model"))
    window.wait_for(window.box(NSP_BOX), "next")
    assert window.box(FILLED).input_value() == predictor.fill_masks(text, 5).filled_text
    assert window.box(NSP_BOX).input_value() == verdict_of(predictor, text, second)
    assert window.page.locator("b", has_text="sat").count() == 0
    assert window.errors == []
    assert [url for url in window.requests if not url.startswith((space.url, "data:", "blob:"))] == []
    found = fifty_answers(space.url, ["one"])
    assert [tuple(row) for row in found[3][2]["data"]] == candidates_of(predictor, "the [MASK] the the the .")
    assert len(found) == 50
    assert not (folder / "model-hf" / "__pycache__").exists()


def test_ctrl_c_ends_it_and_nothing_was_asked_of_another_machine(folder: Path) -> None:
    served = Served(folder, "bertpipe", "demo", "--model", "ours", "--port", "{port}")
    assert served.process.stderr
    assert served.process.stderr.readline() == f"note: the page is at {served.url[:-1]}: Ctrl-C ends it\n"
    assert served.end() == (130, "note: stopped by Ctrl-C; earlier outputs are unchanged\n")
    assert served.other_addresses() == []


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_other_addresses_of_this_machine_are_served_too(folder: Path, host: str) -> None:
    try:
        port = free_port(host, None)
    except InputError:
        pytest.skip(f"this machine has no {host}")
    command = [sys.executable, "-m", "bertpipe", "demo", "--model", "ours", "--host", host, "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        address = process.stderr.readline().split()[5].removesuffix(":")
        with urllib.request.urlopen(address, timeout=20) as page:
            assert b"gradio" in page.read()
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_no_process_asked_another_machine(demo: Served, space: Served) -> None:
    assert demo.other_addresses() == []
    assert space.other_addresses() == []
