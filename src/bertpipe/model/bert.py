"""All of BERT: embeddings, encoder, and the heads for masked-language modelling and next-sentence prediction.

Shapes in this file: batch (rows), seq (tokens per row, with padding), hidden (`embedding_dim`), heads, head_size
(hidden / heads), masked (supervised tokens of the batch), vocab.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from bertpipe.core.params import ModelParams
from bertpipe.model.architecture import ARCHITECTURES
from bertpipe.model.encoder import ACTIVATIONS, EncoderLayer, QueryPositions, attention_mask
from bertpipe.model.initialisation import initialise, no_init
from bertpipe.model.vocabulary_loss import vocabulary_loss

Head = Literal["mlm", "nsp"]
"""A task that the network is trained on, and the part that answers it."""


class Bert(nn.Module):
    """BERT with both heads, in one of the documented `ARCHITECTURES`.

    `bert` is the published network (Devlin et al. 2018): learned positions, LayerNorm and dropout on the summed
    embeddings, a post-norm encoder with GELU, a tanh pooler before the NSP head, a transform before the decoder.

    `preln` is the same with pre-norm layers: each normalises its input, and there is a norm after the last one. It is
    the stock `MegatronBertForPreTraining` of transformers.

    `modern` is ModernBERT's (Warner et al. 2024) with full attention: pre-norm, rotary positions, GeGLU, no biases, and
    no segment embeddings.

    `notebook` is the course notebook's network, corrected: token embedding times the square root of its width,
    sinusoidal positions, three segments (padding, A, B), a post-norm encoder with ReLU, one plain linear layer for
    each head, and dropout on the sum once.

    The NSP head has two classes; class 1 means that B really follows A.

    With `init_weights` false the weights are not initialised and no random number is drawn: load all of them before
    use.
    """

    def __init__(self, params: ModelParams, vocab_size: int, *, init_weights: bool = True) -> None:
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size
        architecture = ARCHITECTURES[params.architecture]
        hidden = params.embedding_dim
        with nullcontext() if init_weights else no_init():
            self.embeddings = architecture.embeddings(params, vocab_size)
            self.layers = nn.ModuleList(EncoderLayer(params, first=number == 0) for number in range(params.layers))
            self.norm = (
                nn.LayerNorm(hidden, eps=params.epsilon, bias=architecture.bias)
                if architecture.pre_norm
                else nn.Identity()
            )
            self.pooler = nn.Linear(hidden, hidden) if architecture.pooler else None
            self.nsp_transform = Transform(params) if architecture.nsp_transform else None
            self.nsp_head = nn.Linear(hidden, 2)
            self.mlm_transform = Transform(params) if architecture.mlm_transform else None
            self.mlm_decoder = nn.Linear(hidden, vocab_size)
        if architecture.bert_init and init_weights:
            initialise(self)
        if params.tied:
            self.mlm_decoder.weight = self.embeddings.token.weight

    def forward(
        self,
        token_ids: Tensor,
        lengths: Tensor,
        second_segment_start: Tensor,
        queries: QueryPositions | None = None,
        *,
        padded: bool | None = None,
        on_layer: "Callable[[EncoderLayer, Tensor, Tensor | None], None] | None" = None,
    ) -> Tensor:
        """Return the encoder's output.

        Args:
            token_ids: ids, shape [batch, seq].
            lengths: tokens of each row without padding, shape [batch].
            second_segment_start: position of the first token of B in each row, shape [batch].
            queries: the positions whose output is needed; the last layer is computed there only.
            padded: whether a row has padding, so that attention needs a mask; None if the caller does not know.
            on_layer: called with each layer, its input [batch, seq, hidden] and the attention mask, before it runs.

        Returns:
            Hidden states, shape [batch, seq, hidden], meaningless at padding; or [needed, hidden] of the queries.
        """
        hidden: Tensor = self.embeddings(token_ids, lengths, second_segment_start)
        mask = None if padded is False else attention_mask(lengths, token_ids.shape[1], padded=padded)
        *lower, last = self.encoder_layers()
        for layer in lower:
            if on_layer is not None:
                on_layer(layer, hidden, mask)
            hidden = layer(hidden, mask)
        if on_layer is not None:
            on_layer(last, hidden, mask)
        output: Tensor = self.norm(last(hidden, mask, queries))
        return output

    def encoder_layers(self) -> "Iterator[EncoderLayer]":
        """Yield the encoder's layers, first to last."""
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            yield layer

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Return vocabulary logits [..., vocab] for hidden states [..., hidden]; pass just the positions needed."""
        logits: Tensor = self.mlm_decoder(self._decoder_input(hidden))
        return logits

    def mlm_loss(self, hidden: Tensor, labels: Tensor, *, scale: Tensor, some_ignored: bool = False) -> Tensor:
        """Return `scale` times the summed MLM loss of hidden states [masked, hidden] against labels [masked], in nats.

        Equal to the cross-entropy of `mlm_logits`, and faster: see `bertpipe.model.vocabulary_loss`.
        """
        decoder = self.mlm_decoder
        inputs = self._decoder_input(hidden)
        return vocabulary_loss(inputs, decoder.weight, decoder.bias, labels, scale, some_ignored=some_ignored)

    def _decoder_input(self, hidden: Tensor) -> Tensor:
        return hidden if self.mlm_transform is None else self.mlm_transform(hidden)

    def init_mlm_bias(self, counts: Tensor) -> None:
        """Set the MLM decoder's bias to the log frequencies of counts [vocab], each plus one.

        Untrained logits near zero then predict each token by its frequency, the best constant, and training does not
        have to learn the frequencies of the whole vocabulary first.
        """
        counts = counts.double() + 1
        with torch.no_grad():
            self.mlm_decoder.bias.copy_((counts / counts.sum()).log())

    def nsp_logits(self, hidden: Tensor) -> Tensor:
        """Return NSP logits [batch, 2] (not next, next) from all hidden states [batch, seq, hidden]."""
        first = hidden[:, 0]
        if self.pooler is not None:
            first = torch.tanh(self.pooler(first))
        if self.nsp_transform is not None:
            first = self.nsp_transform(first)
        logits: Tensor = self.nsp_head(first)
        return logits


class Transform(nn.Module):
    """A head's dense layer, activation and LayerNorm, before its last matrix."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        hidden = params.embedding_dim
        bias = ARCHITECTURES[params.architecture].bias
        self.activation = ACTIVATIONS[params.activation_name]
        self.dense = nn.Linear(hidden, hidden, bias=bias)
        self.norm = nn.LayerNorm(hidden, eps=params.epsilon, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return transformed states of the same shape [..., hidden]."""
        transformed: Tensor = self.norm(self.activation(self.dense(hidden)))
        return transformed


def mean_pool(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean [batch, hidden] of hidden states [batch, seq, hidden] over each row's real tokens."""
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    return (states * real[:, :, None]).sum(dim=1) / lengths[:, None]
