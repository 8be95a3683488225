"""What differs between the values of `model.architecture`."""

from dataclasses import dataclass

from bertpipe.model.embeddings import (
    BertEmbeddings,
    Embeddings,
    ModernEmbeddings,
    NotebookEmbeddings,
    PreNormEmbeddings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What one architecture has that another has not."""

    embeddings: type[Embeddings]
    bert_init: bool = True
    """Whether the first weights are those of `initialise`, not PyTorch's own."""
    pre_norm: bool = False
    """Whether a layer normalises its inputs (and the encoder its output), not its sums."""
    rotary: bool = False
    """Whether queries and keys are rotated by their positions."""
    gated: bool = False
    """Whether the feed-forward block multiplies its activations by a second projection."""
    bias: bool = True
    """Whether matrices and norms have biases; the NSP head and the decoder always have."""
    pooler: bool = True
    """Whether the NSP head has a dense layer and a tanh before its last matrix."""
    nsp_transform: bool = False
    """Whether it has a dense layer, an activation and a norm there instead."""
    mlm_transform: bool = True
    """Whether the MLM head has a dense layer, an activation and a norm before the decoder."""
    feed_forward_dropout: bool = False
    """Whether there is dropout between the two feed-forward matrices."""


ARCHITECTURES = {
    "bert": Architecture(embeddings=BertEmbeddings),
    "preln": Architecture(embeddings=PreNormEmbeddings, pre_norm=True),
    "modern": Architecture(
        embeddings=ModernEmbeddings,
        pre_norm=True,
        rotary=True,
        gated=True,
        bias=False,
        pooler=False,
        nsp_transform=True,
    ),
    # PyTorch's encoder layer, which the notebook uses, has dropout between the feed-forward matrices.
    "notebook": Architecture(
        embeddings=NotebookEmbeddings, bert_init=False, pooler=False, mlm_transform=False, feed_forward_dropout=True
    ),
}
"""Each value of `model.architecture`."""
