"""LSTM-VAE with L latent samples a step, decoded one by one or through the average of their hidden states.

`samples: L` alone is the VAE whose reconstruction is averaged over L draws (paper, section 3.1). With `average: true`
the L chains' hidden states are averaged before the softmax (section 3.2): one likelihood that conditions on all L.
"""

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional

from data.vocabulary import Vocabulary
from model.charge import AverageKl, charge_of
from model.core import Charge
from model.gaussian import DiagonalGaussian, largest_log_variance
from model.inputs import DecoderInputs
from model.lstm import LstmDecoder, LstmEncoder
from model.lstm_latent import LstmLatentConfig, LstmLatentModel
from model.precision import at_least_single


class LstmVaeConfig(LstmLatentConfig):
    """Fields of an LSTM-VAE, and of whatever is built around one."""

    # Nats that the KL of one latent never falls below (δ-VAE); 0 sets no limit.
    delta: NonNegativeFloat = Field(0.0, json_schema_extra={"in_key": "unless default", "in_shape": "whether"})
    average: bool = False
    # What training charges for averaged latents: one KL (paper), every KL, or that from an exchangeable prior.
    average_kl: AverageKl = Field("paper", json_schema_extra={"in_key": "unless default"})
    dropout_before_average: bool = False  # output dropout on each chain instead of on their mean

    def vae(self, vocabulary: Vocabulary) -> "LstmVae":
        return LstmVae(
            self.new_encoder(vocabulary),
            self.new_decoder(vocabulary, dropout_before_average=self.dropout_before_average),
            inputs=self.decoder_inputs(vocabulary),
            latent_dim=self.latent_dim,
            delta=self.delta,
            samples=self.samples,
            average=self.average,
            charge=charge_of(self.average_kl, self.samples if self.average else 1, self.latent_dim),
            linear_bias=self.linear_bias,
            init_range=self.init_range,
            embedding_init_range=self.embedding_init_range,
        )


class Config(LstmVaeConfig):
    def build(self, vocabulary: Vocabulary) -> "LstmVae":
        return self.vae(vocabulary)


class LstmVae(LstmLatentModel):
    def __init__(
        self,
        encoder: LstmEncoder,
        decoder: LstmDecoder,
        *,
        inputs: DecoderInputs,
        latent_dim: int,
        delta: float,
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
            latent_dim=latent_dim,
            samples=samples,
            together=average,
            init_range=init_range,
            embedding_init_range=embedding_init_range,
        )
        self.to_mean = nn.Linear(encoder.summary_dim, latent_dim, bias=linear_bias)
        self.to_log_variance = nn.Linear(encoder.summary_dim, latent_dim, bias=linear_bias)
        self.charge = charge
        self.largest_log_variance = largest_log_variance(delta / latent_dim) if delta > 0.0 else None

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        shape = (draws, self.latents_per_sentence, num_sentences, self.latent_dim)
        return torch.randn(shape, generator=generator, device=generator.device)

    def draw_prior(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randn(num, self.latent_dim, generator=generator, device=generator.device)

    def posterior(self, tokens: Tensor, generator: torch.Generator) -> DiagonalGaussian:
        summary = self.encoder(tokens, generator)
        log_variance = at_least_single(self.to_log_variance(summary))
        if self.largest_log_variance is not None:
            log_variance = self.largest_log_variance + functional.logsigmoid(log_variance)
        return DiagonalGaussian(at_least_single(self.to_mean(summary)), log_variance)
