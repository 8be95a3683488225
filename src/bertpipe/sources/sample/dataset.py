"""The embedded sample as a zip in the notebook's format."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bertpipe.core.params import MaskingParams, SampleParams
from bertpipe.core.randomness import random_bits
from bertpipe.data.masking import Corruption, Masking
from bertpipe.data.tokenization.tokenizer import Tokenizer, basic_english, word_level_tokenizer
from bertpipe.data.tokenization.vocabulary import rank_words
from bertpipe.sources.notebook.archive import member_name
from bertpipe.sources.notebook.sentence_pairs import sentence_pairs
from bertpipe.sources.notebook.writer import SAMPLED_EVERY, ArchiveWriter, csv_fields, csv_text, pair_tokens
from bertpipe.sources.sample.reviews import Review, generate_reviews

_TEST_CHOICE = 30  # stream of randomness


def sample_reviews(sample: SampleParams) -> dict[str, list[Review]]:
    """Return the reviews of the sample's training and test split."""
    reviews = list(generate_reviews(seed=sample.seed, films=sample.films, reviews=sample.reviews))
    order = np.argsort(random_bits(sample.seed, _TEST_CHOICE, np.arange(len(reviews))), kind="stable")
    test = set(order[: max(2, round(sample.test_share * len(reviews)))].tolist())
    return {
        "train": [review for number, review in enumerate(reviews) if number not in test],
        "test": [review for number, review in enumerate(reviews) if number in test],
    }


def write_sample(path: Path, sample: SampleParams, masking: MaskingParams) -> None:
    """Write the sample's zip: the members and columns of the notebook's zip, and the vocabulary."""
    splits = sample_reviews(sample)
    vocabulary = rank_words(basic_english([review.text for review in splits["train"]]))
    tokenizer = word_level_tokenizer(vocabulary)
    rule = Masking.of(masking, tokenizer)
    with ArchiveWriter(path) as archive:
        first_row = 0
        for split, members in splits.items():
            rows = list(_csv_rows(members, tokenizer, rule, seed=sample.seed, first_row=first_row))
            first_row += len(rows)
            archive.add(member_name(split, "full"), csv_text(rows))
            archive.add(member_name(split, "sampled"), csv_text(rows[::SAMPLED_EVERY]))
        archive.add_facts(vocabulary=vocabulary, labels_are_true=True, generated=True)


def _csv_rows(
    reviews: Sequence[Review], tokenizer: Tokenizer, rule: Masking, *, seed: int, first_row: int
) -> Iterator[list[str]]:
    documents = [[tuple(tokenizer.encode(sentence)) for sentence in review.sentences] for review in reviews]
    pairs = list(sentence_pairs(documents, seed=seed))
    token_ids = [np.array(pair_tokens(pair.first, pair.second), dtype=np.int32) for pair in pairs]
    # All rows at once: one call per row would take most of the time.
    lengths = np.array([len(ids) for ids in token_ids])
    ends = np.cumsum(lengths)
    rows = first_row + np.repeat(np.arange(len(pairs)), lengths)
    positions = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
    whole = rule.corrupt(np.concatenate(token_ids), rows, positions, seed=seed, epoch=0)
    for pair, end, length in zip(pairs, ends, lengths, strict=True):
        row = slice(end - length, end)
        corruption = Corruption(chosen=whole.chosen[row], inputs=whole.inputs[row])
        yield csv_fields(reviews[pair.document].text, pair, corruption)
