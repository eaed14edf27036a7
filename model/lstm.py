"""The LSTM encoder and decoder of the paper (section 3), and the configuration that they share.

All L samples are decoded in one call, as rows of one batch; averaging of hidden states happens before the one softmax.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from model.core import Reader
from model.cross_entropy import cross_entropy
from model.inputs import DecoderInputs, ReadingConfig, prefix
from model.precision import at_least_single
from model.randomness import dropout
from model.recurrence import lstm

InitialState = Literal["linear", "tanh_cell", "linear_both"]


class LstmConfig(ReadingConfig):
    """Fields of every LSTM system; the defaults are the paper's for PTB. Rates are probabilities of being zeroed."""

    # On the decoder's word embeddings, and on hidden states before the softmax layer.
    input_dropout: float = Field(0.5, ge=0, lt=1, json_schema_extra={"in_shape": "whether"})
    output_dropout: float = Field(0.5, ge=0, lt=1, json_schema_extra={"in_shape": "whether"})
    # Every parameter is drawn from U(−range, range); word embeddings from one of their own, where there is one.
    init_range: PositiveFloat = Field(0.1, json_schema_extra={"in_shape": False})
    embedding_init_range: PositiveFloat | None = Field(None, json_schema_extra={"in_shape": False})
    linear_bias: bool = False  # biases of the linear maps M1 … M4; the paper's equations have none


class LstmEncoder(nn.Module):
    """Reads `<s> w_1 … w_T </s>`; its last hidden state summarises the sentence (paper, Eq. 6).

    reads_cell: the last cell state too. summary_dim: numbers of a summary, m or 2 m.
    """

    def __init__(
        self,
        *,
        num_inputs: int,
        embedding_dim: int,
        hidden_dim: int,
        dropout_rate: float,
        start: int,
        reads_cell: bool = False,
    ):
        super().__init__()
        self.embedding = empty_embedding(num_inputs, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim)
        self.dropout_rate = dropout_rate
        self.start = start
        self.reads_cell = reads_cell
        self.summary_dim = 2 * hidden_dim if reads_cell else hidden_dim

    def forward(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """(B, summary_dim) for (B, T) tokens."""
        embedded = self.embedding(torch.cat([prefix(tokens, self.start), tokens], dim=1).t())
        if self.training:
            embedded = dropout(embedded, self.dropout_rate, generator)
        zeros = embedded.new_zeros(1, len(tokens), self.lstm.hidden_size)
        states, (_, cell) = self.lstm(embedded, (zeros, zeros))
        last: Tensor = states[-1]
        return torch.cat([last, cell[0]], dim=1) if self.reads_cell else last

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the word embedding and the LSTM of an LSTM language model, in place (Yang et al. 2017: "+ init").

        weights: its parameters by their names in `LstmLm`, whose decoder's `embedding` and `lstm` have the same shapes
        as ours for equal sizes; what else is there is left alone. Raises ValueError, with nothing copied, on weights
        that are missing or of another shape.
        """
        wanted = {f"decoder.{name}": parameter for name, parameter in self.named_parameters()}
        for name, parameter in wanted.items():
            if name not in weights:
                raise ValueError(
                    f"an encoder starts from the weights of an LSTM language model, and these have no {name}; "
                    "name a trial of lstm_lm"
                )
            if weights[name].shape != parameter.shape:
                raise ValueError(
                    f"an encoder starts from weights of its own shapes, and {name} is {_shape(weights[name])} in them "
                    f"and {_shape(parameter)} here; give both models the same corpus, embedding_dim and hidden_dim"
                )
        with torch.no_grad():
            for name, parameter in wanted.items():
                parameter.copy_(weights[name])


def _shape(tensor: Tensor) -> str:
    """Fit for a sentence: 10001 × 100."""
    return " × ".join(map(str, tensor.shape))


class LstmDecoder(nn.Module):
    """log p(x | z^(1..L)): an LSTM that reads [word; z] at each step and starts from z (paper, Eq. 7–9).

    Without latents (latent_dim 0) it is the LSTM language model. With `average`, L chains run side by side, each
    from its own z, and the mean of their hidden states goes through the one softmax (paper, Eq. 8). average_latents:
    the mean of the L latents themselves starts the one chain.
    """

    def __init__(
        self,
        *,
        num_inputs: int,
        num_outputs: int,
        embedding_dim: int,
        hidden_dim: int,
        latent_dim: int = 0,
        initial_state: InitialState = "linear",
        input_dropout: float,
        output_dropout: float,
        latent_dropout: bool = False,
        dropout_before_average: bool = False,
        average_latents: bool = False,
        shared_input_dropout: bool = False,
        linear_bias: bool = False,
    ):
        super().__init__()
        self.embedding = empty_embedding(num_inputs, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim + latent_dim, hidden_dim)
        self.to_logits = nn.Linear(hidden_dim, num_outputs, bias=linear_bias)
        states = {"linear": 1, "tanh_cell": 1, "linear_both": 2}[initial_state]
        self.to_state = nn.Linear(latent_dim, states * hidden_dim, bias=linear_bias) if latent_dim else None
        self.initial_state = initial_state
        self.input_dropout = input_dropout
        self.output_dropout = output_dropout
        self.latent_dropout = latent_dropout
        self.dropout_before_average = dropout_before_average
        self.average_latents = average_latents
        self.shared_input_dropout = shared_input_dropout

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        latents: Tensor,
        generator: torch.Generator,
        *,
        equal_weights: bool = False,
        twice: bool = False,
    ) -> Tensor:
        """(S, B) log p of (B, T) targets, nats per sentence, from (B or 1, T) input ids and (S, L, B, n) latents.

        equal_weights: as in `cross_entropy`. twice: whether its gradient can be differentiated again, which a promise
        of equal weights rules out.
        """
        latents = self.chains_of(latents)
        draws, chains, sentences, _ = latents.shape
        if self._reads_the_same(inputs):
            latents = latents[:, :, :1]
        words, rows = self._read(inputs, latents, generator)
        hidden = lstm(self.lstm, words, rows, *self._start(latents.flatten(0, 1)), twice=twice)
        hidden = hidden.view(len(words), draws, chains, *hidden.shape[2:])
        rate = self.output_dropout if self.training else 0.0
        if rate > 0.0:
            hidden = hidden.expand(-1, -1, -1, sentences, -1)
        if self.dropout_before_average:
            hidden = _average(dropout(hidden, rate, generator))
        else:
            hidden = dropout(_average(hidden), rate, generator)
        hidden = hidden.flatten(0, 2)
        expected = targets.t().unsqueeze(1).expand(-1, draws, -1).reshape(len(hidden), -1)
        nll = cross_entropy(hidden, self.to_logits, expected, equal_weights=equal_weights)
        return -nll.view(-1, draws, sentences).sum(dim=0)

    def chains_of(self, latents: Tensor) -> Tensor:
        """Of (·, L, …) latents those of each chain, in the precision that it computes in."""
        chains = latents.mean(dim=1, keepdim=True) if self.average_latents else latents
        return chains.to(self.to_logits.weight.dtype)

    def _reads_the_same(self, inputs: Tensor) -> bool:
        """Whether all sentences have the same hidden states, so that those of one do for all."""
        return self.to_state is None and len(inputs) == 1 and not (self.training and self.input_dropout > 0.0)

    def _read(self, inputs: Tensor, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(T, S·L or 1, B or 1, d) embedded words, and (S·L, B, n) latents beside them at every step.

        A latent that is dropped step by step stands among the words instead.
        """
        rows = latents.flatten(0, 1)
        chains, sentences, _ = rows.shape
        words = self.embedding(inputs.t()).unsqueeze(1)
        rate = self.input_dropout if self.training else 0.0
        if rate == 0.0:
            return words, rows
        words = dropout(words.expand(-1, 1 if self.shared_input_dropout else chains, sentences, -1), rate, generator)
        if not self.latent_dropout:
            return words, rows
        z = dropout(rows.expand(len(words), -1, -1, -1), rate, generator)
        return torch.cat([words.expand(-1, chains, -1, -1), z], dim=-1), rows[..., :0]

    def _start(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Two (S·L, B, m): hidden and cell state before the first word, from (S·L, B, n) latents."""
        zeros = latents.new_zeros(*latents.shape[:2], self.lstm.hidden_size)
        if self.to_state is None:
            return zeros, zeros
        state = self.to_state(latents)
        if self.initial_state == "linear_both":
            hidden, cell = state.chunk(2, dim=-1)
            return hidden, cell
        if self.initial_state == "tanh_cell":
            return torch.tanh(state), state
        return state, zeros


class LstmReader(Reader):
    """A decoder's hypotheses, with the states of L chains each; the chains read the same words."""

    def __init__(self, decoder: LstmDecoder, latents: Tensor, inputs: DecoderInputs):
        assert not decoder.training
        self._decoder = decoder
        self._inputs = inputs
        self._latents = decoder.chains_of(latents)
        self._hidden, self._cell = decoder._start(self._latents)  # (R, L, m)

    def read(self, words: Tensor) -> Tensor:
        decoder, shape = self._decoder, self._hidden.shape
        embedded = decoder.embedding(self._inputs.following(words)).unsqueeze(1).expand(-1, shape[1], -1)
        states = self._hidden.flatten(0, 1), self._cell.flatten(0, 1)
        read = torch.cat([embedded, self._latents], dim=-1).flatten(0, 1)
        hidden, cell = torch.lstm_cell(read, states, *decoder.lstm.all_weights[0])
        self._hidden, self._cell = hidden.view(shape), cell.view(shape)
        return at_least_single(decoder.to_logits(self._hidden.mean(dim=1))).log_softmax(dim=-1)

    def keep(self, rows: Tensor) -> None:
        self._latents, self._hidden, self._cell = self._latents[rows], self._hidden[rows], self._cell[rows]


def _average(hidden: Tensor) -> Tensor:
    """(T, S, B, m) mean over the chains of (T, S, L, B, m); of one chain itself, so that nothing is copied."""
    return hidden.mean(dim=2) if hidden.shape[2] > 1 else hidden.squeeze(2)


def initialise_uniform(
    module: nn.Module, init_range: float, embedding_range: float | None, generator: torch.Generator
) -> None:
    """Draw every parameter, LSTM biases included, from U(−init_range, init_range); word embeddings from their own."""
    tables = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    for parameter in module.parameters():
        bound = embedding_range if embedding_range is not None and id(parameter) in tables else init_range
        with torch.no_grad():
            parameter.uniform_(-bound, bound, generator=generator)


def operations(*modules: nn.Module) -> float:
    """Weights that each token is multiplied by: those of the LSTMs and linear maps, not of the tables looked up."""
    kinds = (nn.LSTM, nn.Linear)
    return float(
        sum(
            parameter.numel()
            for module in modules
            for child in module.modules()
            if isinstance(child, kinds)
            for parameter in child.parameters()
        )
    )


def empty_embedding(rows: int, size: int) -> nn.Embedding:
    """Without PyTorch's own draw, which `initialise` replaces: on the meta device it takes seconds of imports."""
    empty = torch.empty(rows, size)
    embedding: nn.Embedding = nn.Embedding.from_pretrained(empty, freeze=False)  # type: ignore[no-untyped-call]
    return embedding
