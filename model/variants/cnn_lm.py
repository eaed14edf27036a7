"""Language model of dilated causal convolutions (Yang et al. 2017): no latent, −log p(x) exact."""

import torch
from torch import Tensor

from data.vocabulary import Vocabulary
from model.core import Bound, Reader, TextModel
from model.dilated_cnn import CnnConfig, CnnDecoder, CnnReader, initialise_cnn
from model.inputs import DecoderInputs
from model.lstm import operations


class Config(CnnConfig):
    def build(self, vocabulary: Vocabulary) -> "CnnLm":
        return CnnLm(
            self.cnn_decoder(vocabulary, latent_dim=0),
            inputs=self.decoder_inputs(vocabulary),
            init_range=self.init_range,
        )


class CnnLm(TextModel):
    def __init__(self, decoder: CnnDecoder, *, inputs: DecoderInputs, init_range: float | None):
        super().__init__()
        self.decoder = decoder
        self.inputs = inputs
        self.init_range = init_range

    def initialise(self, generator: torch.Generator) -> None:
        initialise_cnn(self, self.init_range, generator)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        # One latent of no dimension; more draws of nothing would only cost time.
        return torch.empty(1, 1, num_sentences, 0, device=generator.device)

    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        inputs = self.inputs(tokens, self.training, generator)
        rec = -self.decoder(inputs, tokens, noise, generator, equal_weights=True).mean(dim=0)
        return Bound(rec, rec.new_zeros(len(rec), 0), latents=0)

    def reader(self, latents: Tensor) -> Reader:
        return CnnReader(self.decoder, latents, self.inputs)

    @property
    def operations_per_token(self) -> float:
        return operations(self.decoder)
