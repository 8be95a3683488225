"""Simple predictors, worked by hand on tiny data sets."""

import math
from pathlib import Path

import numpy as np
import pytest

from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.evaluation.baselines import (
    PREDICTORS,
    Figures,
    Splits,
    _best_threshold,
    constant,
)
from datasets import Pair, pair_dataset, pair_file

TOKENIZER = word_level_tokenizer([*SPECIAL_TOKENS, *"abcdefghij"])  # ids 5 to 14
NOTHING = pair_dataset([])


def splits(train: PairSource, test: PairSource, vocab_size: int = 15) -> Splits:
    return Splits(train=train, test=test, tokenizer=TOKENIZER, vocab_size=vocab_size)


def accuracy(task: str, name: str, train: PairSource, test: PairSource) -> float | None:
    """Return the one figure of a predictor."""
    (figure,) = PREDICTORS[task][name](splits(train, test)).values()
    return figure


def labelled(*labels: int) -> Pair:
    return Pair(first=[5] * len(labels), second=[6], masks={at: (3, label) for at, label in enumerate(labels, 1)})


def test_the_constant_predictor_by_hand() -> None:
    train, test = pair_dataset([labelled(5, 5, 6), labelled(0, 0)]), pair_dataset([labelled(5, 7), labelled(0)])
    result = constant(splits(train, test, 8))
    # Counts 2, 1 and six zeros, one added to each: 3/11, 2/11, 1/11.
    assert result["loss"] == pytest.approx(-(math.log(3 / 11) + math.log(1 / 11)) / 2, rel=1e-12)
    assert result["top1_accuracy"] == 0.5
    assert result["top5_accuracy"] == 0.5


def test_the_constant_predictors_first_five_are_the_most_frequent_five() -> None:
    train = pair_dataset([labelled(*(label for label in range(5, 11) for _ in range(label)))])
    test = pair_dataset([labelled(5, 6, 10)])
    result = constant(splits(train, test, 15))
    assert (result["top1_accuracy"], result["top5_accuracy"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_without_labels_the_constant_predictor_has_no_figures() -> None:
    train = pair_dataset([labelled(5)])
    for test in (NOTHING, pair_dataset([labelled(0)])):
        result = constant(splits(train, test, 8))
        assert (result["loss"], result["top1_accuracy"], result["top5_accuracy"]) == (None, None, None)


def test_without_training_labels_the_constant_predictor_knows_only_the_vocabulary() -> None:
    result = constant(splits(NOTHING, pair_dataset([labelled(5)]), 8))
    assert result["loss"] == pytest.approx(math.log(8))


# Two neighbours. Seen: [CLS] 5 6 7 [SEP] 8 [SEP] twice, [CLS] 5 9 7 [SEP] 8 [SEP] once, and once more 8.
SEEN = pair_dataset(
    [
        Pair(first=[5, 6, 7], second=[8], masks={2: (3, 6)}),  # the true token counts, not its mask
        Pair(first=[5, 6, 7], second=[8]),
        Pair(first=[5, 9, 7], second=[8]),
        Pair(first=[8], second=[8]),
    ]
)


@pytest.mark.parametrize(
    ("first", "masked", "label"),
    [
        ([5, 6, 7], [2], 6),  # both neighbours: 6 twice, 9 once
        ([5, 6, 14], [2], 6),  # unseen pair, the left neighbour decides: after 5 come 6, 6, 9
        ([14, 9, 7], [2], 6),  # unseen pair and left, the right one decides: before 7 come 6, 6, 9
        ([14, 9, 13], [2], 8),  # nothing seen: 8 is the most frequent, five times
        ([5, 6, 7], [2, 3], 6),  # the right neighbour is masked: the left one decides
        ([5, 6, 7], [1, 2], 6),  # the left neighbour is masked: the right one decides
        ([9], [1], 8),  # between [CLS] and [SEP] stood 8
    ],
)
def test_two_neighbours_by_hand(first: list[int], masked: list[int], label: int) -> None:
    asked = 2 if 2 in masked else 1
    masks = dict.fromkeys(masked, (3, 0)) | {asked: (3, label)}
    test = pair_dataset([Pair(first=first, second=[8], masks=masks)])
    assert accuracy("mlm", "two_neighbours", SEEN, test) == 1.0
    wrong = pair_dataset([Pair(first=first, second=[8], masks=masks | {asked: (3, 13)})])
    assert accuracy("mlm", "two_neighbours", SEEN, wrong) == 0.0


def test_two_neighbours_average_over_tokens() -> None:
    test = pair_dataset(
        [
            Pair(first=[5, 6, 7], second=[8], masks={2: (3, 6), 5: (3, 8)}),
            Pair(first=[5, 9, 7], second=[8], masks={2: (3, 9)}),
        ]
    )
    assert accuracy("mlm", "two_neighbours", SEEN, test) == pytest.approx(2 / 3)


def test_two_neighbours_read_a_random_word_as_the_model_does() -> None:
    # Position 2 reads 9 in place of 6; what position 1 sees to its right is 9.
    test = pair_dataset([Pair(first=[5, 6, 7], second=[8], masks={1: (3, 5), 2: (9, 0)})])
    assert accuracy("mlm", "two_neighbours", SEEN, test) == 1.0


def test_unknown_truth_is_not_counted() -> None:
    # In the notebook's data `[MASK]` itself stands where the truth is unknown.
    seen = pair_dataset([Pair(first=[5, 3, 7], second=[8], masks={2: (3, 6)}), Pair(first=[5, 9, 7], second=[8])])
    test = pair_dataset([Pair(first=[5, 3, 7], second=[8], masks={2: (3, 9)})])
    assert accuracy("mlm", "two_neighbours", seen, test) == 1.0


def test_without_labels_two_neighbours_have_no_figure() -> None:
    assert accuracy("mlm", "two_neighbours", SEEN, pair_dataset([Pair(first=[5], second=[6])])) is None
    assert accuracy("mlm", "two_neighbours", NOTHING, SEEN) is None


# NSP


def test_sentence_b_alone_by_hand() -> None:
    seen = pair_dataset([
        Pair(first=[9], second=[5, 7], is_next=True),
        Pair(first=[9], second=[6, 7], is_next=False),
    ])  # fmt: skip
    test = pair_dataset(
        [
            Pair(first=[6], second=[5], is_next=True),  # 5 stood in a next sentence
            Pair(first=[5], second=[6], is_next=False),  # 6 did not; A does not count
            Pair(first=[5], second=[7], is_next=True),  # 7 says nothing: a tie is called not next
            Pair(first=[5], second=[6], is_next=True, masks={3: (5, 6)}),  # 5 is what is read
        ]
    )
    assert accuracy("nsp", "sentence_b_alone", seen, test) == 3 / 4


def test_sentence_b_alone_knows_how_often_pairs_are_next() -> None:
    seen = pair_dataset([Pair(first=[9], second=[5], is_next=next_) for next_ in (True, True, True, False)])
    # Without a word that tells, the commoner class is called; [SEP] and 5 are commoner in next sentences too.
    test = pair_dataset([Pair(first=[9], second=[14], is_next=True)])
    counts = {True: (3 + 3 + 15, 1), False: (1 + 1 + 15, 1)}  # tokens of B with one added to each of 15 ids
    score = math.log((4 / 6) / (2 / 6)) + sum(
        math.log(one / counts[True][0]) - math.log(other / counts[False][0]) for one, other in ((1, 1), (4, 2))
    )
    assert accuracy("nsp", "sentence_b_alone", seen, test) == float(score > 0)


def test_word_overlap_by_hand() -> None:
    seen = pair_dataset([
        Pair(first=[5, 6, 9], second=[6, 9], is_next=True),  # 6 is shared; 9 is everywhere and weighs nothing
        Pair(first=[7, 9], second=[8, 9], is_next=False),
    ])  # fmt: skip
    test = pair_dataset(
        [
            Pair(first=[7, 9], second=[7, 9], is_next=True),
            Pair(first=[7, 9], second=[5, 9], is_next=False),  # 9 alone is no overlap
            Pair(first=[7], second=[7], is_next=False),
            Pair(first=[7], second=[8], is_next=True),
        ]
    )
    assert accuracy("nsp", "word_overlap", seen, test) == 0.5
    assert accuracy("nsp", "word_overlap", seen, seen) == 1.0


def test_unknown_words_and_masks_that_a_and_b_share_are_no_overlap() -> None:
    seen = pair_dataset(
        [
            Pair(first=[5, 6], second=[6], is_next=True),
            Pair(first=[7, 4], second=[8, 4], is_next=False),
            Pair(first=[7, 9], second=[8, 9], is_next=False, masks={2: (3, 9), 5: (3, 9)}),
        ]
    )
    assert accuracy("nsp", "word_overlap", seen, seen) == 1.0


def test_a_word_shared_many_times_counts_once() -> None:
    seen = pair_dataset([
        Pair(first=[5, 6], second=[5, 6], is_next=True),
        Pair(first=[7, 7, 7], second=[7, 7, 7], is_next=False),
    ])  # fmt: skip
    test = pair_dataset([Pair(first=[7, 7, 7], second=[7, 7, 7], is_next=False)])
    assert accuracy("nsp", "word_overlap", seen, test) == 1.0


def test_without_rows_nsp_predictors_have_no_figure() -> None:
    assert accuracy("nsp", "sentence_b_alone", SEEN, NOTHING) is None
    assert accuracy("nsp", "word_overlap", SEEN, NOTHING) is None


# Streaming


def random_pairs(count: int, seed: int) -> PairDataset:
    """Return rows in which each predictor finds something: few words, some of them masked, B often like A."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        first = random.integers(5, 15, size=random.integers(1, 6)).tolist()
        is_next = bool(random.random() < 0.5)
        second = [*first[:2], 5] if is_next and random.random() < 0.7 else random.integers(5, 15, size=4).tolist()
        tokens = [1, *first, 2, *second, 2]
        words = [at for at, token in enumerate(tokens) if token >= 5]
        chosen = random.choice(words, size=random.integers(0, 3), replace=False).tolist()
        masks = {at: (int(random.choice([3, 9])), int(random.choice([0, tokens[at]]))) for at in chosen}
        pairs.append(Pair(first=first, second=second, is_next=is_next, masks=masks))
    return pair_dataset(pairs)


def figures(train: PairSource, test: PairSource) -> list[Figures]:
    return [predictor(splits(train, test)) for names in PREDICTORS.values() for predictor in names.values()]


@pytest.mark.parametrize(("rows_per_group", "groups_per_window"), [(1, 1), (7, 2), (16, 3), (64, 1), (150, 5)])
def test_figures_do_not_depend_on_how_the_rows_are_read(
    tmp_path: Path, rows_per_group: int, groups_per_window: int
) -> None:
    splits = {"train": random_pairs(149, 1), "test": random_pairs(83, 2)}
    files = [
        pair_file(tmp_path / name, data, rows_per_group=rows_per_group, groups_per_window=groups_per_window)
        for name, data in splits.items()
    ]
    expected = figures(*splits.values())
    assert figures(*files) == expected  # equal to the bit
    accuracies = [value for each in expected for name, value in each.items() if name.endswith("accuracy")]
    assert all(value is not None and 0.1 < value < 0.9 for value in accuracies)


@pytest.mark.parametrize(
    ("score", "label", "threshold"),
    [
        ([1.0, 3.0], [False, True], 2.0),
        ([3.0, 1.0], [True, False], 2.0),
        ([1.0, 2.0, 4.0], [False, True, True], 1.5),
        ([1.0, 2.0], [True, True], -math.inf),
        ([1.0, 2.0], [False, False], 2.0),
        ([2.0, 2.0, 2.0], [True, True, False], -math.inf),  # equal scores stay together
        ([2.0, 2.0, 2.0], [True, False, False], 2.0),
    ],
)
def test_the_best_threshold_by_hand(score: list[float], label: list[bool], threshold: float) -> None:
    assert _best_threshold(np.array(score), np.array(label)) == threshold
