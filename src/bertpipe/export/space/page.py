"""A page on which a model answers: it imports nothing but Gradio, so that a Space has this same file.

Nothing that somebody types is rendered as HTML or Markdown: answers are text boxes, and tables of text.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import gradio as gr

LAST = "last"
ALL_HEADS = "mean of all"
MOST_TOKENS = 32
"""Tokens of the longest input whose attention is shown whole."""
_NO_MODEL = "no second model"
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
"""Of the reader's own machine: a font of Gradio's themes would come from another server."""
_CSS = """
.gradio-container { max-width: min(1200px, 100vw) !important; min-width: 0 !important; margin: 0 auto !important; }
:focus-visible { outline: 3px solid #2563eb !important; outline-offset: 2px; }
"""
_CANDIDATES = ("mask", "word", "probability")


class Answer(NamedTuple):
    """What one model says: text and numbers."""

    messages: str = ""
    """Errors and remarks, one per line."""
    filled: str = ""
    """The text with its masks replaced."""
    candidates: Sequence[tuple[int, str, str]] = ()
    """The number of a mask, a word and its probability."""
    verdict: str = ""
    """Of NSP."""
    tokens: Sequence[str] = ()
    attention: Sequence[Sequence[float]] = ()
    """From each token of a row to each, in percent."""
    walk: str = ""
    """The steps of the way through the network: name, shape, meaning and first values."""


Ask = Callable[[str, str, str, str, str], Answer]
"""Answers for a model's name, a text, a second text or "", a layer and a head, as the page's lists name them."""


def build_page(
    title: str, models: Sequence[str], ask: Ask, *, layers: int, heads: int, text: str = "", pair: tuple[str, str]
) -> "gr.Blocks":
    """Return the page.

    Args:
        title: its heading, which is not from somebody who types.
        models: names to choose from, the first of them chosen.
        ask: answers; an error is in `messages`, and never raised.
        layers: of the deepest model.
        heads: of the model with the most.
        text: an example with a mask.
        pair: an example of two sentences.
    """
    import gradio as gr

    several = len(models) > 1
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f"# {title}\n\nType a sentence with `[MASK]` where you want a word, or two sentences.")
        with gr.Row():
            first = gr.Textbox(label="Sentence", value=text, max_lines=4)
            second = gr.Textbox(label="Second sentence (may stay empty)", max_lines=4)
        with gr.Row():
            # Any name reaches `ask`, which says what is wrong with it.
            chosen = gr.Dropdown(list(models), value=models[0], label="Model", allow_custom_value=True)
            other = gr.Dropdown(
                [_NO_MODEL, *models], value=models[1] if several else _NO_MODEL, label="Compare with",
                allow_custom_value=True, visible=several,
            )  # fmt: skip
            layer = gr.Dropdown(
                [LAST, *map(str, range(1, layers + 1))], value=LAST, label="Attention: layer", allow_custom_value=True
            )
            head = gr.Dropdown(
                [ALL_HEADS, *map(str, range(1, heads + 1))], value=ALL_HEADS, label="Attention: head",
                allow_custom_value=True,
            )  # fmt: skip
        button = gr.Button("Ask", variant="primary")
        gr.Examples([[text, ""], [*pair]], [first, second], label="Examples")
        inputs = [first, second, chosen, other, layer, head]
        with gr.Row():
            outputs = [*_column("Answer"), *_column("Answer of the second model", visible=several)]

        def answer(*values: str | None) -> list[Any]:
            one, two, name, compared, at_layer, at_head = (value or "" for value in values)
            found = _shown(ask(name, one, two, at_layer, at_head))
            is_alone = compared in {"", _NO_MODEL}
            return found + _shown(Answer() if is_alone else ask(compared, one, two, at_layer, at_head))

        # One question at a time, from however many readers: the others wait in Gradio's queue.
        options: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
        button.click(answer, inputs, outputs, api_name="ask", **options)
        for box in (first, second):
            box.submit(answer, inputs, outputs, api_visibility="private", **options)
        for choice in (layer, head):
            choice.input(answer, inputs, outputs, api_visibility="private", **options)
    return page.queue(max_size=None)


def launch(page: "gr.Blocks", **options: Any) -> Any:  # noqa: ANN401 - Gradio's
    """Start the page's server, from which nothing is sent to any other one."""
    import gradio as gr

    theme = gr.themes.Base(font=list(_FONTS), font_mono=["ui-monospace", "Consolas", "monospace"])
    return page.launch(theme=theme, css=_CSS, footer_links=[], share=False, ssr_mode=False, **options)


def _column(title: str, *, visible: bool = True) -> list[Any]:
    import gradio as gr

    with gr.Column(visible=visible, min_width=320):
        return [
            gr.Textbox(label=f"{title}: messages", lines=1, max_lines=6, interactive=False),
            gr.Textbox(label="The text, filled", max_lines=6, interactive=False),
            gr.Dataframe(headers=list(_CANDIDATES), label="Candidates", interactive=False),
            gr.Textbox(label="Does the second sentence follow the first?", interactive=False),
            gr.Dataframe(headers=["from"], label="Attention, in percent: from a row's token to a column's"),
            gr.Textbox(label="The way through the network", max_lines=500, interactive=False),
        ]


def _shown(answer: Answer) -> list[Any]:
    """Return the values of a column."""
    names = [f"{at} {token}" for at, token in enumerate(answer.tokens[:MOST_TOKENS])]
    rows = [row[:MOST_TOKENS] for row in answer.attention[:MOST_TOKENS]]
    attention = [[name, *(f"{value:.1f}" for value in row)] for name, row in zip(names, rows, strict=False)]
    shades = [["", *(f"background-color: rgba(37, 99, 235, {value / 200:.3f})" for value in row)] for row in rows]
    return [
        answer.messages,
        answer.filled,
        _table(_CANDIDATES, answer.candidates),
        answer.verdict,
        _table(("from", *names), attention) | {"metadata": {"styling": shades}},
        answer.walk,
    ]


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {"headers": list(headers), "data": [list(row) for row in rows]}
