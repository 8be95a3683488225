"""`prepare`: anyone's text becomes the Parquet contract or the notebook's zip, on all cores, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bertpipe.artifacts import (
    DOCUMENTS_NAME,
    SPLITS,
    SUMMARY_NAME,
    TOKENIZER_NAME,
    Progress,
    file_sha256,
    ignore_progress,
    write_json,
)
from bertpipe.data.chunks import Counts, Preparation, chunks
from bertpipe.data.corpus import Corpus, Found, Kept
from bertpipe.data.given_tokenizer import given_tokenizer
from bertpipe.data.notebook_sentences import SENTENCE_ENDS
from bertpipe.data.notebook_zip import write_notebook_zip
from bertpipe.data.tables import DocumentWriter, PairWriter
from bertpipe.data.text import Document, read_documents, text_size
from bertpipe.data.tokenization import SPECIAL_TOKENS, Tokenizer, basic_english, word_level_tokenizer
from bertpipe.data.vocabulary import rank_words
from bertpipe.data.wordpiece import train_wordpiece
from bertpipe.data.workers import cores, ordered_map
from bertpipe.errors import DataError
from bertpipe.files import scratch_directory, whole_directory, whole_file
from bertpipe.params import MaskingParams, PrepareParams, RuntimeParams

_BYTES_FOR_A_PROCESS = 1 << 23
"""Bytes of text for which it pays to start one more process."""


def run_prepare(
    prepare: PrepareParams,
    masking: MaskingParams,
    runtime: RuntimeParams,
    *,
    text: Path,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Write the Parquet contract to `out`, or the notebook's zip if its name ends in `.zip`, and return the summary.

    The bytes depend on text, params and versions alone, not on the number of processes. Whatever stood at `out` stays
    until the new output is complete.

    Args:
        prepare: what is made of the text.
        masking: the rule of the static masks.
        runtime: how many processes work.
        text: a file, a folder or an archive.
        out: a directory or a zip.
        on_progress: told how many bytes of the text were read.

    Raises:
        MissingInputError: there is no text, or no tokenizer at the path in `prepare.tokenizer`.
        DataError: `out` lies in `text`; the text cannot be read; a split is left without documents or without pairs;
            or the tokenizer does not fit.
    """
    if out.resolve().is_relative_to(text.resolve()):
        raise DataError(f"{out} lies in {text}, where the next run would read it as text: name a place outside")
    reader = _Reader(text, prepare, on_progress)
    corpus = Corpus(read=reader, test_share=prepare.test_share, seed=prepare.seed)
    with _output(out) as staging:
        reader.begin("making the vocabulary", told=SPLITS[:1])
        tokenizer = _tokenizer(prepare, corpus, text)
        _check_tokenizer(tokenizer, prepare, out)
        tokenizer.save(staging / TOKENIZER_NAME)
        reader.begin("preparing", told=SPLITS)
        found, counts = _write_rows(prepare, masking, corpus, tokenizer, staging, _processes(runtime, reader.size))
        _check_splits({split: count.documents for split, count in counts.items()}, prepare, text)
        _check_pairs(counts, text)
        summary = _summary(text, prepare, found, counts, tokenizer, staging)
        write_json(staging / SUMMARY_NAME, summary)
    return summary


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


@contextmanager
def _output(out: Path) -> Iterator[Path]:
    """Yield the directory to write Parquet to, which becomes `out`, or the zip at `out`, when the block ends."""
    if out.suffix != ".zip":
        with whole_directory(out, mark=SUMMARY_NAME) as staging:
            yield staging
        return
    with whole_file(out) as zip_file, scratch_directory(out) as folder:
        yield folder
        write_notebook_zip(folder, zip_file)


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
            _check_splits(kept, prepare, text)
        checked = True

    return texts


def _check_tokenizer(tokenizer: Tokenizer, prepare: PrepareParams, out: Path) -> None:
    if out.suffix == ".zip" and tokenizer.special_ids != tuple(range(len(SPECIAL_TOKENS))):
        raise DataError(
            f"{prepare.tokenizer} has {' '.join(SPECIAL_TOKENS)} as {tokenizer.special_ids}, and the notebook's zip "
            f"needs 0 to {len(SPECIAL_TOKENS) - 1}: name a directory as the output, or make the vocabulary anew"
        )
    if prepare.pairs == "notebook" and all(tokenizer.backend.token_to_id(end) is None for end in SENTENCE_ENDS):
        raise DataError(
            f"the vocabulary has none of {' '.join(SENTENCE_ENDS)}, at which the notebook's recipe ends a sentence: "
            "set prepare.pairs to bert, or take another tokenizer"
        )


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
    from tokenizers import Tokenizer as Backend  # noqa: PLC0415

    return Preparation(prepare, masking, Tokenizer(Backend.from_str(tokenizer)))


def _recorded(documents: Iterable[Kept], file: DocumentWriter) -> Iterator[Kept]:
    for document in documents:
        file.add(document.number, document.split, document.text.encode("utf-8"))
        yield document


def _check_splits(documents: dict[str, int], prepare: PrepareParams, text: Path) -> None:
    total = sum(documents.values())
    if total == 0:
        raise DataError(f"{text} holds no document with any word in it")
    for split, count in documents.items():
        if count:
            continue
        if total == 1:
            mend = "give a folder of several files, or set prepare.text_format to what parts a file into documents"
        elif prepare.test_share == "source":
            mend = f"the corpus marks none as its {split} split: set prepare.test_share to a share such as 0.1"
        else:
            mend = f"bring more text, or another prepare.test_share than {prepare.test_share} or prepare.seed"
        raise DataError(f"{text} holds {total} document(s) and none of them is in the {split} split: {mend}")


def _check_pairs(counts: dict[str, Counts], text: Path) -> None:
    for split, count in counts.items():
        has_both = count.next_rows < count.rows or not count.pairs_left_out
        if not (count.rows and has_both):
            raise DataError(
                f"of the {count.documents} document(s) of {text} in the {split} split "
                f"{count.documents - count.documents_without_pairs} have pairs of sentences, and B of a pair that is "
                "not next has to come from another one: bring more text, or documents of several sentences"
            )


def _summary(
    text: Path,
    prepare: PrepareParams,
    found: Found,
    counts: dict[str, Counts],
    tokenizer: Tokenizer,
    staging: Path,
) -> dict[str, Any]:
    hashed = sorted(path.name for path in staging.iterdir())
    return {
        "source": {"text": text.name, "pairs": prepare.pairs, "tokenizer": prepare.tokenizer},
        "max_length": prepare.max_length,
        "documents": sum(count.documents for count in counts.values()),
        "found": asdict(found),
        "vocabulary": {"size": tokenizer.vocab_size, "known": tokenizer.vocab_size},
        "masked_tokens_known": True,
        "splits": {split: _with_shares(count) for split, count in counts.items()},
        "sha256": {name: file_sha256(staging / name) for name in hashed},
    }


def _with_shares(count: Counts) -> dict[str, float]:
    return {
        **count.to_dict(),
        "unknown_share": count.unknown_tokens / count.tokens,
        "next_share": count.next_rows / count.rows,
    }
