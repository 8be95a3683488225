"""The typed schema of `params.yaml`.

The schema has no defaults: every value lives in `params.yaml`, so `dvc params diff` sees all of them. Importing
this module loads neither pydantic nor a YAML reader; only `bertpipe.core.params_file` does, when it reads.
"""

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Interval

from bertpipe.core.artifacts import SPLITS, TABLES, VALIDATION
from bertpipe.core.errors import ParamsError, excerpt, excerpts

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

Count = Annotated[int, Ge(1)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
ShareBelowOne = Annotated[float, Interval(ge=0, lt=1)]
MaskingUnit = Literal["token", "word", "span"]
CompileMode = Literal["none", "default", "reduce-overhead"]
TextFormat = Literal["auto", "file", "blocks", "lines", "jsonl"]
Activation = Literal["gelu", "gelu_tanh", "relu"]
ArchitectureName = Literal["bert", "preln", "modern", "notebook"]
ProbeMode = Literal["frozen", "whole"]
Parallel = Literal["ddp", "fsdp"]
Tracking = Literal["none", "tensorboard", "mlflow", "wandb"]


_LONGEST_NAME = 200
"""Bytes of a corpus's NAME; file systems allow 255, and temporary names are longer."""


def _check_characters(what: str, value: str, more: str = "", *, read_by_shell: str = "'\\") -> None:
    """Raise a ValueError for a path that DVC does not find, or that ends the quotes around it in dvc.yaml."""
    found = next((c for c in value if c in read_by_shell + more or ord(c) < ord(" ") or c == "\x7f"), None)
    if found is not None:
        raise ValueError(f"{what} {excerpt(value)} has the character {found!r}, which may not be used there: rename it")
    if not value or value.startswith("~"):
        fault = "begins with ~, which DVC does not expand: write the whole path" if value else "is empty: write a path"
        raise ValueError(f"{what} {excerpt(value)} {fault}")


class _ByTask:
    """Makes the `task` of an example choose its class, so that an error names the faults of that class alone."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> "CoreSchema":  # noqa: ANN401
        """Choose by tag, not by trial (pydantic's protocol for `Annotated` markers)."""
        from pydantic_core import core_schema  # noqa: PLC0415

        choices = {"nsp": handler.generate_schema(NspExample), "mlm": handler.generate_schema(MlmExample)}
        return core_schema.tagged_union_schema(choices, discriminator="task")


class _Section:
    """No unknown key, no infinite number and no NaN."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadParams(_Section):
    """Where the zip of CSV files comes from."""

    source: str
    """`sample`, `imdb`, an http, https or file URL, or a path."""
    sha256: str | None
    """The expected SHA-256 of the zip in hexadecimal; null checks none."""
    timeout_s: Positive
    """Seconds without a byte from the web after which an attempt has failed."""
    retries: Annotated[int, Ge(0)]
    """Further attempts after a failed one; the count restarts with each MiB received."""
    max_minutes: Annotated[float, Interval(gt=0, le=100_000)]
    """Minutes that a download from the web may take; the next run resumes what was received by then."""
    max_bytes: Count
    """Bytes of the largest file accepted from the web."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleParams(_Section):
    """The embedded sample: generated reviews of invented films."""

    seed: Seed
    """Seed of the film world, the reviews, the pairs and the static masks."""
    films: Annotated[int, Ge(20)]
    """Number of invented films."""
    reviews: Annotated[int, Ge(20)]
    """Number of reviews, training and test together."""
    test_share: Annotated[float, Interval(gt=0, lt=1)]
    """Share of the reviews in the test split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingParams(_Section):
    """How tokens are chosen and corrupted for MLM (Devlin et al. 2018 and Joshi et al. 2020, section 3.1 of each).

    All keys but `mode` are for dynamic masks and for the static masks of the sample and of `prepare`.
    """

    mode: Literal["auto", "static", "dynamic"]
    """`static`: the masks stored in the data; `dynamic`: new ones each epoch; `auto`: dynamic where possible."""
    unit: MaskingUnit
    """What is chosen together: a `token`, all pieces of a `word`, or a `span` of consecutive words."""
    rate: Annotated[float, Interval(gt=0, lt=1)]
    """Share of the words that is chosen; of the tokens, where `unit` is `token`."""
    training_rate: Literal["same"] | Annotated[float, Interval(gt=0, lt=1)]
    """The same for the dynamic masks of a training alone; `same`: `rate`, which stored masks always have."""
    mask_share: Share
    """Share of the chosen tokens whose input becomes `[MASK]`; all tokens of a span are treated alike."""
    random_share: Share
    """Share of the chosen tokens whose input becomes a random word; the rest is unchanged."""
    span_p: Annotated[float, Interval(gt=0, le=1)]
    """Parameter p of the geometric distribution of words per span; before the cut at `span_max` its mean is 1 / p."""
    span_max: Annotated[int, Interval(ge=1, le=512)]
    """Words of the longest span."""

    def __post_init__(self) -> None:
        """Refuse shares that add up to more than one."""
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} add up to more than 1: lower one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertParams(_Section):
    """From the zip of CSV files to Parquet."""

    subset: Literal["sampled", "full"]
    """Which CSV members of the zip are read: the `_sampled` ones, or the whole set."""
    max_length: Annotated[int, Ge(8)]
    """Longest row, in tokens with `[CLS]` and `[SEP]`; longer rows lose tokens from the longer half."""
    max_reject_rate: Share
    """Share of bad rows above which the stage fails."""
    recover: Literal["nothing", "words", "labels"]
    """What to recover where the zip has no vocabulary. `words`: the words behind the ids and the true tokens under the
    masks, from the texts; `labels`: also, labels that are not the true token are replaced by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataParams(_Section):
    """Which data set is trained on, and the texts that data sets are made from."""

    dir: str
    """The directory of Parquet files that `train` and `evaluate` read: `data/parquet`, or `data/text/NAME`."""
    corpora: dict[str, str]
    """Path of each text by its NAME; the stage `prepare@NAME` writes `data/text/NAME`."""

    def __post_init__(self) -> None:
        """Refuse what DVC, the shell or a file system would read differently."""
        _check_characters("dir", self.dir)
        for name, path in self.corpora.items():
            _check_characters("the NAME", name, "@:")
            parts = name.split("/")
            if any(
                part.strip() != part or part in {"", ".", ".."} or len(os.fsencode(part)) > _LONGEST_NAME
                for part in parts
            ):
                raise ValueError(
                    f"the NAME {excerpt(name)} is not the name of a folder of data/text: no blank at an end, no part "
                    f"that is empty, . or .., and at most {_LONGEST_NAME} bytes"
                )
            within = next((other for other in self.corpora if other.startswith(f"{name}/")), None)
            if within is not None:
                raise ValueError(
                    f"the output of the NAME {excerpt(within)} would lie within that of {excerpt(name)}: rename one"
                )
            _check_characters(f"the path of {excerpt(name)}", path, read_by_shell="")

    def path_of(self, name: str) -> str:
        """Return the path of the text of a NAME.

        Raises:
            ParamsError: there is no such NAME.
        """
        if name not in self.corpora:
            known = excerpts(list(self.corpora)) or "none"
            raise ParamsError(f"data.corpora has no NAME {excerpt(name)} (it has: {known}): add it to the params")
        return self.corpora[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareParams(_Section):
    """From text to sentence pairs."""

    seed: Seed
    """Seed of the split, the pairs and the static masks."""
    text_format: TextFormat
    """What a document is: a `file`, a block between `blocks` of empty lines, one of the `lines`, a line of `jsonl`."""
    shards: Literal["one", "files"]
    """`one`: each split is one file; `files`: each file of a folder becomes a shard of each split."""
    field: str
    """The field of a JSON line that holds the text."""
    language: str
    """Code of the language (`en`, `es`, `zh`) whose rules split text into sentences."""
    sentences: Literal["auto", "lines", "rules"]
    """How sentences are found: by the `rules` of the language; `lines`: one per line, or between two tabs of a line;
    `auto`: by the rules, and where lines end and at tabs too, unless the document was wrapped."""
    test_share: Literal["source"] | Annotated[float, Interval(gt=0, lt=1)]
    """Share of the documents in the test split; `source` uses the splits of the corpus itself."""
    validation_share: ShareBelowOne
    """Share of the other documents in a validation split, which `train` then reports in place of the test split."""
    tokenizer: str
    """`wordpiece` and `words` are trained on the training documents; else a path to a tokenizer.json or vocab.txt,
    or to a directory that holds one, such as a model's. A given tokenizer keeps its own settings."""
    vocab_size: Annotated[int, Ge(100)]
    """Maximum size of a `wordpiece` vocabulary trained here, special tokens included."""
    min_frequency: Count
    """Minimum number of occurrences of a piece in that vocabulary."""
    lowercase: bool
    """Whether `wordpiece` lower-cases the text; a given tokenizer does as its own files say."""
    strip_accents: bool
    """Whether `wordpiece` removes accents from letters; a given tokenizer does as its own files say."""
    pairs: Literal["bert", "notebook"]
    """The recipe of the sentence pairs: `bert` packs sentences up to `max_length`, `notebook` is the notebook's."""
    max_length: Annotated[int, Ge(8)]
    """Longest row, in tokens with `[CLS]` and `[SEP]`; longer pairs lose tokens from the longer half."""
    short_share: Share
    """Share of the `bert` pairs that are packed up to a shorter length, drawn uniformly."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are written."""
        return (*SPLITS, VALIDATION) if self.validation_share else SPLITS

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are written."""
        return (*TABLES, VALIDATION) if self.validation_share else TABLES

    def __post_init__(self) -> None:
        """Refuse what is not a language code; the sentence splitter would treat it as English."""
        if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]+)*", self.language):
            raise ValueError(
                f"language {self.language!r} is not a language code: write en, es, fr, de, zh, ... "
                "(ISO 639, in small letters; en-gb, pt-br and such work too)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParams(_Section):
    """The shape of BERT."""

    architecture: ArchitectureName
    """`bert`: the published BERT; `preln`: the same with pre-norm layers, as Megatron's; `modern`: ModernBERT's, with
    rotary positions, GeGLU and no biases; `notebook`: the course notebook's network, corrected."""
    initialization: Literal["orthogonal", "mimetic"]
    """First weights of all architectures but `notebook`. `orthogonal`: values of attention are orthogonal matrices;
    `mimetic`: also, tokens attend to their neighbours from the first step on."""
    vocab_size: Literal["auto"] | Count
    """Rows of the token embedding; `auto` takes the size of the tokenizer."""
    embedding_dim: Count
    """Width of the embeddings and of every layer."""
    heads: Count
    """Attention heads per layer; must divide `embedding_dim`."""
    layers: Count
    """Encoder layers."""
    feed_forward_dim: Count
    """Inner width of a layer's feed-forward block."""
    max_positions: Annotated[int, Ge(8)]
    """Longest input in tokens."""
    rotary_base: Annotated[float, Ge(1)]
    """Of `modern`: the slowest rotation is about one radian in so many tokens."""
    dropout: ShareBelowOne
    """Dropout probability in embeddings, attention and layers."""
    tied: bool
    """Whether the MLM decoder shares its matrix with the token embedding."""
    activation: Literal["auto"] | Activation
    """Function inside the feed-forward block and the MLM transform; `auto`: `relu` for `notebook`, else `gelu`.
    `gelu_tanh` is the approximation that some checkpoints were trained with."""
    norm_epsilon: Literal["auto"] | Positive
    """Term against division by zero in LayerNorm; `auto`: 1e-12 for `bert` and `preln`, else 1e-5."""

    def __post_init__(self) -> None:
        """Refuse heads that do not divide the embedding dim, or that cannot be rotated."""
        if self.embedding_dim >= 1 and self.heads >= 1 and self.embedding_dim % self.heads:
            divisors = [n for n in range(1, self.embedding_dim + 1) if self.embedding_dim % n == 0]
            near = [n for n in divisors if n < self.heads][-1:] + [n for n in divisors if n > self.heads][:1]
            raise ValueError(
                f"embedding_dim {self.embedding_dim} is not a multiple of heads {self.heads}: "
                f"try {' or '.join(str(n) for n in near)} heads"
            )
        if self.architecture == "modern" and self.embedding_dim // self.heads % 2:
            raise ValueError(
                f"embedding_dim {self.embedding_dim} over heads {self.heads} is {self.embedding_dim // self.heads}, "
                f"and rotary positions need an even number: change one of them"
            )

    @property
    def activation_name(self) -> Activation:
        """The activation, `auto` resolved."""
        if self.activation == "auto":
            return "relu" if self.architecture == "notebook" else "gelu"
        return self.activation

    @property
    def epsilon(self) -> float:
        """LayerNorm's epsilon, `auto` resolved."""
        if self.norm_epsilon == "auto":
            return 1e-12 if self.architecture in {"bert", "preln"} else 1e-5
        return self.norm_epsilon


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainParams(_Section):
    """The training run."""

    seed: Seed
    """Seed of the initial weights, the row order, dynamic masks and dropout."""
    init: str | None
    """Model to start from: a bertpipe or Hugging Face directory, or a hub name; null: random weights."""
    epochs: Count
    """Passes over the training rows."""
    steps: Literal["all"] | Count
    """Optimizer steps after which the training ends, where the epochs have more; `all`: those of the epochs."""
    batch_size: Annotated[int, Interval(ge=1, le=65_536)]
    """Rows (sentence pairs) per optimizer step, over all processes."""
    micro_batch_size: Literal["all"] | Count
    """Rows per forward and backward pass, to save memory: a step sums their gradients; `all`: a single pass."""
    optimizer: Literal["adamw", "muon"]
    """`adamw`; `muon`: Muon (Jordan et al. 2024) for the matrices of the encoder, AdamW for all else."""
    learning_rate: Positive
    """Highest learning rate of the schedule."""
    muon_learning_rate: Positive
    """Highest learning rate of Muon: the size of a step's singular values."""
    muon_momentum: ShareBelowOne
    """Muon's decay rate of the gradient's mean."""
    warmup_share: ShareBelowOne
    """Share of all steps in which the learning rate rises linearly from zero."""
    decay_share: Share
    """Share of all steps, at the end, in which it falls to zero; in between it is constant."""
    decay: Literal["linear", "cosine"]
    """How it falls: along a line, or along half a cosine."""
    weight_decay: NotNegative
    """Decoupled weight decay; never on biases and LayerNorm."""
    adam_beta1: ShareBelowOne
    """AdamW's decay rate of the gradient's mean."""
    adam_beta2: ShareBelowOne
    """AdamW's decay rate of the squared gradient's mean."""
    adam_epsilon: Positive
    """AdamW's term against division by zero."""
    max_grad_norm: Positive
    """Global gradient norm to which larger gradients are scaled down."""
    nsp_weight: NotNegative
    """Weight of the NSP loss; the MLM loss has weight 1."""
    precision: Literal["float32", "bfloat16"]
    """Type of the matrix products: full float32, never TF32; `bfloat16` is mixed precision, for a GPU, with weights
    and sums in float32."""
    history_every: Count
    """Steps per row of `history.csv`."""

    def __post_init__(self) -> None:
        """Refuse a warm-up and a decay that overlap."""
        _refuse_overlap(self.warmup_share, self.decay_share)


def _refuse_overlap(warmup_share: float, decay_share: float) -> None:
    if warmup_share + decay_share > 1:
        raise ValueError(f"warmup_share {warmup_share} and decay_share {decay_share} add up to more than 1: lower one")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateParams(_Section):
    """The evaluation of a trained model."""

    batch_size: Count
    """Rows per forward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierParams(_Section):
    """The training of a classifier; AdamW's other settings are those of `train`."""

    epochs: Count
    """Passes over the training texts."""
    batch_size: Count
    """Texts per optimizer step; with `whole` the windows of long ones count one by one."""
    learning_rate: Positive
    """Highest learning rate of the schedule."""
    warmup_share: ShareBelowOne
    """Share of all steps in which the learning rate rises linearly from zero."""
    decay_share: Share
    """Share of all steps, at the end, in which it falls linearly to zero."""
    weight_decay: NotNegative
    """AdamW's decoupled weight decay; never on biases and LayerNorm."""

    def __post_init__(self) -> None:
        """Refuse a warm-up and a decay that overlap."""
        _refuse_overlap(self.warmup_share, self.decay_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeParams(_Section):
    """A classifier of labelled texts on top of a model."""

    seed: Seed
    """Seed of the test split, the order of rows and dropout."""
    mode: ProbeMode
    """`frozen`: only a linear classifier on the model's features is trained; `whole`: the model's weights too."""
    text_field: str
    """The column (CSV, Parquet) or field (JSON) of the text."""
    label_field: str
    """The column or field of the label."""
    test_share: Annotated[float, Interval(gt=0, lt=1)]
    """Share of the texts of each class that is held out if there is no test file."""
    train_texts: Literal["all"] | Count
    """Number of texts to train on; few show what a model is worth where labels are scarce."""
    windows: Literal["all"] | Count
    """Windows of `model.max_positions` tokens in which a long text is read, the first ones; `all`: to its end. The
    features of its windows, or their predictions, are averaged."""
    frozen: ClassifierParams
    """How the linear classifier is trained."""
    whole: ClassifierParams
    """How the model is trained with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NspExample(_Section):
    """One NSP question for `infer examples`."""

    task: Literal["nsp"]
    """Asks whether sentence B follows sentence A."""
    first: str
    """Sentence A."""
    second: str
    """Sentence B."""
    model: str | None = None
    """A model directory or hub name; null asks the trained model."""
    expect: bool | None = None
    """The expected answer: whether B follows A; null: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlmExample(_Section):
    """One MLM question for `infer examples`."""

    task: Literal["mlm"]
    """Asks for the words under `[MASK]`."""
    text: str
    """A text with `[MASK]` in it."""
    model: str | None = None
    """A model directory or hub name; null asks the trained model."""
    expect: str | None = None
    """A word expected among the first `top_k` for the first `[MASK]`; null: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferParams(_Section):
    """The inference examples."""

    top_k: Count
    """Candidates per `[MASK]`."""
    examples: tuple[Annotated[NspExample | MlmExample, _ByTask()], ...]
    """Questions that `infer examples` asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportParams(_Section):
    """Facts for the card of an exported model that no file holds."""

    title: str
    """Its heading."""
    license: str | None
    """The licence of the weights, as the Hugging Face hub names it (`apache-2.0`, `mit`); null: not given."""
    language: str | None
    """Language code of the text (`en`); null: not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeParams(_Section):
    """Settings of the machine, which are not part of a run's identity."""

    device: Literal["auto", "cpu", "cuda"]
    """Where the model runs; `auto` uses a GPU if there is one."""
    threads: Literal["auto"] | Count
    """CPU threads of PyTorch; results are bit-identical for the same number of threads."""
    processes: Literal["auto"] | Count
    """Processes, on this machine, of `prepare`, of `convert` on several zips, and of `train`. `auto`: one per core,
    or one for little text; for `train` one per GPU. Under `torchrun`, `train` uses the number given there."""
    parallel: Parallel
    """How several processes train: with `ddp` each holds the model, with `fsdp` a part of it."""
    max_restarts: Annotated[int, Ge(0)]
    """How often `train` restarts its processes after one of them failed; torchrun has an option of its own."""
    timeout_s: Positive
    """Seconds without an answer after which one of several processes counts as hanging."""
    compile: CompileMode
    """The mode of `torch.compile` for `train` on a GPU, or `none`; ignored on a CPU, where batches have too many
    shapes."""
    log_every: Count
    """Steps between two progress reports."""
    checkpoint_every_s: Literal["auto"] | NotNegative
    """Seconds of training between two checkpoints; `auto`: at least 30, and at most 1 % of the time spent on saving."""
    tracking: Tracking
    """Which program, besides `history.csv`, gets the figures of a training while it runs."""
    keep_checkpoints: Count
    """How many of the newest checkpoints of a run are kept; all are removed when the run is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params(_Section):
    """All of `params.yaml`: one section per stage, and the sections that stages share."""

    data: DataParams
    download: DownloadParams
    sample: SampleParams
    masking: MaskingParams
    convert: ConvertParams
    prepare: PrepareParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    probe: ProbeParams
    infer: InferParams
    export: ExportParams
    runtime: RuntimeParams


def cores() -> int:
    """Return how many cores this process may use: what `auto` means for threads and processes."""
    if hasattr(os, "sched_getaffinity"):  # Linux: respects taskset and containers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
