"""Random command lines in random folders: trees, names, contents, encodings, params and environments, by a seed."""

import csv
import io
import json
import os
import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from texts import gz, tar, zipped, zst

Draw = random.Random

_STEMS = (
    "texts", "my texts", "año", unicodedata.normalize("NFD", "año"), "-dash", "--out", "a\nb", "r\udce9sum\udce9",
    "🎬", "字幕", ".hidden", "x" * 180, "a'b\"c", "$HOME", "`x`", "{}", "%s", "[bold]", "*", "#1", "trailing ", "dot.",
    "CON", "Texts", "نص", "a:b", "a\\b", "train", "test", "config.json", "bertpipe-manifest.json",
)  # fmt: skip
_SUFFIXES = (
    "", ".txt", ".TXT", ".md", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".zip", ".tar", ".tar.gz", ".txt.gz",
    ".jsonl.zst", ".gz", ".zst", ".npy", ".bin",
)  # fmt: skip
_WORDS = (
    "the film a slow quiet town opens in sad music boat never again perhaps light door",
    "das Haus ist Straße Übung alt und schön",
    "el niño corazón película lenta y vacía",
    "это фильм медленный очень тихий",
    "電影 開始 小鎮 音樂",
    "هذا فيلم بطيء",
    "ภาพยนตร์ เริ่มต้น เมือง",
    "🎬 :( <3 -> (( ]] « „ “ -- … #tag @you http://example.org/?a=1&b=2 [MASK] [SEP] <br />",
)
_STOPS = (".", "!", "?", "。", "…", "", " :)", '."', "؟")
_ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "gb18030", "utf-32-be")
_LINE_ENDS = ("\n", "\n", "\n", "\r\n", "\r", "\x85", "\u2028", "\x0b")
_TERMINALS = ("utf-8", "utf-8", "latin-1", "ascii", "cp1252", "gb18030")
_ENVIRONMENT: Mapping[str, Sequence[str]] = {
    "LANG": ("C", "de_DE.UTF-8", "xx_XX"),
    "LC_ALL": ("C", "POSIX", "tr_TR.UTF-8"),
    "NO_COLOR": ("1", ""),
    "FORCE_COLOR": ("1", "0"),
    "COLUMNS": ("0", "1", "20", "-5", "many", "100000"),
    "LINES": ("0", "x"),
    "TERM": ("dumb", "", "xterm-256color"),
    "MPLBACKEND": ("module://matplotlib_inline.backend_inline", "TkAgg", "nonsense"),
    "HOME": ("/nonexistent", ""),
    "TMPDIR": ("/nonexistent",),
    "HF_HOME": ("/proc/nowhere",),
    "PYTHONWARNINGS": ("error",),
    "OMP_NUM_THREADS": ("1", "0", "x"),
    "JPY_PARENT_PID": ("1",),
    "CUDA_VISIBLE_DEVICES": ("", "-1"),
}
_VALUES: Sequence[Any] = (
    0, 1, -1, 2, 3, 7, 48, 10**6, 10**30, 0.0, 0.5, 1.0, -0.1, 1e-12, 1e300, float("nan"), float("inf"), True, False,
    None, "", "auto", "all", "words", "text", "ñ", "x" * 1000, "../texts", "~/texts", "a\nb", [], [1], {}, {"a": 1},
    "2024-01-01",
)  # fmt: skip
_CHOICES: Mapping[tuple[str, str], Sequence[Any]] = {
    ("model", "architecture"): ("preln", "modern", "notebook"),
    ("model", "initialization"): ("mimetic", "orthogonal"),
    ("train", "optimizer"): ("muon",),
    ("train", "decay"): ("cosine",),
    ("train", "steps"): (1, 7),
    ("masking", "training_rate"): (0.4, "same"),
    ("prepare", "validation_share"): (0.3,),
    ("prepare", "sentences"): ("lines", "rules"),
}
"""Values of their own for params that have few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A command line, and what surrounds it."""

    arguments: Sequence[str]
    outputs: Sequence[str]
    """Files and directories that it may write, besides `.bertpipe`."""
    environment: Mapping[str, str]
    encoding: str
    """Of the terminal."""


def make_case(number: int, folder: Path) -> Case:
    """Fill the user's part of a folder that has a small project, and return a command line for it."""
    draw = Draw(f"command {number}")
    _write_tree(draw, folder / "mine", depth=0)
    if draw.random() < 0.4:
        _change_params(draw, folder / "params.yaml")
    command = draw.choices(list(_COMMANDS), [weight for weight, _ in _COMMANDS.values()])[0]
    arguments, outputs = _COMMANDS[command][1](draw, folder)
    if draw.random() < 0.4:
        arguments = [*arguments, "--json"]
    names = draw.sample(list(_ENVIRONMENT), draw.choice((0, 0, 1, 2, 3)))
    return Case(
        arguments=[*command.split(), *arguments],
        outputs=outputs,
        environment={name: draw.choice(_ENVIRONMENT[name]) for name in names},
        encoding=draw.choice(_TERMINALS),
    )


# The user's files


def _write_tree(draw: Draw, folder: Path, *, depth: int) -> None:
    folder.mkdir()
    for _ in range(draw.choice((1, 2, 3, 5))):
        path = folder / f"{draw.choice(_STEMS)}{draw.choice(_SUFFIXES)}"
        if os.path.lexists(path):
            continue
        kind = draw.random()
        if kind < 0.2 and depth < 2:
            _write_tree(draw, path, depth=depth + 1)
        elif kind < 0.25:
            path.symlink_to(draw.choice(("nowhere", ".", path.name, "/etc/hostname", "../params.yaml")))
        else:
            path.write_bytes(_content(draw, path.name))


def _content(draw: Draw, name: str) -> bytes:
    """Return the content of a file, mostly what its name says."""
    kind = draw.random()
    if kind < 0.05:
        return b""
    if kind < 0.1:
        return draw.randbytes(draw.choice((1, 100, 5000)))
    content = _packed(draw, name if kind < 0.9 else draw.choice(_SUFFIXES))
    if draw.random() < 0.1:
        content = content[: draw.randrange(len(content) + 1)]
    if draw.random() < 0.05 and content:
        at = draw.randrange(len(content))
        content = content[:at] + draw.randbytes(1) + content[at + 1 :]
    return content


def _packed(draw: Draw, name: str) -> bytes:
    name = name.lower()
    if name.endswith(".gz"):
        inner = _packed(draw, name.removesuffix(".gz"))
        return gz(inner) + (gz(inner) if draw.random() < 0.3 else b"")
    if name.endswith(".zst"):
        return zst(_packed(draw, name.removesuffix(".zst")))
    if name.endswith((".zip", ".tar")):
        inside = (
            "a.txt",
            "b/c.txt",
            "train/x.txt",
            "test/y.txt",
            "../up.txt",
            "/root.txt",
            "é.jsonl",
            "a.zip",
            "bert_train_data.csv",
        )
        files = {each: _packed(draw, each) for each in draw.sample(inside, draw.randrange(4))}
        return zipped(files) if name.endswith(".zip") else tar(files)
    if name.endswith(".parquet"):
        return _parquet(draw)
    make = _json_lines if "json" in name else _table if name.endswith((".csv", ".tsv")) else _text
    return make(draw).encode(draw.choice(_ENCODINGS), "replace" if draw.random() < 0.7 else "xmlcharrefreplace")


def _sentence(draw: Draw) -> str:
    words = draw.choice(_WORDS).split()
    sentence = " ".join(draw.choices(words, k=draw.randrange(1, 9)))
    return (sentence.capitalize() if draw.random() < 0.7 else sentence) + draw.choice(_STOPS)


def _text(draw: Draw) -> str:
    end = draw.choice(_LINE_ENDS)
    gap = draw.choice((" ", end, "\t", "  "))
    blocks = [
        gap.join(_sentence(draw) for _ in range(draw.randrange(1, 12))) for _ in range(draw.choice((1, 3, 12, 40)))
    ]
    if draw.random() < 0.05:
        blocks.append(draw.choice(("a", "(", "- x\n", "“", "\0", "\ufeff")) * draw.choice((100, 20_000)))
    return (end * draw.choice((1, 2, 2, 3))).join(blocks) + draw.choice(("", end))


def _row(draw: Draw) -> dict[str, Any]:
    label = draw.choice(("good", "bad", "bad", 1, 0, None, "ñ", True, 0.5))
    text = draw.choice(
        (_sentence(draw), _sentence(draw), _sentence(draw), "", " ", None, 5, "half \ud83d", "[MASK] it")
    )
    row = {"text": text, "label": label, **({"text_b": _sentence(draw)} if draw.random() < 0.2 else {})}
    if draw.random() < 0.2:
        row |= {"sentence_good": text, "sentence_bad": _sentence(draw), "UID": draw.choice(("a", "b", label))}
    return row


def _json_lines(draw: Draw) -> str:
    lines = [json.dumps(_row(draw), ensure_ascii=draw.random() < 0.9) for _ in range(draw.choice((1, 5, 40)))]
    if draw.random() < 0.2:
        lines.insert(
            draw.randrange(len(lines)),
            draw.choice(("{", "[]", "null", '{"text": "a", "text": "b"}', "\ufeff{}", '"x"')),
        )
    return draw.choice(_LINE_ENDS[:5]).join(lines)


def _table(draw: Draw) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=draw.choice(",,,;\t"))
    writer.writerow(
        draw.choice((["text", "label"], ["label", "text", "x"], ["Text", "Label"], ["a"], ["text", "text"]))
    )
    for _ in range(draw.choice((1, 5, 40))):
        row = _row(draw)
        writer.writerow([str(row["text"]), row["label"], *([1] if draw.random() < 0.1 else [])])
    return buffer.getvalue()


def _parquet(draw: Draw) -> bytes:
    rows = [_row(draw) for _ in range(draw.choice((0, 1, 40)))]
    texts = [row["text"] if isinstance(row["text"], str) and "\ud83d" not in row["text"] else None for row in rows]
    columns = {"text": pa.array(texts, pa.string()), "label": pa.array([str(row["label"]) for row in rows])}
    if draw.random() < 0.2:
        columns["label"] = pa.array([[1]] * len(rows), pa.list_(pa.int64()))
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _change_params(draw: Draw, path: Path) -> None:
    kind = draw.random()
    if kind < 0.1:
        path.write_bytes(
            draw.choice(
                (b"", b"\xff\xfe", b"a: [", b"- 1\n", b"a: 1\na: 2\n", b"&a [*a]", b"\0", b"extends: params.yaml\n")
            )
        )
        return
    yaml = YAML(typ="safe")
    params = yaml.load(path.read_text(encoding="utf-8"))
    for section, name in draw.sample(list(_CHOICES), draw.choice((0, 0, 1, 3))):
        params[section][name] = draw.choice(_CHOICES[section, name])
    for _ in range(draw.choice((0, 1, 1, 2))):
        section = draw.choice(list(params))
        if not isinstance(params[section], dict) or draw.random() < 0.05:
            params[section] = draw.choice(_VALUES)
            continue
        params[section][draw.choice([*params[section], "unknown"])] = draw.choice(_VALUES)
    yaml.dump(params, path)


# Command lines


def _some_path(draw: Draw, folder: Path) -> str:
    """Return a path of the user's, mostly one that exists."""
    found = [str(path.relative_to(folder)) for path in sorted((folder / "mine").rglob("*"))]
    return draw.choice(
        [*found, *found, "mine", "mine/none.txt", "data/parquet", "data/raw/dataset.zip", "models/bert", ""]
    )


def _some_text(draw: Draw) -> str:
    text = " ".join(_sentence(draw) for _ in range(draw.choice((1, 1, 2, 30))))
    return draw.choice(
        (text, text, text, f"{text} [MASK] .", "[MASK]", "", " ", f"- {text}", "\udce9", "a\0b".replace("\0", "\x01"))
    )


def _some_out(draw: Draw, folder: Path, *suffixes: str) -> str:
    new = f"{draw.choice(_STEMS).replace(chr(10), '')}{draw.choice(suffixes or ('',))}"
    found = _some_path(draw, folder)
    return draw.choice(
        (f"mine/{new}", f"out/{new}", f"mine/none/deeper/{new}", found, ".", "mine", "/dev/null", "/proc/x/y")
    )


def _options(draw: Draw, *options: tuple[float, str, Callable[[], str]]) -> list[str]:
    return [f"{name}={value()}" for share, name, value in options if draw.random() < share]


def _model(draw: Draw, folder: Path) -> tuple[float, str, Callable[[], str]]:
    return 0.15, "--model", lambda: draw.choice((_some_path(draw, folder), "models/bert", "models/none", "no/such", ""))


def _prepare(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder, "", "", ".zip")
    return [f"--text={_some_path(draw, folder)}", f"--out={out}"], [out]


def _convert(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder)
    zip_file = draw.choice(("data/raw/dataset.zip", _some_path(draw, folder)))
    return [f"--zip={zip_file}", f"--out={out}"], [out, "reports/rejects.parquet"]


def _download(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder, ".zip")
    source = draw.choice(
        (_some_path(draw, folder), _some_path(draw, folder), "data/raw/dataset.zip", "http://127.0.0.1:9/x", "ftp://x")
    )
    return [f"--source={source}", f"--out={out}"], [out]


def _train(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    files = [_some_out(draw, folder, ".csv") if draw.random() < 0.3 else f"out/{name}.csv" for name in "het"]
    out = _some_out(draw, folder)
    names = ("--history", "--epoch-history", "--timing")
    paths = [f"{name}={file}" for name, file in zip(names, files, strict=True)]
    more = _options(
        draw, (0.2, "--data", lambda: _some_path(draw, folder)), (0.2, "--init", lambda: _some_path(draw, folder))
    )
    return ["--epochs=1", f"--out={out}", *paths, *more], [out, *files]


def _evaluate(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder, ".json")
    data = (0.2, "--data", lambda: _some_path(draw, folder))
    more = _options(draw, _model(draw, folder), data, (0.3, "--minimal-pairs", lambda: _some_path(draw, folder)))
    return [f"--out={out}", *more], [out]


def _plot(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder)
    more = _options(
        draw, *((0.2, name, lambda: _some_path(draw, folder)) for name in ("--history", "--epoch-history", "--metrics"))
    )
    return [f"--out={out}", *more], [out]


def _export(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder)
    more = _options(draw, _model(draw, folder), (0.2, "--data", lambda: _some_path(draw, folder)))
    return [f"--out={out}", *more, *draw.choice(([], ["--or-card"]))], [out]


def _probe(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    out = _some_out(draw, folder, ".json")
    texts = (0.2, "--train-texts", lambda: draw.choice(("1", "2", "10", "1000")))
    more = _options(draw, _model(draw, folder), texts, (0.2, "--test", lambda: _some_path(draw, folder)))
    return ["--mode=frozen", f"--out={out}", *more, "--", _some_path(draw, folder)], [out]


def _infer(task: str) -> Callable[[Draw, Path], tuple[list[str], list[str]]]:
    def arguments(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
        more = _options(draw, _model(draw, folder))
        if draw.random() < 0.5:
            out = _some_out(draw, folder, ".jsonl", ".npy", ".parquet", ".txt")
            return [*more, f"--input={_some_path(draw, folder)}", f"--out={out}"], [out]
        return [*more, *(_some_text(draw) for _ in range(2 if task == "nsp" else 1))], []

    return arguments


def _inspect(draw: Draw, folder: Path) -> tuple[list[str], list[str]]:
    return [*_options(draw, _model(draw, folder)), *(_some_text(draw) for _ in range(draw.choice((1, 2))))], []


def _state(draw: Draw, _: Path) -> tuple[list[str], list[str]]:
    return _options(draw, (0.5, "--clear", lambda: draw.choice(("all", "none", "..", "../mine", "")))), []


_COMMANDS: Mapping[str, tuple[float, Callable[[Draw, Path], tuple[list[str], list[str]]]]] = {
    "prepare": (6, _prepare),
    "convert": (3, _convert),
    "download": (2, _download),
    "train": (1, _train),
    "evaluate": (2, _evaluate),
    "plot": (1, _plot),
    "export": (2, _export),
    "probe": (3, _probe),
    "infer mlm": (2, _infer("mlm")),
    "infer nsp": (2, _infer("nsp")),
    "infer score": (1, _infer("score")),
    "infer embed": (2, _infer("embed")),
    "inspect": (2, _inspect),
    "state": (1, _state),
}
