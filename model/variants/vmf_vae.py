"""LSTM-VAE whose latents are directions: von Mises–Fisher posterior of fixed κ, uniform prior (Xu and Durrett 2018).

The KL is the same for every sentence and weight, set by `kappa` and `latent_dim`: no schedule moves it, so that a
trial is best given `schedule: constant`, and objectives that hold the KL up have nothing to do.

`samples: L` averages the reconstruction over L draws. With `average: true` one likelihood is given the mean of L draws,
as in the authors' code, where L is 3 and one KL is charged: no bound for L > 1. The strict one charges L of them.
"""

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from data.vocabulary import Vocabulary
from model.charge import OneKl
from model.core import Charge
from model.inputs import DecoderInputs
from model.lstm import LstmDecoder, LstmEncoder
from model.lstm_latent import LstmLatentConfig, LstmLatentModel
from model.precision import at_least_single
from model.vmf import Concentration, NormPenalty, VonMisesFisher, draw_uniform


class Config(LstmLatentConfig):
    # Concentration: 0 would be the prior, and the KL grows with it.
    kappa: float = Field(25.0, gt=0, le=1e6, json_schema_extra={"in_shape": False})
    average: bool = False
    # What the mean direction is a linear map of: the encoder's last hidden state (as of the LSTM-VAE), or its cell too.
    encoder_summary: Literal["hidden", "hidden_and_cell"] = "hidden"
    # Weight, in training, of (‖μ‖ − 1)² of what is normalised to the direction.
    norm_penalty: NonNegativeFloat = Field(0.0, json_schema_extra={"in_shape": "whether"})

    def build(self, vocabulary: Vocabulary) -> "VmfVae":
        return VmfVae(
            self.new_encoder(vocabulary, reads_cell=self.encoder_summary == "hidden_and_cell"),
            self.new_decoder(vocabulary, average_latents=self.average),
            inputs=self.decoder_inputs(vocabulary),
            concentration=Concentration.of(self.kappa, self.latent_dim),
            samples=self.samples,
            average=self.average,
            charge=NormPenalty(self.norm_penalty) if self.norm_penalty > 0.0 else OneKl(),
            linear_bias=self.linear_bias,
            init_range=self.init_range,
            embedding_init_range=self.embedding_init_range,
        )


class VmfVae(LstmLatentModel):
    def __init__(
        self,
        encoder: LstmEncoder,
        decoder: LstmDecoder,
        *,
        inputs: DecoderInputs,
        concentration: Concentration,
        samples: int,
        average: bool,
        charge: Charge,
        linear_bias: bool,
        init_range: float,
        embedding_init_range: float | None,
    ):
        super().__init__(
            encoder,
            decoder,
            inputs=inputs,
            latent_dim=concentration.dim,
            samples=samples,
            together=average,
            init_range=init_range,
            embedding_init_range=embedding_init_range,
        )
        self.to_mean = nn.Linear(encoder.summary_dim, concentration.dim, bias=linear_bias)
        self.charge = charge
        self.concentration = concentration

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        shape = (draws, self.latents_per_sentence, num_sentences, self.latent_dim)
        return self.concentration.draw(draws * self.latents_per_sentence * num_sentences, generator).view(shape)

    def draw_prior(self, num: int, generator: torch.Generator) -> Tensor:
        return draw_uniform(num, self.latent_dim, generator)

    def posterior(self, tokens: Tensor, generator: torch.Generator) -> VonMisesFisher:
        mean = at_least_single(self.to_mean(self.encoder(tokens, generator)))
        return VonMisesFisher.towards(mean, self.concentration)
