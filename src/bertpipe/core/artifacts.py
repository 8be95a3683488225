"""The form of everything that crosses from one stage to the next: names, schemas, JSON and CSV."""

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
from bertpipe.core.manifest import Kind

if TYPE_CHECKING:
    import pyarrow as pa

# The default place of every artifact: dvc.yaml and the command line agree on these.
PARAMS_FILE = Path("params.yaml")
ZIP_FILE = Path("data/raw/dataset.zip")
PARQUET_DIR = Path("data/parquet")
MODEL_DIR = Path("models/bert")
EXPORT_DIR = Path("models/huggingface")
HISTORY_FILE = Path("reports/history.csv")
EPOCHS_FILE = Path("reports/epochs.csv")
TIMING_FILE = Path("reports/timing.csv")
METRICS_FILE = Path("reports/metrics.json")
EXAMPLES_FILE = Path("reports/examples.json")
PROBE_FILE = Path("reports/probe.json")
PLOTS_DIR = Path("reports/plots")
REJECTS_REPORT = Path("reports/rejects.parquet")
WORK_DIR = Path(".bertpipe")
"""What interrupted commands go on from; never an output of a stage."""
STATE_DIR = WORK_DIR / "state"
"""Of trainings, a directory a run."""
DOWNLOADS_DIR = WORK_DIR / "downloads"
"""Of interrupted downloads, one directory per URL."""
DOWNLOAD_FACTS, DOWNLOAD_PART = "facts.json", "part"
"""Files of such a directory: the version of the file, and its first bytes."""

# Names inside a Parquet directory and inside a model directory.
SPLITS = ("train", "test")
TABLES = (*SPLITS, "documents")
"""Each a Parquet file, or a directory of shards."""
DOCUMENTS_NAME = "documents.parquet"
REJECTS_NAME = "rejects.parquet"
SUMMARY_NAME = "summary.json"
TOKENIZER_NAME = "tokenizer.json"
VOCABULARY_NAME = "vocabulary.parquet"
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
"""The model card of an exported model."""
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
EXPORT_FACTS_NAME = "bertpipe.json"
"""What an export knows of its model, for machines."""

# What bertpipe writes as directories.
DATA = Kind(
    name="data set",
    entries=(
        *TABLES, *(f"{table}.parquet" for table in TABLES), REJECTS_NAME, TOKENIZER_NAME, VOCABULARY_NAME, SUMMARY_NAME,
    ),
)  # fmt: skip
MODEL = Kind(name="model", entries=(CONFIG_NAME, WEIGHTS_NAME, TOKENIZER_NAME))
EXPORT = Kind(name="exported model", entries=(*MODEL.entries, TOKENIZER_CONFIG_NAME, CARD_NAME, EXPORT_FACTS_NAME))
PLOTS = Kind(
    name="plots",
    entries=[
        f"{plot}.{suffix}" for plot in ("loss", "accuracy", "learning_rate", "throughput") for suffix in ("png", "svg")
    ],
)

DATA_COMMANDS = "`bertpipe convert` or `bertpipe prepare`"
"""What makes a data set, as messages say it where it may have come from either."""
MOST_DOCUMENTS = 2**31 - 1
"""Documents of a data set."""
ROWS_PER_GROUP = 4096
"""Rows of one Parquet row group."""

HISTORY_COLUMNS = ("step", "epoch", "learning_rate", "mlm_loss", "nsp_loss", "loss", "gradient_norm")
"""One row an interval of `train.history_every` steps: losses in nats, sums over the interval by its counts."""
EPOCHS_COLUMNS = ("epoch", "step", "mlm_loss", "mlm_top1_accuracy", "nsp_loss", "nsp_accuracy", "loss")
"""One row an epoch: the evaluation on the test split after it."""
TIMING_COLUMNS = ("step", "elapsed_s", "tokens", "tokens_per_second", "sequences_per_second")
"""One row an interval: seconds of training (evaluation and saving left out) and throughput within the interval."""


@cache
def pair_schema() -> "pa.Schema":
    """Return the schema of `train.parquet` and `test.parquet`: one row a sentence pair.

    `token_ids` is `[CLS] A [SEP] B [SEP]` without padding; at a masked position it holds the true token where that
    is known and the stored input otherwise. `masked_*` are the stored masks, position by position: the token the
    model reads there, and the label it should predict (0: not supervised).
    """
    import pyarrow as pa  # noqa: PLC0415

    ids = pa.list_(pa.int32())
    return pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("length", pa.int32(), nullable=False),
            pa.field("token_ids", ids, nullable=False),
            pa.field("second_segment_start", pa.int32(), nullable=False),
            pa.field("is_next", pa.bool_(), nullable=False),
            pa.field("document", pa.int32(), nullable=False),
            pa.field("masked_positions", ids, nullable=False),
            pa.field("masked_inputs", ids, nullable=False),
            pa.field("masked_labels", ids, nullable=False),
        ]
    )


@cache
def document_schema() -> "pa.Schema":
    """Return the schema of `documents.parquet`: each original text once."""
    import pyarrow as pa  # noqa: PLC0415

    return pa.schema(
        [
            pa.field("document", pa.int32(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
        ]
    )


@cache
def reject_schema() -> "pa.Schema":
    """Return the schema of `rejects.parquet`: one row a bad CSV row, with where it stands and why it was left out."""
    import pyarrow as pa  # noqa: PLC0415

    return pa.schema(
        [
            pa.field("file", pa.string(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("line", pa.int64(), nullable=False),
            pa.field("column", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("value", pa.string(), nullable=False),
        ]
    )


@cache
def vocabulary_schema() -> "pa.Schema":
    """Return the schema of `vocabulary.parquet`: the words recovered for ids that came without them.

    `evidence` is `read` (rows show the id where their text has the word, `votes` times), `rank` (the word's place among
    all others), `special` or `unknown`; `confidence` is the share of such words that is expected to be right.
    """
    import pyarrow as pa  # noqa: PLC0415

    return pa.schema(
        [
            pa.field("id", pa.int32(), nullable=False),
            pa.field("word", pa.string()),
            pa.field("evidence", pa.string(), nullable=False),
            pa.field("votes", pa.int64(), nullable=False),
            pa.field("confidence", pa.float64(), nullable=False),
        ]
    )


def require(path: Path, *, made_by: str) -> Path:
    """Return `path`, which must exist.

    Raises:
        MissingInputError: it does not; the message names the command that makes it.
    """
    return _existing(path, f"`{made_by}`")


def require_data(path: Path) -> Path:
    """Return the path of something in a data set, which must exist.

    Raises:
        MissingInputError: it does not; the message names the commands that make data sets.
    """
    return _existing(path, DATA_COMMANDS)


def split_path(data: Path, name: str) -> Path:
    """Return where a table of a data set stands: the directory of its shards where there is one, else its file.

    Args:
        data: the directory of the data set.
        name: `train`, `test` or `documents`.

    Raises:
        DataError: it has both.
    """
    file, shards = data / f"{name}.parquet", data / name
    if shards.is_dir() and file.exists():
        raise DataError(f"{data} has both {name}.parquet and shards in {name}/: take one of them away")
    return shards if shards.is_dir() else file


def check_number(documents: int) -> None:
    """Refuse more documents than the column `document` can number.

    Raises:
        DataError: there are more.
    """
    if documents > MOST_DOCUMENTS:
        raise DataError(
            f"{documents:,} documents are too many, a data set numbers {MOST_DOCUMENTS:,}: make several of them"
        )


def shard_name(number: int) -> str:
    """Return the file name of a shard, counted from 0."""
    return f"{number:05}.parquet"


def table_files(path: Path) -> list[Path]:
    """Return the files of a table in their order: itself, or the shards of a directory.

    Raises:
        MissingInputError: there is nothing at `path`, or a shard is missing.
        DataError: the directory holds something else, too.
    """
    if not path.is_dir():
        return [require_data(path)]
    found = {entry.name for entry in path.iterdir()}
    expected = [shard_name(number) for number in range(max(1, len(found)))]
    missing = [name for name in expected if name not in found]
    if missing:
        strangers = ", ".join(sorted(found.difference(expected))[:3]) or "nothing"
        raise MissingInputError(
            f"{path / missing[0]} does not exist, and {path} holds {strangers}: shards are numbered without gaps, and "
            f"nothing else stands there; run {DATA_COMMANDS} again"
        )
    return [path / name for name in expected]


def json_text(content: object) -> str:
    """Return readable JSON; a number that is not finite becomes null, since JSON has no NaN."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table with a header; floats with nine significant digits, so that the file is equal on every run."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row] for row in rows])


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of the shards of a directory, that of the lines that `sha256sum` prints of them.

    The latter is also what `cd train && sha256sum *.parquet | sha256sum` gives.
    """
    if not path.is_dir():
        return file_sha256(path)
    return shards_sha256([file_sha256(shard) for shard in table_files(path)])


def shards_sha256(digests: Sequence[str]) -> str:
    """Return the SHA-256 of shards whose own are known, as `table_sha256` does."""
    lines = (f"{digest}  {shard_name(number)}\n" for number, digest in enumerate(digests))
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _existing(path: Path, commands: str) -> Path:
    if not path.exists():
        raise MissingInputError(f"{path} does not exist: run {commands} first, or name another path")
    return path


def _finite(content: object) -> object:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
