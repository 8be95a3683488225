"""`probe`: classifiers of texts on a model, frozen and whole, beside random weights and scikit-learn."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import nn

from bertpipe.commands import probe as stage
from bertpipe.commands.probe import run_probe
from bertpipe.core.errors import DataError, MissingInputError, ModelError, TrainingError
from bertpipe.core.params import Params, ProbeParams, TrainParams
from bertpipe.core.progress import Progress
from bertpipe.evaluation.metrics import bag_of_words, by_class, figures, majority
from bertpipe.model.store import load_model
from bertpipe.sources.labelled.reading import LabelledText
from bertpipe.sources.labelled.rows import TextRows
from bertpipe.sources.labelled.splits import read_splits
from bertpipe.sources.sample.reviews import Review, generate_reviews
from bertpipe.training.classifier import (
    LayerMeans,
    TextClassifier,
    batches_of,
    by_text,
    fit,
    outputs,
    standardised,
    zero_linear,
)
from models import WORDS, save_changed, save_tiny_huggingface, save_tiny_model, tiny_bert

CPU = torch.device("cpu")
REVIEWS = list(generate_reviews(seed=5, films=40, reviews=360))


def write_csv(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def verdicts(reviews: Sequence[Review]) -> list[tuple[str, str]]:
    return [(review.text, "positive" if review.positive else "negative") for review in reviews]


def animals(count: int = 60) -> list[tuple[str, str]]:
    """Return texts that tell their class by one word of `WORDS`, and otherwise say nothing of it; all are different."""
    rest = ("the", "sat", "on", "mat", "ran")
    return [
        (" ".join((("cat", "dog")[number % 2], *(rest[number // 5**k % 5] for k in range(3)))), ("c", "d")[number % 2])
        for number in range(count)
    ]


def settings(params: Params, **changes: Any) -> ProbeParams:  # noqa: ANN401
    """Return the tiny params' section, with changes to it and, by `epochs` and such, to the chosen way of training."""
    probe = replace(params.probe, **{name: changes.pop(name) for name in list(changes) if name in _OWN})
    chosen = replace(getattr(probe, probe.mode), **changes)
    return replace(probe, frozen=chosen) if probe.mode == "frozen" else replace(probe, whole=chosen)


_OWN = ("seed", "mode", "text_field", "label_field", "test_share", "train_texts", "windows")


def probe(params: Params, labelled: Path | str, model: Path, out: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    options = {name: changes.pop(name) for name in ("on_progress", "on_note") if name in changes}
    test = changes.pop("test", None)
    return run_probe(
        settings(params, **changes), params.train, params.sample, params.runtime,
        labelled=labelled, test=test, model=model, out=out, **options,
    )  # fmt: skip


def accuracy(report: dict[str, Any], predictor: str = "model") -> float:
    return float(report["predictors"][predictor]["accuracy"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a tiny model that knows the words of `animals`; read only."""
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return reviews with their verdicts to train on, and others to test on; read only."""
    folder = tmp_path_factory.mktemp("films")
    return write_csv(folder / "train.csv", verdicts(REVIEWS[:280])), write_csv(
        folder / "t.csv", verdicts(REVIEWS[280:])
    )


# What is learned


def test_a_frozen_model_tells_words_apart(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "x.csv", animals())
    report = probe(tiny, labelled, model, tmp_path / "out.json", mode="frozen", epochs=60, learning_rate=0.05)
    assert accuracy(report) == 1.0
    assert report["predictors"]["majority"]["accuracy"] == 0.5


@pytest.mark.thorough
def test_a_whole_model_learns_the_verdicts_of_the_sample(
    tiny: Params, trained: Path, films: tuple[Path, Path], tmp_path: Path
) -> None:
    train, test = films
    report = probe(tiny, train, trained / "model", tmp_path / "out.json", test=test, mode="whole", epochs=8)
    assert accuracy(report) > accuracy(report, "majority") + 0.1
    assert report["predictors"]["model"]["macro_f1"] > report["predictors"]["majority"]["macro_f1"] + 0.1


@pytest.mark.parametrize("mode", ["frozen", "whole"])
def test_labels_dealt_out_anew_are_not_learned(tiny: Params, model: Path, tmp_path: Path, mode: str) -> None:
    rows = animals(120)
    dealt = [("c", "d")[int(number)] for number in np.random.default_rng(3).permutation(120) % 2]
    labelled = write_csv(tmp_path / "x.csv", [(text, label) for (text, _), label in zip(rows, dealt, strict=True)])
    report = probe(tiny, labelled, model, tmp_path / "out.json", mode=mode, test_share=0.5)
    assert abs(accuracy(report) - 0.5) < 0.2


def test_random_weights_are_the_same_network_untrained(
    tiny: Params, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def note(task: Any, bert: Any, name: str) -> Any:  # noqa: ANN401
        seen[name] = bert
        return task.splits.test_labels * 0

    monkeypatch.setattr(stage._Task, "with_frozen", note)
    labelled = write_csv(tmp_path / "x.csv", animals())
    report = probe(tiny, labelled, model, tmp_path / "out.json", mode="frozen")
    trained, random = seen[str(model)], seen["random weights"]
    assert (random.params, random.vocab_size) == (trained.params, trained.vocab_size)
    assert not torch.equal(random.embeddings.token.weight, trained.embeddings.token.weight)
    assert torch.equal(trained.embeddings.token.weight, load_model(model).bert.embeddings.token.weight)
    assert accuracy(report, "random_weights") == 0.5


@pytest.mark.parametrize("mode", ["frozen", "whole"])
def test_the_models_directory_stays_as_it_is(tiny: Params, model: Path, tmp_path: Path, mode: str) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    probe(tiny, write_csv(tmp_path / "x.csv", animals()), model, tmp_path / "out.json", mode=mode, epochs=1)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


# Which weights are trained


def text_rows(*rows: Sequence[int]) -> TextRows:
    return TextRows(
        token_ids=np.array([token for row in rows for token in row], dtype=np.int32),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        text=np.arange(len(rows)),
        texts_cut=0,
        unknown_tokens=0,
    )


ROWS = text_rows((1, 7, 2), (1, 9, 8, 11, 2), (1, 10, 2), (1, 5, 6, 7, 8, 9, 2))
LABELS = np.array([0, 1, 0, 1])


@pytest.fixture
def train_params(tiny: Params) -> TrainParams:
    return replace(tiny.train, epochs=3, batch_size=2, learning_rate=0.01)


def test_all_of_the_network_below_the_heads_is_trained_whole(train_params: TrainParams) -> None:
    classifier = TextClassifier(tiny_bert(vocab_size=13), 2)
    before = {name: parameter.detach().clone() for name, parameter in classifier.named_parameters()}
    for _ in fit(classifier, batches_of(ROWS, CPU), LABELS, ROWS.lengths, train_params):
        pass
    changed = {name for name, parameter in classifier.named_parameters() if not torch.equal(parameter, before[name])}
    heads = ("bert.pooler", "bert.nsp_head", "bert.mlm_")
    assert changed == {name for name in before if not name.startswith(heads)}
    assert any(name.startswith("bert.embeddings.token") for name in changed)


def test_the_network_is_left_alone_where_it_is_frozen(train_params: TrainParams) -> None:
    means = LayerMeans(tiny_bert(vocab_size=13))
    before = {name: parameter.detach().clone() for name, parameter in means.named_parameters()}
    features = outputs(means, batches_of(ROWS, CPU), ROWS.lengths, means.width)
    head = zero_linear(means.width, 2)
    even = np.zeros(4, dtype=np.int64)
    for _ in fit(head, lambda rows: features[torch.from_numpy(rows)], LABELS, even, train_params):
        pass
    assert head.weight.abs().sum() > 0
    for name, parameter in means.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("tied", [True, False])
def test_the_gradient_is_that_of_the_loss(train_params: TrainParams, tied: bool) -> None:
    """By the definition: a step along the gradient of each tensor lowers the loss by as much as its square says."""
    classifier = TextClassifier(tiny_bert(vocab_size=13, tied=tied, dropout=0.0), 2).double()
    nn.init.normal_(classifier.head.weight, generator=torch.Generator().manual_seed(3))
    batch = batches_of(ROWS, CPU)(np.arange(4))

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(classifier(batch), torch.from_numpy(LABELS))

    loss().backward()
    for name in ("bert.embeddings.token.weight", "bert.layers.0.query_key_value.weight", "head.weight"):
        parameter = classifier.get_parameter(name)
        assert parameter.grad is not None
        gradient = parameter.grad.to_dense()
        with torch.no_grad():
            before = loss()
            parameter -= 1e-6 * gradient
            assert (before - loss()).item() == pytest.approx(1e-6 * gradient.square().sum().item(), rel=1e-3)
            parameter += 1e-6 * gradient


# Features


def test_features_are_means_of_every_layer_without_padding() -> None:
    bert = tiny_bert(vocab_size=13)  # two layers: with the embedded input, three
    means = LayerMeans(bert)
    together = outputs(means, batches_of(ROWS, CPU), ROWS.lengths, means.width)
    assert together.shape == (4, 3 * 6)
    for row, ids in enumerate(((1, 7, 2), (1, 9, 8, 11, 2), (1, 10, 2), (1, 5, 6, 7, 8, 9, 2))):
        tokens, length = torch.tensor([ids]), torch.tensor([len(ids)])
        with torch.no_grad():
            hidden = bert.embeddings(tokens, length, length)
            expected = [hidden[0].mean(dim=0)]
            for layer in bert.encoder_layers():
                hidden = layer(hidden, None)
                expected.append(hidden[0].mean(dim=0))
            assert torch.allclose(hidden, bert(tokens, length, length), atol=1e-6)
        assert torch.allclose(together[row], torch.cat(expected), atol=1e-5)


def test_features_of_a_deep_network_are_of_its_last_four_layers() -> None:
    bert = tiny_bert(vocab_size=13, layers=5)
    means = LayerMeans(bert)
    features = outputs(means, batches_of(ROWS, CPU), ROWS.lengths, means.width)
    assert features.shape == (4, 4 * 6)
    with torch.no_grad():
        last = bert(torch.tensor([[1, 7, 2]]), torch.tensor([3]), torch.tensor([3]))[0].mean(dim=0)
    assert torch.allclose(features[0, -6:], last, atol=1e-5)


def test_a_classifier_reads_no_padding() -> None:
    classifier = TextClassifier(tiny_bert(vocab_size=13), 2).eval()
    nn.init.normal_(classifier.head.weight, generator=torch.Generator().manual_seed(3))
    together = outputs(classifier, batches_of(ROWS, CPU), ROWS.lengths, 2)
    with torch.no_grad():
        alone = torch.cat([classifier(batches_of(ROWS, CPU)(np.array([row]))) for row in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_features_are_standardised_by_the_training_rows_alone() -> None:
    train = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    one, other = (standardised(train, torch.tensor([[value, 7.0]])) for value in (4.0, 100.0))
    assert one[0].tolist() == other[0].tolist() == [[-1.0, 0.0], [1.0, 0.0]]  # mean 2 and 5, deviation 1 and none
    assert one[1].tolist() == [[2.0, 2.0]]
    assert other[1].tolist() == [[98.0, 2.0]]


@pytest.mark.parametrize("mode", ["frozen", "whole"])
def test_no_other_test_text_changes_what_is_said_of_one(tiny: Params, model: Path, tmp_path: Path, mode: str) -> None:
    """What leaks from the test into training or standardisation would change the answers to the texts kept."""
    rows = animals(80)
    labelled = write_csv(tmp_path / "train.csv", rows[:40])
    kept, others = rows[40:60], rows[60:80]
    strange = [("mat " * 12, label) for _, label in others]
    answers_to_kept = []
    for number, added in enumerate(([], others, [(text, "dc"[label == "d"]) for text, label in strange * 20])):
        test = write_csv(tmp_path / f"test{number}.csv", [*kept, *added])
        said: list[Any] = []

        def note(logits: torch.Tensor, said: list[Any] = said) -> Any:  # noqa: ANN401
            said.append(logits.argmax(dim=1).numpy())
            return said[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "_best", note)
            probe(tiny, labelled, model, tmp_path / "out.json", test=test, mode=mode, epochs=2)
        answers_to_kept.append([answers[:20].tolist() for answers in said])
    assert len(answers_to_kept[0]) == 2  # of the model and of random weights
    assert answers_to_kept[0] == answers_to_kept[1] == answers_to_kept[2]


# Long texts


def told_at_the_end(count: int, *, seed: int) -> list[tuple[str, str]]:
    """Return texts of 40 words, of which the last 10 alone tell the class."""
    numbers = np.random.default_rng(seed)
    return [
        (
            " ".join([*numbers.choice(["the", "sat", "on", "mat"], size=30), *[("cat", "dog")[number % 2]] * 10]),
            "cd"[number % 2],
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("mode", ["frozen", "whole"])
def test_a_class_that_the_end_of_a_long_text_tells_is_found(
    tiny: Params, model: Path, tmp_path: Path, mode: str
) -> None:
    train = write_csv(tmp_path / "x.csv", told_at_the_end(40, seed=1))
    test = write_csv(tmp_path / "t.csv", told_at_the_end(20, seed=2))
    reports = [
        probe(
            tiny, train, model, tmp_path / "out.json",
            test=test, mode=mode, epochs=10, learning_rate=0.02, windows=windows,
        )
        for windows in ("all", 1)
    ]  # fmt: skip
    assert accuracy(reports[0]) >= 0.9
    assert abs(accuracy(reports[1]) - 0.5) <= 0.2  # the model reads 15 of the 40 words
    assert [report["data"]["test"]["windows"] for report in reports] == [60, 20]
    assert [report["data"]["test"]["texts_cut"] for report in reports] == [0, 20]
    assert all(accuracy(report, "bag_of_words") == 1.0 for report in reports)


def test_a_long_text_is_the_mean_of_all_tokens_of_its_windows() -> None:
    rows = replace(text_rows((1, 5, 2), (1, 6, 7, 8, 9, 2), (1, 7, 2)), text=np.array([0, 0, 1]))
    found = torch.tensor([[3.0, 1.0], [6.0, 0.0], [0.1, 0.7]])
    assert rows.shares.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    means = by_text(found, rows)
    assert torch.allclose(means[0], torch.tensor([5.0, 1 / 3]))  # (3 * 3 + 6 * 6) / 9 and (3 * 1) / 9
    assert torch.equal(means[1], found[2])


def test_texts_of_one_window_are_what_they_are_to_the_bit() -> None:
    found = torch.randn(4, 7, generator=torch.Generator().manual_seed(3))
    assert torch.equal(by_text(found, ROWS), found)


# Figures


def test_macro_f1_by_hand() -> None:
    true, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])
    # 0: precision 2/2, recall 2/3, F1 4/5. 1: 1/3, 1/2, 2/5. 2: nothing right, 0. Their mean is 2/5.
    assert figures(true, predicted) == pytest.approx({"accuracy": 0.5, "macro_f1": 0.4}, rel=1e-12)
    found = by_class(true, predicted, ["a", "b", "c", "unseen"])
    assert found["f1"].pop("unseen") is None
    assert found["f1"] == pytest.approx({"a": 0.8, "b": 0.4, "c": 0.0}, rel=1e-12)
    assert found["confusion"]["a"] == {"a": 2, "b": 1, "c": 0, "unseen": 0}
    assert found["confusion"]["c"] == {"a": 0, "b": 1, "c": 0, "unseen": 0}


def test_the_majority_is_that_of_the_training_texts() -> None:
    assert majority(np.array([2, 0, 2, 1]), 3).tolist() == [2, 2, 2]
    assert majority(np.array([1, 0]), 1).tolist() == [0]


def test_the_majority_of_the_report_is_that_of_the_training_texts(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "x.csv", [*animals(10), ("the mat", "c")])
    test = write_csv(tmp_path / "t.csv", animals(4)[1:])  # d, c, d
    report = probe(tiny, labelled, model, tmp_path / "out.json", test=test, mode="frozen", epochs=1)
    # All are called c: F1 is 2 * 1/3 / (1 + 1/3) for c, and 0 for d.
    assert report["predictors"]["majority"] == pytest.approx({"accuracy": 1 / 3, "macro_f1": 0.25}, rel=1e-12)


def test_the_bag_of_words_is_scikit_learns(tiny: Params, model: Path, films: tuple[Path, Path], tmp_path: Path) -> None:
    texts, labels = zip(*verdicts(REVIEWS), strict=True)
    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b")
    regression = LogisticRegression(max_iter=1000).fit(vectorizer.fit_transform(texts[:280]), labels[:280])
    expected = regression.predict(vectorizer.transform(texts[280:]))
    right = float((expected == np.array(labels[280:])).mean())
    numbers = np.array([int(label == "positive") for label in labels])
    found = bag_of_words(texts[:280], numbers[:280], texts[280:])
    assert found is not None
    assert (found == (expected == "positive")).all()
    train, test = films
    save_tiny_model(tmp_path / "m", words=("film", "the"), max_positions=9)
    report = probe(tiny, train, tmp_path / "m", tmp_path / "out.json", test=test, mode="frozen", epochs=1)
    assert accuracy(report, "bag_of_words") == pytest.approx(right, abs=1e-12)
    assert 0.6 < right < 1.0


def test_texts_without_a_word_have_no_bag(tiny: Params, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "m", words=(".", "!"))
    labelled = write_csv(
        tmp_path / "x.csv", [("." * n, "a") for n in range(1, 9)] + [("!" * n, "b") for n in range(1, 9)]
    )
    report = probe(tiny, labelled, tmp_path / "m", tmp_path / "out.json", mode="frozen")
    assert report["predictors"]["bag_of_words"] is None
    assert accuracy(report) > 0.5


# The report


def test_the_report_tells_data_settings_and_figures(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "x.csv", animals(50))
    told: list[Progress] = []
    report = probe(tiny, labelled, model, tmp_path / "out.json", mode="frozen", epochs=7, on_progress=told.append)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == report
    data = report["data"]
    assert data["labelled"].keys() == {"file", "sha256"}
    assert (data["labelled"]["file"], data["test_file"]) == (str(labelled), None)
    assert data["train"]["classes"] == {"c": 20, "d": 20}
    assert data["test"] == {
        "texts": 10, "classes": {"c": 5, "d": 5}, "windows": 10, "tokens": 60, "unknown_tokens": 0, "texts_cut": 0
    }  # fmt: skip
    assert (report["model"], report["settings"]["mode"], report["settings"]["epochs"]) == (str(model), "frozen", 7)
    assert report["settings"]["adam_beta1"] == tiny.train.adam_beta1
    assert not {"frozen", "whole"} & report["settings"].keys()
    assert list(report["predictors"]) == ["model", "random_weights", "bag_of_words", "majority"]
    confusion = report["predictors"]["model"]["confusion"]
    right = confusion["c"]["c"] + confusion["d"]["d"]
    assert right / 10 == accuracy(report)
    assert sum(sum(counts.values()) for counts in confusion.values()) == 10
    labels = [progress.label for progress in told]
    assert labels[-2:] == ["random weights: epoch 7/7", "counting words for the bag of words"]
    assert f"{model}: epoch 1/7" in labels


@pytest.mark.parametrize("mode", ["frozen", "whole"])
def test_two_probes_give_equal_bytes(tiny: Params, trained: Path, tmp_path: Path, mode: str) -> None:
    labelled = write_csv(tmp_path / "x.csv", verdicts(REVIEWS[:60]))
    for name in ("one.json", "other.json"):
        torch.manual_seed(len(name))  # whatever ran before
        probe(tiny, labelled, trained / "model", tmp_path / name, mode=mode, epochs=2)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_losses_are_the_same_to_the_bit_with_dropout(train_params: TrainParams) -> None:
    def losses() -> list[float]:
        classifier = TextClassifier(tiny_bert(vocab_size=13, dropout=0.3), 2)
        return [step.loss for step in fit(classifier, batches_of(ROWS, CPU), LABELS, ROWS.lengths, train_params)]

    first = losses()
    assert first == losses()
    assert len(first) == 6  # two batches of two rows, three epochs
    assert first[0] == pytest.approx(np.log(2), abs=1e-6)  # the head starts at zero


def test_a_stop_leaves_the_earlier_report(tiny: Params, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("earlier", encoding="utf-8")

    def stop(progress: Progress) -> None:
        if "epoch 2" in progress.label:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(tiny, write_csv(tmp_path / "x.csv", animals()), model, tmp_path / "out.json", on_progress=stop)
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "x.csv"}


def test_a_hugging_face_directory_is_probed(tiny: Params, tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf", head="BertModel")
    rows = [(text.replace("ran", "mats"), label) for text, label in animals()]
    labelled = write_csv(tmp_path / "x.csv", rows)
    report = probe(tiny, labelled, tmp_path / "hf", tmp_path / "out.json", mode="whole", epochs=40)
    assert report["data"]["train"]["unknown_tokens"] == 0
    assert accuracy(report) == 1.0


def test_cut_texts_and_texts_in_both_files_are_told(tiny: Params, model: Path, tmp_path: Path) -> None:
    rows = animals(20)
    labelled = write_csv(tmp_path / "x.csv", rows)
    test = write_csv(tmp_path / "t.csv", [rows[0], (f" {rows[3][0]}", "d"), ("cat " * 16, "c")])
    notes: list[str] = []
    report = probe(
        tiny, labelled, model, tmp_path / "out.json", test=test, mode="frozen", windows=1, on_note=notes.append
    )
    assert notes == [
        "of each text the model reads probe.windows times 17 tokens at most: 1 of 23 texts lost their end; the bag of "
        "words reads all",
        "2 of the 3 test texts are training texts, too",
    ]
    assert report["data"]["test_texts_in_training"] == 2
    assert (report["data"]["train"]["texts_cut"], report["data"]["test"]["texts_cut"]) == (0, 1)
    assert report["data"]["test_file"]["file"] == str(test)


# The sample, and fewer texts


def test_the_samples_reviews_are_split_as_its_zip_is(tiny: Params, parquet: Path) -> None:
    import pyarrow.parquet as pq

    splits = read_splits(tiny.probe, tiny.sample, labelled="sample", test=None)
    documents = pq.read_table(parquet / "documents.parquet").to_pylist()
    for split in ("train", "test"):
        texts: Sequence[LabelledText] = getattr(splits, split)
        assert {row.text for row in texts} == {d["text"] for d in documents if d["split"] == split}
    assert (len(splits.train), len(splits.test)) == (48, 12)
    truth = {review.text: review.positive for review in generate_reviews(seed=7, films=40, reviews=60)}
    assert all(truth[row.text] == (row.label == "positive") for row in (*splits.train, *splits.test))


def test_fewer_texts_to_train_on_leave_the_test_as_it_is(tiny: Params) -> None:
    everything = read_splits(tiny.probe, tiny.sample, labelled="sample", test=None)
    fewer = read_splits(replace(tiny.probe, train_texts=10), tiny.sample, labelled="sample", test=None)
    assert len(fewer.train) == 10
    assert set(fewer.train) < set(everything.train)
    assert fewer.test == everything.test


def of_classes(path: Path, **counts: int) -> Path:
    return write_csv(
        path, [(f"the cat sat {label} {n}", label) for label, count in counts.items() for n in range(count)]
    )


def test_fewer_texts_than_classes_leave_the_others_out_with_a_note(tiny: Params, tmp_path: Path) -> None:
    labelled = of_classes(tmp_path / "x.csv", good=30, bad=20, mixed=5, odd=1)
    splits = read_splits(replace(tiny.probe, train_texts=2), tiny.sample, labelled=str(labelled), test=None)
    assert splits.classes == ["bad", "good"] == sorted({row.label for row in splits.test})
    said, single = splits.notes()
    assert said == (
        "2 training texts are fewer than the classes: 'mixed', 'odd' are neither trained on nor tested: "
        "raise probe.train_texts (--train-texts)"
    )
    assert "one text to train on" in single
    splits = read_splits(replace(tiny.probe, train_texts=10), tiny.sample, labelled=str(labelled), test=None)
    assert splits.classes == ["bad", "good", "mixed", "odd"]
    assert splits.notes()[0] == "no text is left to test these classes, which have too few of them: 'odd'"
    plenty = read_splits(tiny.probe, tiny.sample, labelled=str(of_classes(labelled, good=9, bad=9)), test=None)
    assert plenty.notes() == []


def test_texts_of_too_few_classes_are_refused(tiny: Params, tmp_path: Path) -> None:
    labelled = of_classes(tmp_path / "x.csv", good=30, bad=20, mixed=5)
    with pytest.raises(DataError, match=r"probe\.train_texts is 1, and a classifier needs texts of two classes"):
        read_splits(replace(tiny.probe, train_texts=1), tiny.sample, labelled=str(labelled), test=None)
    test = write_csv(tmp_path / "t.csv", [("the cat", "mixed")])
    with pytest.raises(
        DataError, match=r"no text to test on has one of the classes of the 2 training texts, 'bad', 'g"
    ):
        read_splits(replace(tiny.probe, train_texts=2), tiny.sample, labelled=str(labelled), test=test)


def test_a_rare_class_is_probed(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "x.csv", [*animals(20), ("the mat", "m")])
    report = probe(tiny, labelled, model, tmp_path / "out.json")
    assert report["data"]["train"]["classes"]["m"] == 1
    assert report["data"]["test"]["classes"]["m"] == 0


# What is refused


def test_a_class_that_is_tested_and_not_trained_on_is_named(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "x.csv", animals(20))
    test = write_csv(tmp_path / "t.csv", [("the cat", "c"), ("the mat", "m")])
    with pytest.raises(DataError, match=r"t\.csv:3: no training text has the class 'm', they have 'c', 'd': train on"):
        probe(tiny, labelled, model, tmp_path / "out.json", test=test)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("given_test", [True, False])
def test_one_class_alone_is_refused(tiny: Params, model: Path, tmp_path: Path, given_test: bool) -> None:
    labelled = write_csv(tmp_path / "x.csv", [("the cat", "c"), ("cat sat", "c"), ("cat ran", "c")])
    with pytest.raises(DataError, match=r"x\.csv has one class to train on, 'c': a classifier needs texts of two"):
        probe(tiny, labelled, model, tmp_path / "out.json", test=labelled if given_test else None)


def test_other_faults_name_what_they_are_about(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled, out = write_csv(tmp_path / "x.csv", animals(20)), tmp_path / "out.json"
    with pytest.raises(MissingInputError, match=r"none\.csv does not exist: name a labelled file"):
        probe(tiny, tmp_path / "none.csv", model, out)
    with pytest.raises(MissingInputError, match=r"there is no model at .*: run `bertpipe train` first"):
        probe(tiny, labelled, tmp_path / "none", out)
    with pytest.raises(DataError, match=r"the sample has a test split of its own: leave out --test"):
        probe(tiny, "sample", model, out, test=labelled)
    with pytest.raises(DataError, match=r"x\.csv has no field 'review', it has 'text', 'label'"):
        probe(tiny, labelled, model, out, text_field="review")


@pytest.mark.parametrize("mode", ["frozen", "whole"])
def test_weights_that_are_no_numbers_are_refused(tiny: Params, tmp_path: Path, mode: str) -> None:
    bert = save_tiny_model(tmp_path / "m", words=WORDS)
    with torch.no_grad():
        bert.embeddings.token.weight[5:] = torch.nan
    save_changed(tmp_path / "m", bert)
    labelled = write_csv(tmp_path / "x.csv", animals(20))
    expected = (
        (ModelError, "m gives values that are not finite")
        if mode == "frozen"
        else (TrainingError, "is not a number at step")
    )
    with pytest.raises(expected[0], match=expected[1]):
        probe(tiny, labelled, tmp_path / "m", tmp_path / "out.json", mode=mode)


def test_a_learning_rate_that_is_far_too_high_is_named(tiny: Params, model: Path, tmp_path: Path) -> None:
    labelled = write_csv(tmp_path / "x.csv", animals(20))
    with pytest.raises(TrainingError, match=r"lower probe\.frozen\.learning_rate or probe\.whole\.learning_rate"):
        probe(tiny, labelled, model, tmp_path / "out.json", learning_rate=1e38, epochs=9)
