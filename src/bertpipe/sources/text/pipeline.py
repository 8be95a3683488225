"""Text to the tables of the Parquet contract: as a whole, or each file of a folder as a shard."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertpipe.core.artifacts import (
    DOCUMENTS_NAME,
    SPLITS,
    TABLES,
    file_sha256,
    shards_sha256,
)
from bertpipe.core.params import MaskingParams, PrepareParams, RuntimeParams, cores
from bertpipe.core.progress import Progress
from bertpipe.data.parquet_writer import DocumentWriter, PairWriter
from bertpipe.data.tokenization.tokenizer import Tokenizer, basic_english, parse_tokenizer, word_level_tokenizer
from bertpipe.data.tokenization.user_tokenizer import given_tokenizer
from bertpipe.data.tokenization.vocabulary import WordCounts, rank_counts, rank_words
from bertpipe.data.tokenization.wordpiece import train_wordpiece, train_wordpiece_on_counts
from bertpipe.sources.engines.engine import Engine, Processes, told
from bertpipe.sources.engines.processes import ordered_map
from bertpipe.sources.text.checks import check_splits, check_tokenizer
from bertpipe.sources.text.chunks import Counts, Preparation, chunks
from bertpipe.sources.text.corpus import Corpus, Found, Kept
from bertpipe.sources.text.documents import Document, TextShard, read_documents, text_shards, text_size
from bertpipe.sources.text.shards import (
    SettledShard,
    Survey,
    count_shard,
    count_splits,
    decide,
    survey_shard,
    write_shard,
)

_BYTES_FOR_A_PROCESS = 1 << 23
"""Bytes of text for which it pays to start one more process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedText:
    """What was written, and of what."""

    tokenizer: Tokenizer
    found: Found
    counts: Mapping[str, Counts]
    """By split."""
    sha256: Mapping[str, str]
    """Of each file but the tokenizer's, or of all shards of a table."""


def prepare_one(
    prepare: PrepareParams,
    masking: MaskingParams,
    runtime: RuntimeParams,
    text: Path,
    out: Path,
    staging: Path,
    on_progress: Callable[[Progress], None],
) -> PreparedText:
    """Write a text's rows and documents to `staging`, one file each, on the processes of this machine.

    Raises:
        MissingInputError, DataError: see `run_prepare`.
    """
    reader = _Reader(text, prepare, on_progress)
    corpus = Corpus(read=reader, test_share=prepare.test_share, seed=prepare.seed)
    reader.begin("making the vocabulary", told=SPLITS[:1])
    tokenizer = _tokenizer(prepare, corpus, text)
    check_tokenizer(tokenizer, prepare, out)
    reader.begin("preparing", told=SPLITS)
    found, counts = _write_rows(prepare, masking, corpus, tokenizer, staging, _processes(runtime, reader.size))
    sha256 = {path.name: file_sha256(path) for path in staging.iterdir()}
    return PreparedText(tokenizer=tokenizer, found=found, counts=counts, sha256=sha256)


def prepare_shards(
    prepare: PrepareParams,
    masking: MaskingParams,
    runtime: RuntimeParams,
    text: Path,
    out: Path,
    staging: Path,
    engine: Engine | None,
    on_progress: Callable[[Progress], None],
) -> PreparedText:
    """Write the rows and documents of each file of a folder to `staging` as a shard.

    Raises:
        MissingInputError, DataError: see `run_prepare`.
    """
    shards = text_shards(text, text_format=prepare.text_format, field=prepare.field)
    sizes = [shard.size for shard in shards]
    engine = engine or Processes(count=_processes(runtime, sum(sizes)))
    with engine.session():
        surveys = engine.map(partial(survey_shard, prepare.seed), shards)
        settled, found = _settled(prepare, shards, told(surveys, sizes, "looking for duplicates", on_progress), text)
        if prepare.tokenizer in {"words", "wordpiece"}:
            counted = engine.map(partial(count_shard, prepare), settled)
            tokenizer = _tokenizer_of_counts(prepare, told(counted, sizes, "making the vocabulary", on_progress))
        else:
            tokenizer = _given_tokenizer(prepare)
        check_tokenizer(tokenizer, prepare, out)
        written = engine.map(partial(write_shard, prepare, masking, tokenizer.backend.to_str(), staging), settled)
        counts = {split: Counts() for split in SPLITS}
        digests: dict[str, list[str]] = {table: [] for table in TABLES}
        for shard in told(written, sizes, "preparing", on_progress):
            for split in SPLITS:
                counts[split].merge(shard.counts[split])
            for table in TABLES:
                digests[table].append(shard.sha256[table])
    sha256 = {table: shards_sha256(each) for table, each in digests.items()}
    return PreparedText(tokenizer=tokenizer, found=found, counts=counts, sha256=sha256)


def _settled(
    prepare: PrepareParams, shards: Sequence[TextShard], surveys: Iterable[Survey], text: Path
) -> tuple[list[SettledShard], Found]:
    """Return the shards with the fates of their documents, and what was found, after a check of both splits."""
    assert prepare.test_share != "source"
    fates, found = decide([*surveys], test_share=prepare.test_share)
    check_splits(count_splits(fates), prepare, text)
    settled = [
        SettledShard(number=number, text=shard, fates=fate)
        for number, (shard, fate) in enumerate(zip(shards, fates, strict=True))
    ]
    return settled, found


class _Reader:
    """Reads the corpus, or a split of its own, anew at each call, and reports how far that is."""

    def __init__(self, text: Path, prepare: PrepareParams, on_progress: Callable[[Progress], None]) -> None:
        self._text, self._prepare, self._on_progress = text, prepare, on_progress
        self.size = text_size(text)
        self._sizes: dict[str | None, int] = {None: self.size}
        self._label = ""
        self._told: Sequence[str] = SPLITS

    def begin(self, label: str, *, told: Sequence[str]) -> None:
        """Say what the next readings are for; of a split that is not in `told`, nothing is reported."""
        self._label, self._told = label, told

    def __call__(self, split: str | None) -> Iterator[Document]:
        if split not in self._sizes:
            self._sizes[split] = text_size(self._text, split=split)
        done = 0

        def count(read: int) -> None:
            nonlocal done
            done += read
            if split is None or split in self._told:
                self._on_progress(Progress(label=self._label, completed=done, total=self._sizes[split], unit="bytes"))

        return read_documents(
            self._text,
            text_format=self._prepare.text_format,
            field=self._prepare.field,
            split=split,
            on_bytes=count,
        )


def _processes(runtime: RuntimeParams, text_bytes: int) -> int:
    if runtime.processes != "auto":
        return runtime.processes
    return min(cores(), 1 + text_bytes // _BYTES_FOR_A_PROCESS)


def _tokenizer(prepare: PrepareParams, corpus: Corpus, text: Path) -> Tokenizer:
    """Return the tokenizer that the params name, made from the training documents alone where it is made here."""
    training_texts = _training_texts(prepare, corpus, text)
    if prepare.tokenizer == "words":
        return word_level_tokenizer(rank_words(basic_english(training_texts())))
    if prepare.tokenizer == "wordpiece":
        return train_wordpiece(
            training_texts,
            vocab_size=prepare.vocab_size,
            min_frequency=prepare.min_frequency,
            lowercase=prepare.lowercase,
            strip_accents=prepare.strip_accents,
        )
    return _given_tokenizer(prepare)


def _tokenizer_of_counts(prepare: PrepareParams, parts: Iterable[WordCounts]) -> Tokenizer:
    """Return the same tokenizer, made from what was counted in each shard."""
    counts = WordCounts()
    for part in parts:
        counts.merge(part)
    if prepare.tokenizer == "words":
        return word_level_tokenizer(rank_counts(counts.words))
    return train_wordpiece_on_counts(
        counts.words,
        counts.characters,
        vocab_size=prepare.vocab_size,
        min_frequency=prepare.min_frequency,
        lowercase=prepare.lowercase,
        strip_accents=prepare.strip_accents,
    )


def _given_tokenizer(prepare: PrepareParams) -> Tokenizer:
    return given_tokenizer(Path(prepare.tokenizer), lowercase=prepare.lowercase, strip_accents=prepare.strip_accents)


def _training_texts(prepare: PrepareParams, corpus: Corpus, text: Path) -> Callable[[], Iterator[str]]:
    """Return what gives the training texts anew at each call; the first call checks that both splits have documents.

    Of a test split that is the corpus's own, no more than that needs is read: up to the first document that is kept.
    """
    checked = False

    def texts() -> Iterator[str]:
        nonlocal checked
        kept = dict.fromkeys(SPLITS, 0)
        for document in corpus.documents(Found(), train_only=checked):
            kept[document.split] += 1
            if document.split == "train":
                yield document.plain
            elif prepare.test_share == "source" and kept["train"]:
                break
        if not checked:
            check_splits(kept, prepare, text)
        checked = True

    return texts


def _write_rows(
    prepare: PrepareParams,
    masking: MaskingParams,
    corpus: Corpus,
    tokenizer: Tokenizer,
    staging: Path,
    processes: int,
) -> tuple[Found, dict[str, Counts]]:
    found = Found()
    counts = {split: Counts() for split in SPLITS}
    work = partial(_preparation, prepare, masking, tokenizer.backend.to_str())
    with ExitStack() as stack:
        files = {split: stack.enter_context(PairWriter(staging / f"{split}.parquet")) for split in SPLITS}
        documents = stack.enter_context(DocumentWriter(staging / DOCUMENTS_NAME))
        kept = _recorded(corpus.documents(found), documents)
        for prepared in ordered_map(work, chunks(kept), processes=processes):
            counts[prepared.split].merge(prepared.counts)
            for rows in prepared.parts:
                files[prepared.split].add(rows)
    return found, counts


def _preparation(prepare: PrepareParams, masking: MaskingParams, tokenizer: str) -> Preparation:
    return Preparation(prepare, masking, parse_tokenizer(tokenizer, prepare.tokenizer))


def _recorded(documents: Iterable[Kept], file: DocumentWriter) -> Iterator[Kept]:
    for document in documents:
        file.add(document.number, document.split, document.text.encode("utf-8"))
        yield document
