"""`demo`: a page of this machine on which models answer what somebody types."""

import errno
import importlib
import os
import socket
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from bertpipe.core.errors import BertpipeError, InputError, ModelError, excerpt, first_line
from bertpipe.data.tokenization.model_tokenizer import MASK
from bertpipe.export.space.page import ALL_HEADS, LAST, MOST_TOKENS, Answer, build_page, launch
from bertpipe.inference.answers import MlmAnswer, NspAnswer
from bertpipe.inference.attention import attention_of
from bertpipe.inference.engine import Row
from bertpipe.inference.inspection import Step, inspect_input
from bertpipe.inference.predictor import Predictor, load_predictor

FIRST_PORT, _PORTS = 7860, 100
"""Ports to try where none is named."""
_CANDIDATES = 5
_Result = TypeVar("_Result")
_EXAMPLE = "The film is [MASK]."
_PAIR = ("The film is too long.", "I left before the end.")


def run_demo(models: Sequence[str], *, host: str, port: int | None, on_note: Callable[[str], None]) -> None:
    """Serve the page until a signal ends it.

    Args:
        models: their names, as `load_any_model` takes them; the first is chosen when the page opens.
        host: the address to listen on.
        port: the port; the first free one from `FIRST_PORT` if None.
        on_note: gets the page's address, and remarks on the models.

    Raises:
        MissingInputError: there is no such local model.
        ModelError: a model cannot be read, or Gradio is not installed.
        InputError: the port is taken, or this machine has no such address.
    """
    _import_gradio()
    chosen = free_port(host, port)
    in_address = f"[{host}]" if ":" in host else host
    predictors = load_predictors(models)
    for predictor in predictors.values():
        for note in predictor.model.notes:
            on_note(f"{predictor.name}: {note}")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # Gradio asks its own server whether it has started
    shapes = [predictor.bert.params for predictor in predictors.values()]
    blocks = build_page(
        "bertpipe demo", list(predictors), lambda *asked: answer(predictors, *asked),
        layers=max(shape.layers for shape in shapes), heads=max(shape.heads for shape in shapes),
        text=_EXAMPLE, pair=_PAIR,
    )  # fmt: skip
    try:
        launch(blocks, server_name=in_address, server_port=chosen, prevent_thread_lock=True, quiet=True)
        on_note(f"the page is at http://{in_address}:{chosen}: Ctrl-C ends it")
        threading.Event().wait()
    except OSError as error:  # another process has taken the port since
        raise InputError(f"port {chosen} cannot be listened on: start again, or name another with --port") from error
    finally:
        blocks.close(verbose=False)


def load_predictors(models: Sequence[str]) -> dict[str, Predictor]:
    """Return the predictors by their names, on the CPU: threads that share a network must not move it."""
    return {name: load_predictor(name, device="cpu") for name in dict.fromkeys(models)}


def answer(predictors: Mapping[str, Predictor], model: str, text: str, second: str, layer: str, head: str) -> Answer:
    """Return what the page shows of one model; what is wrong with the input is among the messages."""
    predictor = predictors.get(model)
    if predictor is None:
        known = ", ".join(predictors)
        return Answer(messages=f"there is no model {excerpt(model)} on this page: choose one of {known}")
    said: list[str] = []

    def attempt(part: Callable[[], _Result]) -> _Result | None:
        try:
            return part()
        except BertpipeError as error:
            said.append(str(error))
            return None

    mlm = attempt(lambda: _candidates(predictor, text)) if MASK in text or not second.strip() else None
    nsp = attempt(lambda: _verdict(predictor, text, second)) if second.strip() else None
    row = nsp[1] if nsp else mlm[1] if mlm else attempt(lambda: predictor.ask_embedding(text).row)
    weights = attempt(lambda: _attention(predictor, row, layer, head)) if row else None
    walk = attempt(lambda: inspect_input(predictor.model, text, second if second.strip() else None))
    said += [*(mlm[0].warnings if mlm else ()), *(nsp[0].warnings if nsp else ()), *(walk.notes if walk else ())]
    if row and len(row.token_ids) > MOST_TOKENS:
        said.append(f"attention is shown among the first {MOST_TOKENS} of {len(row.token_ids)} tokens")
    return Answer(
        messages="\n".join(dict.fromkeys(said)),
        filled=mlm[0].filled_text if mlm else "",
        candidates=[
            (number, candidate.token, f"{candidate.probability:.4f}")
            for number, mask in enumerate(mlm[0].masks if mlm else (), start=1)
            for candidate in mask.candidates
        ],
        verdict=_said(nsp[0]) if nsp else "",
        tokens=[predictor.tokenizer.token(token_id) for token_id in row.token_ids] if row else (),
        attention=[] if weights is None else weights,
        walk="\n\n".join(map(_shown, walk.steps)) if walk else "",
    )


def _candidates(predictor: Predictor, text: str) -> tuple[MlmAnswer, Row]:
    question = predictor.ask_mlm(text, _CANDIDATES)
    return predictor.answer_mlm([question])[0], question.row


def _verdict(predictor: Predictor, first: str, second: str) -> tuple[NspAnswer, Row]:
    question = predictor.ask_nsp(first, second)
    return predictor.answer_nsp([question])[0], question.row


def _said(answer: NspAnswer) -> str:
    verdict = "yes" if answer.is_next else "no"
    return f"{verdict}: next {answer.probability_next:.4f}, not next {answer.probability_not_next:.4f}"


def _attention(predictor: Predictor, row: Row, layer: str, head: str) -> list[list[float]]:
    """Return how much each token of a row attends to each, [seq, seq], in percent."""
    shape = predictor.bert.params
    at_layer = shape.layers if layer == LAST else _number(layer, shape.layers, "layer", LAST)
    at_head = None if head == ALL_HEADS else _number(head, shape.heads, "head", ALL_HEADS)
    weights = attention_of(predictor.bert, row)[at_layer - 1]
    chosen = weights.mean(axis=0) if at_head is None else weights[at_head - 1]
    shown: list[list[float]] = (chosen * 100).tolist()
    return shown


def _number(text: str, most: int, what: str, other: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise InputError(f"there is no {what} {excerpt(text)} in this model: choose 1 to {most}, or {other!r}")
    return int(text)


def _shown(step: Step) -> str:
    shape = ", ".join(f"{axis} {size}" for axis, size in zip(step.axes, step.shape, strict=True))
    rows = (f"{row.label}: {'  '.join(f'{value:.4g}' for value in row.values)}" for row in step.rows)
    return "\n".join([f"{step.name} [{shape}]", step.meaning, *rows])


def free_port(host: str, port: int | None) -> int:
    """Return the port, or the first free one where none is named.

    Raises:
        InputError: it is taken, or this machine has no such address.
    """
    tried = [port] if port is not None else range(FIRST_PORT, FIRST_PORT + _PORTS)
    for each in tried:
        try:
            for name in (host, "127.0.0.1"):  # Gradio looks there, whatever the address
                family, kind, protocol, _, address = socket.getaddrinfo(name, each, type=socket.SOCK_STREAM)[0]
                with socket.socket(family, kind, protocol) as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind(address)
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port is None:
                continue
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            raise InputError(
                f"port {each} of {excerpt(host)} cannot be listened on ({reason}): name another with --port, "
                "or leave --port and --host out"
            ) from error
        return each
    raise InputError(f"the ports {tried[0]} to {tried[-1]} are all in use: name a free one with --port")


_OF_OTHERS = (
    "ALLOWED_PATHS", "DEBUG", "HOT_RELOAD", "MCP_SERVER", "NODE_PATH", "NUM_PORTS", "ROOT_PATH", "SERVER_NAME",
    "SERVER_PORT", "SHARE", "SHARE_SERVER_ADDRESS", "SHARE_SERVER_PROTOCOL", "SSR_MODE",
)  # fmt: skip
"""Gradio's variables that another program may have set: with one of them the page would be shared."""


def _import_gradio() -> None:
    for name in _OF_OTHERS:
        if os.environ.get(f"GRADIO_{name}") is not None:
            del os.environ[f"GRADIO_{name}"]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        with warnings.catch_warnings():  # theirs are not for whoever looks at a page
            warnings.simplefilter("ignore")
            importlib.import_module("gradio")
    except ImportError as error:
        raise ModelError(
            f"the page needs Gradio ({first_line(error):.200}): install it with `pip install 'bertpipe[demo]'`"
        ) from error
