"""LSTM language model: no latent, −log p(x) exact. The baseline of every table."""

import torch
from torch import Tensor

from data.vocabulary import Vocabulary
from model.core import Bound, Reader, TextModel
from model.inputs import DecoderInputs
from model.lstm import LstmConfig, LstmDecoder, LstmReader, initialise_uniform, operations


class Config(LstmConfig):
    def build(self, vocabulary: Vocabulary) -> "LstmLm":
        return LstmLm(
            LstmDecoder(
                num_inputs=vocabulary.num_inputs,
                num_outputs=len(vocabulary),
                embedding_dim=self.embedding_dim,
                hidden_dim=self.hidden_dim,
                input_dropout=self.input_dropout,
                output_dropout=self.output_dropout,
                linear_bias=self.linear_bias,
            ),
            inputs=self.decoder_inputs(vocabulary),
            init_range=self.init_range,
            embedding_init_range=self.embedding_init_range,
        )


class LstmLm(TextModel):
    def __init__(
        self, decoder: LstmDecoder, *, inputs: DecoderInputs, init_range: float, embedding_init_range: float | None
    ):
        super().__init__()
        self.decoder = decoder
        self.inputs = inputs
        self.init_range = init_range
        self.embedding_init_range = embedding_init_range

    def initialise(self, generator: torch.Generator) -> None:
        initialise_uniform(self, self.init_range, self.embedding_init_range, generator)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        # One chain with a latent of no dimension; more draws of nothing would only cost time.
        return torch.empty(1, 1, num_sentences, 0, device=generator.device)

    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        inputs = self.inputs(tokens, self.training, generator)
        rec = -self.decoder(inputs, tokens, noise, generator, equal_weights=True).mean(dim=0)
        return Bound(rec, rec.new_zeros(len(rec), 0), latents=0)

    def reader(self, latents: Tensor) -> Reader:
        return LstmReader(self.decoder, latents, self.inputs)

    @property
    def operations_per_token(self) -> float:
        return operations(self.decoder)
