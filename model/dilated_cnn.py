"""The dilated convolutional decoder of Yang et al. (2017, section 3), and the configuration that its systems share.

Time comes first in every array: a tap of a convolution is then one matrix product over a range of steps, and nothing is
computed of the zeros before the first. S draws of a latent are decoded in one call, as rows of one batch.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from data.vocabulary import Vocabulary
from model.core import Reader
from model.cross_entropy import cross_entropy
from model.initialisation import initialise_as_torch
from model.inputs import DecoderInputs, ReadingConfig
from model.lstm import empty_embedding, initialise_uniform
from model.precision import at_least_single
from model.randomness import dropout

Size = Literal["S", "M", "L", "VL"]

DILATIONS: dict[Size, tuple[int, ...]] = {
    "S": (1, 2, 4),
    "M": (1, 2, 4, 8, 16),
    "L": (1, 2, 4, 8, 16) * 2,
    "VL": (1, 2, 4, 8, 16) * 3,
}
"""Of the layers: a prediction sees 15, 63, 125 or 187 of the symbols before it."""

KERNEL = 3


class CnnConfig(ReadingConfig):
    """Fields of both CNN systems. Yang et al. have for Yahoo: embedding_dim 512, hidden_dim 1024, internal_dim 512.

    hidden_dim: channels from layer to layer, their external ones; and the hidden state of an encoder.
    """

    internal_dim: PositiveInt | None = None  # channels within a layer; half of hidden_dim when absent
    size: Size = "L"  # that of the published rows
    layer_dropout: float = Field(0.1, ge=0, lt=1, json_schema_extra={"in_shape": "whether"})
    # Every parameter from U(−range, range); PyTorch's own way when absent.
    init_range: PositiveFloat | None = Field(None, json_schema_extra={"in_shape": False})

    def cnn_decoder(self, vocabulary: Vocabulary, latent_dim: int) -> "CnnDecoder":
        """The decoder for a vocabulary. Raises ValueError where it would read no words."""
        if self.inputs == "none":
            raise ValueError(
                "a convolution over words needs words to read, and with inputs: none all that it could tell is how far "
                "the start of the sentence is; exclude this combination"
            )
        return CnnDecoder(
            num_inputs=vocabulary.num_inputs,
            num_outputs=len(vocabulary),
            embedding_dim=self.embedding_dim,
            latent_dim=latent_dim,
            external_dim=self.hidden_dim,
            internal_dim=self.internal_dim or (self.hidden_dim + 1) // 2,
            dilations=DILATIONS[self.size],
            dropout_rate=self.layer_dropout,
        )


class CnnDecoder(nn.Module):
    """log p(x | z): convolutions over [word; z] at each step. Without latents (latent_dim 0), a language model."""

    def __init__(
        self,
        *,
        num_inputs: int,
        num_outputs: int,
        embedding_dim: int,
        latent_dim: int,
        external_dim: int,
        internal_dim: int,
        dilations: tuple[int, ...],
        dropout_rate: float,
    ):
        super().__init__()
        self.embedding = empty_embedding(num_inputs, embedding_dim)
        self.to_channels = nn.Linear(embedding_dim + latent_dim, external_dim)
        self.layers = nn.ModuleList(
            ResidualLayer(external_dim, internal_dim, dilation, dropout_rate) for dilation in dilations
        )
        self.to_logits = nn.Linear(external_dim, num_outputs)

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        latents: Tensor,
        generator: torch.Generator,
        *,
        equal_weights: bool = False,
    ) -> Tensor:
        """(S, B) log p of (B, T) targets, nats per sentence, from (B, T) input ids and (S, 1, B, n) latents.

        equal_weights: as in `cross_entropy`.
        """
        draws, _, sentences, _ = latents.shape
        channels = self._read(inputs, latents.squeeze(1)).flatten(1, 2)
        for layer in self.residual_layers():
            channels = layer(channels, generator)
        expected = targets.t().unsqueeze(1).expand(-1, draws, -1).reshape(-1, 1)
        nll = cross_entropy(channels.flatten(0, 1), self.to_logits, expected, equal_weights=equal_weights)
        return -nll.view(-1, draws, sentences).sum(dim=0)

    def residual_layers(self) -> Iterator["ResidualLayer"]:
        for layer in self.layers:
            assert isinstance(layer, ResidualLayer)
            yield layer

    def _read(self, inputs: Tensor, latents: Tensor) -> Tensor:
        """(T, S, B, C) projected [word; z]: the words' part computed once for all draws, the latents' for all steps."""
        words, bias = self.embedding(inputs.t()).unsqueeze(1), self.to_channels.bias
        of_words, of_latents = torch.split(self.to_channels.weight, [words.shape[-1], latents.shape[-1]], dim=1)
        projected = functional.linear(latents.to(words.dtype), of_latents, bias)
        return functional.linear(words, of_words) + projected


class ResidualLayer(nn.Module):
    """x + a bottleneck: 1×1 to fewer channels, a dilated causal convolution of those, 1×1 back; rectified throughout.

    Without batch normalisation, which takes its statistics over time and so lets the future in. Dropout is on the two
    rectified arrays within, as in the code of R. Kamoi (dcnn_textvae), and never on x, where it would add up.
    """

    def __init__(self, external_dim: int, internal_dim: int, dilation: int, dropout_rate: float):
        super().__init__()
        self.narrow = nn.Linear(external_dim, internal_dim)
        self.convolve = nn.Linear(KERNEL * internal_dim, internal_dim)  # of its inputs the oldest step first
        self.widen = nn.Linear(internal_dim, external_dim)
        self.dilation = dilation
        self.dropout_rate = dropout_rate

    def forward(self, channels: Tensor, generator: torch.Generator) -> Tensor:
        """(T, R, C) from (T, R, C) of R rows; `generator` feeds dropout in training mode."""
        rate = self.dropout_rate if self.training else 0.0
        narrow = dropout(torch.relu(self.narrow(channels)), rate, generator)
        convolved = dropout(torch.relu(self._convolved(narrow)), rate, generator)
        return torch.relu(channels + self.widen(convolved))

    def _convolved(self, narrow: Tensor) -> Tensor:
        """(T, R, c) from (T, R, c), as if there were zeros before the first step."""
        *earlier, latest = self.convolve.weight.chunk(KERNEL, dim=1)
        total = functional.linear(narrow, latest, self.convolve.bias)
        for age, tap in enumerate(reversed(earlier), start=1):
            delay = age * self.dilation
            if delay < len(narrow):
                total[delay:].add_(functional.linear(narrow[:-delay], tap))
        return total

    def step(self, channels: Tensor, ring: Tensor, time: int) -> Tensor:
        """(R, C) from (R, C) of the step `time` alone, as in evaluation.

        ring: what the convolution reads of the steps before, from `empty_ring`; this one takes the oldest one's place.
        """
        narrow = torch.relu(self.narrow(channels))
        past = [ring[(time - age * self.dilation) % len(ring)] for age in range(KERNEL - 1, 0, -1)]
        convolved = torch.relu(self.convolve(torch.cat([*past, narrow], dim=-1)))
        ring[time % len(ring)] = narrow
        return torch.relu(channels + self.widen(convolved))

    def empty_ring(self, rows: int) -> Tensor:
        """((KERNEL − 1) · dilation, R, c) zeros: the steps before the first; step t stands at t modulo the length."""
        return self.convolve.weight.new_zeros((KERNEL - 1) * self.dilation, rows, self.convolve.out_features)


class CnnReader(Reader):
    """A decoder's hypotheses, with as much of their past as each layer's convolution covers."""

    def __init__(self, decoder: CnnDecoder, latents: Tensor, inputs: DecoderInputs):
        assert not decoder.training
        self._decoder = decoder
        self._inputs = inputs
        self._latents = latents.squeeze(1).to(decoder.to_logits.weight.dtype)
        self._rings = [layer.empty_ring(len(latents)) for layer in decoder.residual_layers()]
        self._time = 0

    def read(self, words: Tensor) -> Tensor:
        decoder = self._decoder
        embedded = decoder.embedding(self._inputs.following(words))
        channels = decoder.to_channels(torch.cat([embedded, self._latents], dim=-1))
        for layer, ring in zip(decoder.residual_layers(), self._rings, strict=True):
            channels = layer.step(channels, ring, self._time)
        self._time += 1
        return at_least_single(decoder.to_logits(channels)).log_softmax(dim=-1)

    def keep(self, rows: Tensor) -> None:
        self._latents = self._latents[rows]
        self._rings = [ring[:, rows] for ring in self._rings]


def initialise_cnn(model: nn.Module, init_range: float | None, generator: torch.Generator) -> None:
    """Draw every parameter as `CnnConfig.init_range` says."""
    if init_range is None:
        initialise_as_torch(model, generator)
    else:
        initialise_uniform(model, init_range, None, generator)
