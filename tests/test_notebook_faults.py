"""Each fault of the notebook, once: what bertpipe does in its place.

Two more stand in test_inference.py: the NSP label of Hugging Face, and texts with no or two `[MASK]`.
"""

import csv
import dataclasses
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from bertpipe.core.errors import DownloadError, ParamsError
from bertpipe.core.params import Params
from bertpipe.core.params_file import load_params, merged_text
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.inference.predictor import load_predictor
from bertpipe.model.embeddings import NotebookEmbeddings, sinusoidal_positions
from bertpipe.model.encoder import QueryPositions
from bertpipe.model.store import load_model
from bertpipe.stages.convert import run_convert
from bertpipe.stages.download import run_download
from bertpipe.stages.train import run_train
from bertpipe.training.history import History
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import Losses, PretrainingObjective
from bertpipe.training.optim import make_optimizer
from datasets import GOOD, Pair, batch_of, pair_dataset, write_zip
from models import tiny_bert, tiny_params
from runs import paths_in, results

CPU = torch.device("cpu")
LABELLED = Pair(first=[5], second=[6, 7], is_next=True, masks={1: (3, 5), 4: (3, 7)})
UNLABELLED = Pair(first=[5, 6, 7], second=[6], is_next=False)


class Guesser:
    """Says "not next" with probability 3/4, and every word of the eight with probability 1/8."""

    vocab_size = 8
    training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def eval(self) -> None:
        self.training = False

    def __call__(self, _ids: Tensor, _lengths: Tensor, _starts: Tensor, wanted: QueryPositions) -> Tensor:
        return torch.zeros(len(wanted.flat_index), 1)

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        return torch.zeros(len(hidden), 8, dtype=torch.float64)

    def nsp_logits(self, hidden: Tensor) -> Tensor:
        return torch.tensor([[0.75, 0.25]], dtype=torch.float64).log().expand(len(hidden), -1)


def judged(*pairs: Pair) -> Evaluation:
    batcher = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1)
    return Evaluation.of(evaluate(Guesser(), batcher, batch_size=1, device=CPU))  # type: ignore[arg-type]


def test_losses_are_not_swapped() -> None:
    result = judged(LABELLED, UNLABELLED)
    # Class 0 of NSP counts, and padding and unlabelled words do not count for MLM.
    assert result.nsp_loss == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)
    assert result.mlm_loss == pytest.approx(math.log(8))
    assert result.mlm_tokens == 2


def test_evaluate_returns_what_it_found() -> None:
    assert judged(LABELLED).rows == 1


def test_averages_divide_by_what_was_counted_and_not_by_one_more() -> None:
    for count in (1, 2, 7):
        assert judged(*[LABELLED] * count).mlm_loss == pytest.approx(math.log(8))


def test_the_training_loss_is_added_once_and_nothing_is_added_to_it() -> None:
    history = History(2, 1.0)
    for step in (1, 2):
        losses = Losses(
            mlm=torch.tensor(3.0), mlm_tokens=torch.tensor(2), nsp=torch.tensor(0.5), nsp_rows=torch.tensor(2)
        )
        history.add(
            StepReport(
                step=step, epoch=1, ends_epoch=step == 2, learning_rate=1e-4, losses=losses,
                gradient_norm=torch.tensor(1.0), tokens=torch.tensor(9), flops=torch.tensor(1.0),
            )
        )  # fmt: skip
    (row,) = history.intervals
    assert row[3:6] == [3.0, 0.5, 3.5]


def test_a_batch_without_labels_does_not_make_the_epoch_nan(tiny: Params) -> None:
    params = dataclasses.replace(tiny.train, epochs=1, batch_size=1)
    bert = tiny_bert(vocab_size=8)
    batcher = Batcher(dataset=pair_dataset([UNLABELLED, LABELLED, UNLABELLED]), masking=None, seed=1)
    history = History(100, 1.0)
    for report in train_steps(PretrainingObjective(bert), make_optimizer(bert, params), batcher, params, device=CPU):
        history.add(report)
    assert all(math.isfinite(value) for value in history.intervals[0])
    assert all(torch.isfinite(parameter).all() for parameter in bert.parameters())


def test_the_token_embedding_is_added_once() -> None:
    embeddings = NotebookEmbeddings(tiny_params("notebook"), 8).eval()
    ids, lengths, starts = torch.tensor([[1, 5, 2, 6, 2]]), torch.tensor([5]), torch.tensor([3])
    expected = (
        embeddings.token.weight[ids] * math.sqrt(6)
        + sinusoidal_positions(5, 6)
        + embeddings.segment.weight[torch.tensor([[1, 1, 1, 2, 2]])]
    )
    assert torch.allclose(embeddings(ids, lengths, starts), expected, atol=1e-6)


def test_dropout_falls_on_the_embeddings_once() -> None:
    embeddings = NotebookEmbeddings(tiny_params("notebook", dropout=0.5), 8).train()
    ids, lengths, starts = torch.full((40, 17), 5), torch.full((40,), 17), torch.full((40,), 9)
    torch.manual_seed(1)
    dropped = embeddings(ids, lengths, starts) == 0
    count = dropped.numel()
    assert abs(dropped.float().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(count)  # two dropouts: 0.25 to 0.75


def test_evaluation_reads_segments_and_positions_as_training_does() -> None:
    # In the notebook `self.train` is a method, always true, and evaluation was meant to leave segments out.
    bert = tiny_bert("notebook", vocab_size=8, dropout=0.0)
    ids, lengths, starts = torch.tensor([[1, 5, 2, 6, 2]]), torch.tensor([5]), torch.tensor([3])
    in_evaluation = bert.eval()(ids, lengths, starts)
    assert torch.equal(bert.train()(ids, lengths, starts), in_evaluation)
    assert not torch.equal(bert(ids, lengths, starts + 1), in_evaluation)


def test_no_parameter_is_dead() -> None:
    # The notebook kept an encoder layer that it never ran: 43,498 numbers.
    bert = tiny_bert("notebook", vocab_size=8, embedding_dim=10, heads=2, feed_forward_dim=2048, layers=1)
    assert sum(parameter.numel() for parameter in bert.layers.parameters()) == 43_498
    batch = batch_of(LABELLED, UNLABELLED)
    PretrainingObjective(bert)(batch).total(nsp_weight=1.0).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in bert.parameters())


def test_an_odd_embedding_dim_does_not_crash() -> None:
    bert = tiny_bert("notebook", vocab_size=8, embedding_dim=7, heads=7)
    assert bert(torch.tensor([[1, 5, 2, 6, 2]]), torch.tensor([5]), torch.tensor([3])).shape == (1, 5, 7)


def test_heads_that_do_not_divide_are_a_clear_error(tmp_path: Path) -> None:
    tiny_file = Path(__file__).parent.parent / "params" / "tiny.yaml"
    text = merged_text(tiny_file).replace("heads: 2", "heads: 12")
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match="embedding_dim 16 is not a multiple of heads 12: try 8 or 16 heads"):
        load_params(tmp_path / "p.yaml")


def test_weight_decay_spares_biases_and_layer_norm(tiny: Params) -> None:
    bert = tiny_bert("notebook", vocab_size=8)
    before = {name: parameter.detach().clone() for name, parameter in bert.named_parameters()}
    optimizer = make_optimizer(bert, dataclasses.replace(tiny.train, weight_decay=0.5, learning_rate=0.1))
    for parameter in bert.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(learning_rate=0.1, max_grad_norm=1.0)
    for name, parameter in bert.named_parameters():
        spared = name.endswith("bias") or "norm" in name
        assert torch.allclose(parameter, before[name] * (1.0 if spared else 0.95)), name


def test_everything_is_seeded(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(12345)
    paths = paths_in(tmp_path, parquet)
    run_train(tiny.model, tiny.train, tiny.masking, tiny.evaluate, tiny.runtime, paths=paths)
    assert results(tmp_path) == results(trained)


def test_a_model_is_saved_after_each_epoch(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    paths = paths_in(tmp_path, parquet)
    seen: list[int] = []

    def look(_: object) -> None:
        if paths.model.exists():
            seen.append(load_model(paths.model).facts["epochs_done"])

    run_train(tiny.model, tiny.train, tiny.masking, tiny.evaluate, tiny.runtime, paths=paths, on_progress=look)
    assert set(seen) == {1}
    assert load_model(paths.model).facts["epochs_done"] == 2


def test_the_trained_model_is_the_one_that_answers(trained: Path) -> None:
    # The notebook overwrote it with bert-base-uncased.
    stored = load_model(trained / "model")
    predictor = load_predictor(str(trained / "model"), device="cpu")
    answer = predictor.next_sentence("the film is good .", "the music is sad .")
    encoded = [predictor.tokenizer.encode(text, "x").ids for text in ("the film is good .", "the music is sad .")]
    ids = torch.tensor([[1, *encoded[0], 2, *encoded[1], 2]])
    hidden = stored.bert(ids, torch.tensor([ids.shape[1]]), torch.tensor([len(encoded[0]) + 2]))
    expected = stored.bert.nsp_logits(hidden)[0].softmax(-1)[1].item()
    assert answer.probability_next == pytest.approx(expected, rel=1e-5)


def test_csv_is_not_parsed_again_when_a_row_is_used(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    shutil.copytree(parquet, tmp_path / "data")
    monkeypatch.setattr(csv, "reader", refuse)
    paths = paths_in(tmp_path, tmp_path / "data")
    run_train(tiny.model, tiny.train, tiny.masking, tiny.evaluate, tiny.runtime, paths=paths)
    assert results(tmp_path) == results(trained)


def test_a_bad_row_is_set_aside_with_its_reason_and_the_rest_is_read(tiny: Params, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [GOOD, [GOOD[0], "[1, 5", *GOOD[2:]], GOOD])
    limits = dataclasses.replace(tiny.convert, max_reject_rate=0.5)
    run_convert(limits, zip_file=path, out=tmp_path / "out", rejects_report=tmp_path / "rejects.parquet")
    assert len(read_dataset(tmp_path / "out" / "train.parquet")) == 2
    (bad,) = pq.read_table(tmp_path / "out" / "rejects.parquet").to_pylist()
    assert (bad["row"], bad["line"]) == (2, 3)
    assert bad["reason"].startswith("not a JSON list")


@pytest.mark.usefixtures("workdir")
def test_old_data_stay_until_new_ones_have_arrived(tiny: Params, tmp_path: Path) -> None:
    out = tmp_path / "dataset.zip"
    out.write_bytes(b"old")
    with pytest.raises(DownloadError):
        run_download(dataclasses.replace(tiny.download, source="nowhere.zip"), tiny.sample, tiny.masking, out=out)
    assert out.read_bytes() == b"old"


def test_the_vocabulary_is_as_large_as_the_data_say(trained: Path, parquet: Path) -> None:
    # The notebook's 147,161 belongs to another vocabulary than its ids.
    from bertpipe.data.tokenization.tokenizer import load_tokenizer

    assert load_model(trained / "model").bert.vocab_size == load_tokenizer(parquet / "tokenizer.json").vocab_size
