"""Text to the tables of the Parquet contract: all of it as one shard, or each file of a folder as a shard."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from bertpipe.core.artifacts import SPLITS, shards_sha256
from bertpipe.core.params import MaskingParams, PrepareParams, RuntimeParams, cores
from bertpipe.core.progress import Progress
from bertpipe.data.masking import Masking
from bertpipe.data.records import FileRecord, SplitRecord
from bertpipe.data.tokenization.tokenizer import Tokenizer, word_level_tokenizer
from bertpipe.data.tokenization.user_tokenizer import given_tokenizer
from bertpipe.data.tokenization.vocabulary import WordCounts, rank_counts
from bertpipe.data.tokenization.wordpiece import count_divisor, train_wordpiece
from bertpipe.sources.engines.engine import Engine, Processes, with_progress
from bertpipe.sources.text.checks import check_splits, check_tokenizer, long_words_note
from bertpipe.sources.text.chunks import Counts
from bertpipe.sources.text.corpus import AssignedShard, CorpusStats
from bertpipe.sources.text.documents import text_shards
from bertpipe.sources.text.documents.streams import ignore_bytes
from bertpipe.sources.text.duplicates import assign, digest_shard, find_duplicates
from bertpipe.sources.text.shards import count_shard, merge_words, read_words, write_shard
from bertpipe.sources.text.spill import Run, parts_of

_BYTES_FOR_A_PROCESS = 1 << 23
"""Bytes of text for which it pays to start one more process."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedText:
    """What was written, and of what."""

    tokenizer: Tokenizer
    stats: CorpusStats
    counts: Mapping[str, Counts]
    """By split."""
    sha256: Mapping[str, str]
    """Of each file but the tokenizer's, or of all shards of a table."""
    records: Mapping[str, SplitRecord]
    """By split."""


def prepare_text(
    prepare: PrepareParams,
    masking: MaskingParams,
    runtime: RuntimeParams,
    text: Path,
    out: Path,
    staging: Path,
    engine: Engine | None,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
) -> PreparedText:
    """Write the rows and documents of a text to `staging`, shard by shard.

    Several shards are the work of an engine, each by one of its workers. A single one is read here, and the processes
    of this machine share its chunks.

    Raises:
        MissingInputError, DataError, ParamsError: see `run_prepare`.
    """
    as_files = prepare.shards == "files"
    texts = text_shards(text, text_format=prepare.text_format, field=prepare.field, as_files=as_files)
    shards = [AssignedShard(text=each, number=number if as_files else None) for number, each in enumerate(texts)]
    work = _Work(shards, runtime, engine, on_progress)
    with work.engine.session(), TemporaryDirectory(dir=staging, prefix=".spill-") as folder:
        spill, duplicates = Path(folder), None
        if len(shards) > 1:
            shards, duplicates = _deduplicated(prepare, work, shards, spill)
        tokenizer = _tokenizer(prepare, work, shards, duplicates, text, spill, on_note)
        check_tokenizer(tokenizer, prepare, out)
        Masking.of(masking, tokenizer)  # refuses before the work what no worker could mask
        written_by = (tokenizer.backend.to_str(), staging, duplicates, work.processes_per_shard)
        write = partial(write_shard, prepare, masking, *written_by)
        stats, counts = CorpusStats(), {split: Counts() for split in prepare.splits}
        digests: dict[str, list[str]] = {table: [] for table in prepare.tables}
        files: dict[str, list[FileRecord]] = {split: [] for split in prepare.splits}
        for written in work.map(write, shards, "preparing"):
            stats.merge(written.stats)
            for split in prepare.splits:
                counts[split].merge(written.counts[split])
                files[split].append(written.files[split])
            for table in prepare.tables:
                digests[table].append(written.sha256[table])
    sha256 = {
        table if as_files else f"{table}.parquet": shards_sha256(each) if as_files else each[0]
        for table, each in digests.items()
    }
    records = {split: counts[split].record(files[split]) for split in prepare.splits}
    return PreparedText(tokenizer=tokenizer, stats=stats, counts=counts, sha256=sha256, records=records)


class _Work:
    """Maps functions over shards and reports how far that is: shard by shard, or of a single one by its bytes."""

    def __init__(
        self,
        shards: Sequence[AssignedShard],
        runtime: RuntimeParams,
        engine: Engine | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._sizes = [shard.text.size(None) for shard in shards]
        auto = min(cores(), 1 + sum(self._sizes) // _BYTES_FOR_A_PROCESS)
        processes = auto if runtime.processes == "auto" else runtime.processes
        self.engine = engine or Processes(count=processes)
        self._is_here = len(shards) == 1 and isinstance(self.engine, Processes)
        self.processes_per_shard = processes if self._is_here else 1
        self._on_progress = on_progress
        self._size_of = cache(shards[0].text.size)

    def map(
        self,
        function: Callable[[AssignedShard], _Result],
        shards: Sequence[AssignedShard],
        label: str,
        *,
        splits: Sequence[str] = SPLITS,
    ) -> Iterator[_Result]:
        """Yield the function's result for each shard, in order.

        Args:
            function: can be pickled.
            shards: those that this was made of.
            label: what the reports call the work.
            splits: of a corpus that has splits of its own, those whose readings are reported.
        """
        if not self._is_here:
            yield from with_progress(self.engine.map(function, shards), self._sizes, label, self._on_progress)
            return
        for shard in shards:
            text = replace(shard.text, watch=partial(self._watch, label, splits))
            yield function(replace(shard, text=text))

    def _watch(self, label: str, splits: Sequence[str], split: str | None) -> Callable[[int], None]:
        """Return what reports the bytes of one reading of a split, or of all splits with None."""
        if split is not None and split not in splits:
            return ignore_bytes
        done, total = 0, self._size_of(split)

        def count(read: int) -> None:
            nonlocal done
            done += read
            self._on_progress(Progress(label=label, completed=done, total=total, unit="bytes"))

        return count


def _deduplicated(
    prepare: PrepareParams, work: _Work, shards: Sequence[AssignedShard], spill: Path
) -> tuple[list[AssignedShard], list[Run]]:
    """Return the shards with the numbers of their documents, and where the duplicates are."""
    digested = list(work.map(partial(digest_shard, prepare, spill), shards, "looking for duplicates"))
    runs = [each.runs for each in digested]
    parts = parts_of(chain.from_iterable(runs))
    duplicates, per_shard = list[Run](), np.zeros(len(shards), dtype=np.int64)
    with closing(work.engine.map(partial(find_duplicates, spill, runs), parts)) as found:
        for each in found:
            duplicates.append(each.run)
            per_shard += each.per_shard
    return assign(shards, digested, per_shard), duplicates


def _tokenizer(
    prepare: PrepareParams,
    work: _Work,
    shards: Sequence[AssignedShard],
    duplicates: Sequence[Run] | None,
    text: Path,
    spill: Path,
    on_note: Callable[[str], None],
) -> Tokenizer:
    """Return the tokenizer that the params name, made from the training documents alone where it is made here."""
    choice = {"lowercase": prepare.lowercase, "strip_accents": prepare.strip_accents}
    if prepare.tokenizer not in {"words", "wordpiece"}:
        given = given_tokenizer(Path(prepare.tokenizer), **choice)
        for note in given.notes:
            on_note(note)
        return given.tokenizer
    runs, words, rest, documents = list[Run](), 0, WordCounts(), Counter[str]()
    count = partial(count_shard, prepare, spill, duplicates)
    for counted in work.map(count, shards, "making the vocabulary", splits=SPLITS[:1]):
        runs += counted.runs
        words += counted.words
        rest.merge(counted.rest)
        documents.update(counted.documents)
    check_splits({split: documents[split] for split in prepare.splits}, prepare, text)
    if too_long := long_words_note(words, rest.too_long):
        on_note(too_long)
    is_wordpiece = prepare.tokenizer == "wordpiece"
    divisor = count_divisor(words) if is_wordpiece and prepare.shards == "files" else 1
    merged = list(work.engine.map(partial(merge_words, spill, runs, divisor), parts_of(runs)))
    counts = chain.from_iterable(map(read_words, merged))
    if not is_wordpiece:
        return word_level_tokenizer(rank_counts(dict(counts)), composed=True)
    return train_wordpiece(
        counts,
        rest.characters,
        vocab_size=prepare.vocab_size,
        min_frequency=prepare.min_frequency,
        divisor=divisor,
        **choice,
    )
