"""The benchmarks' own pieces: what each side is given, how turns become figures, and the README's table."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import gpu, report
from benchmarks import prepare as prepare_benchmark
from benchmarks.measure import Turns, Work, alternate, ratio
from benchmarks.peers.huggingface import HuggingFaceLoop
from benchmarks.peers.notebook import NotebookLoop
from benchmarks.rows import bert_masking, huggingface_batch, notebook_rows, with_vocabulary
from benchmarks.streaming import WholeEpoch, write_copies
from bertpipe.core.params import MaskingUnit
from bertpipe.data.batching import Batch
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.parquet_writer import table_of
from bertpipe.model.flops import training_flops
from datasets import Pair, batch_of, pair_dataset
from prepared import REVIEWS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PAIR = Pair(first=[5, 6, 7], second=[8], is_next=True, masks={1: (3, 5), 5: (8, 8)})


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> Any:  # noqa: ANN401
        def turn() -> Work:
            calls.append(name)
            return Work(tokens=len(calls))

        return turn

    turns = alternate({"a": side("a"), "b": side("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert [work.tokens for work in turns["a"].work] == [3, 5]


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    ours = Turns([1.0, 2.0, 1.0], [Work(tokens=10), Work(tokens=40), Work(tokens=90)])  # 10, 20, 90 a second
    theirs = Turns([1.0, 1.0, 1.0], [Work(tokens=5), Work(tokens=5), Work(tokens=10)])
    assert ours.rate("tokens") == 20
    assert ratio(ours, theirs, "tokens") == 4  # of 2, 4 and 9


def test_the_notebooks_rows_pad_each_half_to_the_longer_one() -> None:
    (row,) = notebook_rows(pair_dataset([PAIR]), 1)
    assert row.inputs.tolist() == [1, 3, 6, 7, 2, 8, 2, 0, 0, 0]
    assert row.labels.tolist() == [0, 5, 0, 0, 0, 8, 0, 0, 0, 0]
    assert row.segments.tolist() == [1, 1, 1, 1, 1, 2, 2, 0, 0, 0]
    assert row.is_next == 1


def test_hugging_face_gets_the_same_rows_masks_and_labels() -> None:
    batch = huggingface_batch(batch_of(PAIR, Pair(first=[9], second=[10], is_next=False)))
    assert batch.input_ids.tolist() == [[1, 3, 6, 7, 2, 8, 2], [1, 9, 2, 10, 2, 0, 0]]
    assert batch.attention_mask.tolist() == [[1] * 7, [1, 1, 1, 1, 1, 0, 0]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0]]
    assert batch.labels.tolist() == [[-100, 5, -100, -100, -100, 8, -100], [-100] * 7]
    assert batch.next_sentence_label.tolist() == [0, 1]


def test_ids_beyond_a_vocabulary_become_unknown() -> None:
    assert with_vocabulary(pair_dataset([PAIR]), 8).token_ids.tolist() == [1, 5, 6, 7, 2, 4, 2]


def test_the_peers_learn() -> None:
    torch.manual_seed(1)
    notebook = NotebookLoop(vocab_size=19, width=6)
    before = notebook.model.masked_language.bias.detach().clone()
    notebook.step(notebook_rows(pair_dataset([PAIR, PAIR]), 2))
    assert not torch.equal(notebook.model.masked_language.bias, before)
    theirs = HuggingFaceLoop(vocab_size=19, width=8, layers=1, heads=2, longest=16, learning_rate=0.01)
    batch = huggingface_batch(batch_of(PAIR))
    first = theirs.loss(batch).item()
    for _ in range(30):
        theirs.step(batch)
    assert theirs.loss(batch).item() < first / 2


def test_both_sides_of_prepare_work_on_the_same_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [f"{text}\n" for text in REVIEWS]}), tmp_path / "documents.parquet")
    texts = tmp_path / "texts"
    prepare_benchmark._write_texts(tmp_path / "documents.parquet", texts)
    assert (texts / "half.txt").read_text(encoding="utf-8").splitlines() == REVIEWS[::2]
    theirs, ours = (side(texts, "half").turn() for side in (prepare_benchmark.Tokenizers, prepare_benchmark.Bertpipe))
    assert theirs.text_bytes == ours.text_bytes == (texts / "half.txt").stat().st_size
    assert ours.peak_bytes > 3e7
    assert {path.name for path in texts.iterdir()} == {"half.txt", "all.txt", "tokenizer.json", "params.yaml"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
def test_peak_memory_is_of_all_processes() -> None:
    child = "held = bytes(range(256)) * 200_000; import time; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert prepare_benchmark._peak_of([sys.executable, "-c", child]) > 51_200_000
    assert 51_200_000 < prepare_benchmark._peak_of([sys.executable, "-c", parent]) < 200_000_000


def test_a_command_that_fails_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        prepare_benchmark._peak_of([sys.executable, "-c", "raise SystemExit(3)"])


def test_copies_of_a_corpus_are_numbered_on(tmp_path: Path) -> None:
    rows = pair_dataset([Pair(first=[5 + i % 3], second=[6]) for i in range(3000)])
    pq.write_table(table_of(rows), tmp_path / "one.parquet")
    write_copies(tmp_path / "one.parquet", tmp_path / "three.parquet", 3)
    copies = read_dataset(tmp_path / "three.parquet")  # which refuses other row groups than of 4096 rows
    assert copies.row.tolist() == copies.document.tolist() == list(range(9000))
    assert np.array_equal(copies.token_ids, np.tile(rows.token_ids, 3))
    assert WholeEpoch(tmp_path / "three.parquet")() == {"rows": 9000, "tokens": 45_000}


def test_the_gpu_benchmark_packs_all_words_into_rows_of_one_length() -> None:
    rows = gpu.packed(pair_dataset([PAIR, Pair(first=[9, 10], second=[13])] * 3), vocab_size=9, length=6)
    # Words 5 6 7 8 9 10 13, 5 6 7 and so on, three a row, each as its remainder by the four words there are, plus five.
    assert rows.token_ids.reshape(-1, 6).tolist()[:3] == [[1, 6, 2, 7, 8, 2], [1, 5, 2, 6, 7, 2], [1, 6, 2, 6, 7, 2]]
    assert rows.second_segment_start.tolist() == [3] * 7
    assert rows.is_next.tolist() == [True, False] * 3 + [True]


@pytest.mark.slow
def test_the_gpu_benchmark_sets_both_networks_and_bare_products_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, where the figures of a GPU alone are none."""
    monkeypatch.setattr(gpu, "peak_flops", lambda *_: 1e12)
    shape = gpu.Shape(name="tiny", width=8, layers=2, heads=2, rows=4, length=16, vocab=40, goal=1e12, dropout=0.0)
    data = pair_dataset([Pair(first=[5 + i % 30] * 9, second=[6, 7, 8]) for i in range(80)])
    effort = gpu.Effort(rounds=2, steps=2, backend="eager")
    figures = gpu.measure(shape, data, device=torch.device("cpu"), mode="default", effort=effort)
    ours, compiled, theirs = figures["sides"].values()
    assert min(ours["tokens_per_second"], compiled["tokens_per_second"], theirs["tokens_per_second"]) > 0
    assert figures["over_peer"].keys() == {"Hugging Face, SDPA, compiled"}
    assert figures["matrix_products_tokens_per_second"] > ours["tokens_per_second"]
    assert figures["reaches_goal"] is False
    for name in ("mfu", "gpu_busy_share", "host_waits", "first_step_peak_bytes"):
        assert ours[name] is theirs[name] is None
    for compared in figures["losses_as_on_the_cpu"].values():
        assert compared["equal"]
        assert 0.1 < compared["on_the_cpu"][1] < 2


def test_the_gpu_benchmark_multiplies_what_a_step_needs() -> None:
    """`training_flops` counts the same products, at the batch's own number of supervised tokens."""
    shape = gpu.Shape(name="some", width=64, layers=3, heads=4, rows=20, length=40, vocab=500)
    flops = 3 * sum(2 * part.rows * part.inner * part.columns * part.times * part.batch for part in gpu.products(shape))
    masked = torch.arange(20 * 40).reshape(20, 40)[:, 1:7].flatten()
    batch = Batch.of(
        torch.zeros(20, 40, dtype=torch.int64),
        lengths=torch.full((20,), 40),
        second_segment_start=torch.full((20,), 20),
        is_next=torch.zeros(20, dtype=torch.int64),
        masked_positions=masked,
        masked_labels=torch.ones_like(masked),
        tokens=800,
    )
    assert flops == pytest.approx(training_flops(shape.model, shape.vocab, batch).item(), rel=0.001)


@pytest.mark.parametrize("page", report.PAGES)
def test_the_pages_have_the_tables_of_the_results(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = report.inserted(text, report.PAGES[page](json.loads(RESULTS.read_text(encoding="utf-8"))))
    assert made == text, "run `python -m benchmarks readme`"


@pytest.mark.parametrize("name", ["notebook", "hugging_face", "inference"])
def test_the_readme_quotes_the_row_that_is_least_in_our_favour(name: str) -> None:
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))
    before = report.summary(recorded)
    worst = min(recorded[name]["rows"], key=lambda row: row["ratio"])
    recorded[name]["rows"].append({**worst, "peer": "a better one", "ratio": 99.0})
    assert report.summary(recorded) == before
    recorded[name]["rows"].append({**worst, "peer": "the best", "ratio": 0.7})
    assert "the best" in report.summary(recorded)
    assert len(report.summary(recorded).splitlines()) == len(before.splitlines())


def test_a_file_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        report.inserted("# no marks here\n", "")


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_the_benchmarks_mask_fifteen_in_a_hundred_by_any_unit(unit: MaskingUnit) -> None:
    rows = np.tile(np.array([1, *range(5, 33), 2], dtype=np.int32), (2000, 1))
    chosen = bert_masking(40, unit).corrupt(
        rows, np.arange(2000)[:, None], np.arange(30)[None, :], seed=1, epoch=1
    ).chosen  # fmt: skip
    assert 0.14 < chosen[:, 1:-1].mean() < 0.16
    piece = chosen[:, 6] == chosen[:, 5]  # the id 10 is a piece of the word before it
    assert piece.all() == (unit != "token")
