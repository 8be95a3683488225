"""What stages pass to each other: file names, schemas, JSON and CSV."""

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertpipe.core.atomic import atomic_file
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import LFS_POINTER
from bertpipe.core.manifest import Kind
from bertpipe.core.stores.objects import refuse_url, stored_object

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# The default path of every artifact, in dvc.yaml and on the command line.
PARAMS_FILE = Path("params.yaml")
ZIP_FILE = Path("data/raw/dataset.zip")
PARQUET_DIR = Path("data/parquet")
MODEL_DIR = Path("models/bert")
EXPORT_DIR = Path("models/huggingface")
HISTORY_FILE = Path("reports/history.csv")
EPOCHS_FILE = Path("reports/epochs.csv")
TIMING_FILE = Path("reports/timing.csv")
ANSWERS_FILE = Path("reports/answers.json")
METRICS_FILE = Path("reports/metrics.json")
MINIMAL_PAIRS_FILE = Path("reports/minimal_pairs.json")
EXAMPLES_FILE = Path("reports/examples.json")
PROBE_FILE = Path("reports/probe.json")
PLOTS_DIR = Path("reports/plots")
REPORT_FILE = Path("reports/report.html")
COMPARISON_FILE = Path("reports/comparison.html")
REJECTS_REPORT = Path("reports/rejects.parquet")
WORK_DIR = Path(".bertpipe")
"""What interrupted commands resume from; never an output of a stage."""
STATE_DIR = WORK_DIR / "state"
"""One directory per interrupted training."""
DOWNLOADS_DIR = WORK_DIR / "downloads"
"""One directory per interrupted download."""
DOWNLOAD_FACTS, DOWNLOAD_PART = "facts.json", "part"
"""The files of a download: the version of the remote file, and its first bytes."""

# Names inside a Parquet directory and inside a model directory.
SPLITS = ("train", "test")
VALIDATION = "validation"
"""A third split, of data sets with one."""
DOCUMENTS = "documents"
"""The table of the texts."""
TABLES = (*SPLITS, DOCUMENTS)
"""Each a Parquet file, or a directory of shards; with VALIDATION where there is that split."""
DOCUMENTS_NAME = "documents.parquet"
REJECTS_NAME = "rejects.parquet"
SUMMARY_NAME = "summary.json"
RECORDS_NAME = "records.json"
"""Rows, sizes and hashes of the files of each split."""
TOKENIZER_NAME = "tokenizer.json"
VOCABULARY_NAME = "vocabulary.parquet"
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
"""The model card of an exported model."""
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
VOCABULARY_TEXT_NAME = "vocab.txt"
EXPORT_FACTS_NAME = "bertpipe.json"
"""The facts of an exported model, for programs."""
NSP_FOLDER = "nsp"
"""Of an exported model whose NSP head is in a model of another class."""

# What bertpipe writes as directories.
DATA = Kind(
    name="data set",
    entries=(
        *TABLES, VALIDATION, *(f"{table}.parquet" for table in (*TABLES, VALIDATION)),
        REJECTS_NAME, TOKENIZER_NAME, VOCABULARY_NAME, SUMMARY_NAME, RECORDS_NAME,
    ),
)  # fmt: skip
MODEL = Kind(name="model", entries=(CONFIG_NAME, WEIGHTS_NAME, TOKENIZER_NAME))
EXPORT = Kind(
    name="exported model",
    entries=(*MODEL.entries, NSP_FOLDER, TOKENIZER_CONFIG_NAME, VOCABULARY_TEXT_NAME, CARD_NAME, EXPORT_FACTS_NAME),
)
PLOTS = Kind(
    name="plots",
    entries=[
        f"{plot}.{suffix}" for plot in ("loss", "accuracy", "learning_rate", "throughput") for suffix in ("png", "svg")
    ],
)

DATA_COMMANDS = "`bertpipe convert` or `bertpipe prepare`"
"""The commands that make a data set, for messages."""
MOST_DOCUMENTS = 2**31 - 1
"""Most documents of a data set."""
ROWS_PER_GROUP = 4096
"""Rows of one Parquet row group."""

HISTORY_COLUMNS = ("step", "epoch", "learning_rate", "mlm_loss", "nsp_loss", "loss", "gradient_norm")
"""One row per interval of `train.history_every` steps: mean losses in nats."""
EPOCHS_COLUMNS = ("epoch", "step", "mlm_loss", "mlm_top1_accuracy", "nsp_loss", "nsp_accuracy", "loss")
"""One row per epoch: the evaluation on the test split after it."""
TIMING_COLUMNS = ("step", "elapsed_s", "tokens", "tokens_per_second", "sequences_per_second", "share_of_peak")
"""One row per interval: seconds of training (without evaluation and saving), throughput, and the share of the
operations per second that the machine reaches on a large matrix product."""
NEW_TIMING_COLUMNS = ("share_of_peak",)
"""Columns that files of earlier versions lack."""


def pair_schema() -> "pa.Schema":
    """Return the schema of `train.parquet` and `test.parquet`: one row per sentence pair.

    `token_ids` is `[CLS] A [SEP] B [SEP]` without padding; at a masked position it holds the true token if that is
    known, else the stored input. `masked_*` are the stored masks, one entry per position: the token that the model
    reads there, and the label that it should predict (0: not supervised).
    """
    return _schema(
        "row int64, length int32, token_ids ids, second_segment_start int32, is_next bool, document int32, "
        "masked_positions ids, masked_inputs ids, masked_labels ids"
    )


def document_schema() -> "pa.Schema":
    """Return the schema of `documents.parquet`: each original text once."""
    return _schema("document int32, split string, text string")


def reject_schema() -> "pa.Schema":
    """Return the schema of `rejects.parquet`: one row per bad CSV row, with its place and the reason."""
    return _schema("file string, row int64, line int64, column string, reason string, value string")


def vocabulary_schema() -> "pa.Schema":
    """Return the schema of `vocabulary.parquet`: the words recovered for ids that came without them.

    `evidence` is `read` (rows show the id where their text has the word, `votes` times), `rank` (the word's place among
    all others), `special` or `unknown`; `confidence` is the share of such words that is expected to be right.
    """
    return _schema("id int32, word string?, evidence string, votes int64, confidence float64")


@cache
def _schema(columns: str) -> "pa.Schema":
    """Return a schema of names and types; `ids` is a list of int32, and `?` allows nulls."""
    import pyarrow as pa  # noqa: PLC0415

    lists = {"ids": pa.list_(pa.int32())}
    pairs = [column.split() for column in columns.split(", ")]
    return pa.schema(
        pa.field(name, lists.get(kind) or pa.type_for_alias(kind.rstrip("?")), nullable=kind.endswith("?"))
        for name, kind in pairs
    )


def require(path: Path, *, made_by: str | None = None) -> Path:
    """Return `path`, which must exist.

    Raises:
        InputError: it is a URL.
        MissingInputError: it does not; the message names the command that makes it, by default one that makes data.
    """
    refuse_url(path)
    commands = DATA_COMMANDS if made_by is None else f"`{made_by}`"
    if not path.exists():
        raise MissingInputError(f"{path} does not exist: run {commands} first, or name another path")
    return path


def split_path(data: Path, name: str) -> Path:
    """Return the path of a table of a data set: the directory of its shards if there is one, else its file.

    Args:
        data: the directory of the data set.
        name: `train`, `test` or `documents`.

    Raises:
        DataError: it has both.
    """
    file, shards = data / f"{name}.parquet", data / name
    if shards.is_dir() and file.exists():
        raise DataError(f"{data} has both {name}.parquet and shards in {name}/: remove one of them")
    return shards if shards.is_dir() else file


def check_number(documents: int) -> None:
    """Raise a DataError if there are more documents than the column `document` can number."""
    if documents > MOST_DOCUMENTS:
        raise DataError(
            f"{documents:,} documents are more than the {MOST_DOCUMENTS:,} of a data set: make several data sets"
        )


def shard_name(number: int) -> str:
    """Return the file name of a shard, counted from 0."""
    return f"{number:05}.parquet"


def table_files(path: Path) -> list[Path]:
    """Return the files of a table in order: itself, or the shards of a directory.

    Raises:
        MissingInputError: there is nothing at `path`, a shard is missing, or the directory holds other files.
    """
    if not path.is_dir():
        return [require(path)]
    found = {entry.name for entry in path.iterdir()}
    expected = [shard_name(number) for number in range(max(1, len(found)))]
    missing = [name for name in expected if name not in found]
    if missing:
        strangers = ", ".join(sorted(found.difference(expected))[:3]) or "nothing"
        raise MissingInputError(
            f"{path / missing[0]} does not exist, and {path} holds {strangers}: shards are numbered without gaps, "
            f"without other files beside them; run {DATA_COMMANDS} again"
        )
    return [path / name for name in expected]


def json_text(content: object, *, encoding: str = "utf-8") -> str:
    """Return readable JSON for a stream; a number that is not finite becomes null, since JSON has no NaN."""
    return encodable_json(_finite(content), encoding=encoding, indent=2) + "\n"


def encodable_json(content: object, *, encoding: str, indent: int | None = None) -> str:
    """Return JSON; all but ASCII is escaped if an encoding lacks a character (UTF-8 lacks half a surrogate pair)."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent)
    return text


def write_json(path: Path, content: object) -> None:
    """Write `content` as `json_text`."""
    with atomic_file(path) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return the content of a JSON file.

    Raises:
        DataError: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte order mark
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def refuse_lfs_pointer(path: Path) -> None:
    """Refuse a file that a clone without Git LFS has in place of a large one.

    Raises:
        DataError: it is a pointer; the message says how to fetch the file.
    """
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise DataError(f"{path} is a pointer to a file that Git LFS keeps elsewhere: fetch it with `git lfs pull`")


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table with a header; floats have nine significant digits, so that equal runs give equal files."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row] for row in rows])


def read_table(path: Path, columns: Sequence[str], *, may_lack: Sequence[str] = ()) -> "pd.DataFrame":
    """Return the columns of a CSV file as floats; an empty cell is NaN, a gap in its line.

    A column of `may_lack` that the file does not have is NaN.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds something that is not a number.
    """
    import pandas as pd

    try:
        with path.open("rb") as file:  # of a name, pandas would unpack what the suffix says, with errors of any kind
            table = pd.read_csv(file)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path} cannot be read as CSV: {error}; train again") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas uses surplus first cells as an index
        raise DataError(f"{path} has rows with more cells than its header; train again")
    missing = [column for column in columns if column not in {*table.columns, *may_lack}]
    if missing:
        raise DataError(f"{path} lacks the column {missing[0]}: it should have {','.join(columns)}; train again")
    try:
        return table.reindex(columns=list(columns)).astype(float)
    except ValueError as error:
        raise DataError(f"{path} holds something that is not a number: {error}; train again") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; of one that stands for an object in a store, the manifest's."""
    stored = stored_object(path)
    if stored is not None and stored.sha256 is not None:
        return stored.sha256
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; for a directory of shards, what `sha256sum *.parquet | sha256sum` prints there."""
    if not path.is_dir():
        return file_sha256(path)
    return shards_sha256([file_sha256(shard) for shard in table_files(path)])


def shards_sha256(digests: Sequence[str]) -> str:
    """Return the SHA-256 of a directory of shards from those of the shards, as `table_sha256` does."""
    lines = (f"{digest}  {shard_name(number)}\n" for number, digest in enumerate(digests))
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _finite(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
