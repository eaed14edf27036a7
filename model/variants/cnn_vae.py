"""VAE with an LSTM encoder and a decoder of dilated causal convolutions (Yang et al. 2017).

The smaller the decoder's receptive field (`size`), the less it can say without the latent, and the more the latent is
used. With `samples: L` the reconstruction is averaged over L draws.
"""

from collections.abc import Mapping

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from data.vocabulary import Vocabulary
from model.charge import OneKl
from model.core import LatentModel, Reader
from model.dilated_cnn import CnnConfig, CnnDecoder, CnnReader, initialise_cnn
from model.gaussian import DiagonalGaussian
from model.inputs import DecoderInputs
from model.lstm import LstmEncoder, operations
from model.precision import at_least_single
from model.start import StartsFromTrained


class Config(CnnConfig):
    latent_dim: PositiveInt = 32
    samples: PositiveInt = 1  # L
    # On the encoder's word embeddings.
    encoder_dropout: float = Field(0.3, ge=0, lt=1, json_schema_extra={"in_shape": "whether"})

    def build(self, vocabulary: Vocabulary) -> "CnnVae":
        return CnnVae(
            LstmEncoder(
                num_inputs=vocabulary.num_inputs,
                embedding_dim=self.embedding_dim,
                hidden_dim=self.hidden_dim,
                dropout_rate=self.encoder_dropout,
                start=vocabulary.start,
            ),
            self.cnn_decoder(vocabulary, self.latent_dim),
            inputs=self.decoder_inputs(vocabulary),
            latent_dim=self.latent_dim,
            samples=self.samples,
            init_range=self.init_range,
        )


class CnnVae(LatentModel, StartsFromTrained):
    decoder: CnnDecoder

    def __init__(
        self,
        encoder: LstmEncoder,
        decoder: CnnDecoder,
        *,
        inputs: DecoderInputs,
        latent_dim: int,
        samples: int,
        init_range: float | None,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        hidden_dim = encoder.lstm.hidden_size
        # Yang et al. say "an MLP" and no more: one rectified hidden layer.
        self.to_features = nn.Linear(hidden_dim, hidden_dim)
        self.to_mean = nn.Linear(hidden_dim, latent_dim)
        self.to_log_variance = nn.Linear(hidden_dim, latent_dim)
        self.charge = OneKl()
        self.inputs = inputs
        self.latent_dim = latent_dim
        self.latents_per_sentence = 1
        self.training_draws = samples
        self.init_range = init_range

    def initialise(self, generator: torch.Generator) -> None:
        initialise_cnn(self, self.init_range, generator)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """The encoder goes on from an LSTM language model's weights, as of `LstmEncoder.start_from`; the rest stays.

        Nothing is frozen. To be called after `initialise`.
        """
        self.encoder.start_from(weights)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        return torch.randn((draws, 1, num_sentences, self.latent_dim), generator=generator, device=generator.device)

    def draw_prior(self, num: int, generator: torch.Generator) -> Tensor:
        return torch.randn(num, self.latent_dim, generator=generator, device=generator.device)

    def posterior(self, tokens: Tensor, generator: torch.Generator) -> DiagonalGaussian:
        features = torch.relu(self.to_features(self.encoder(tokens, generator)))
        return DiagonalGaussian(
            at_least_single(self.to_mean(features)), at_least_single(self.to_log_variance(features))
        )

    def log_likelihood(
        self, tokens: Tensor, latents: Tensor, generator: torch.Generator, *, equal_weights: bool = False
    ) -> Tensor:
        inputs = self.inputs(tokens, self.training, generator)
        log_p: Tensor = self.decoder(inputs, tokens, latents, generator, equal_weights=equal_weights)
        return log_p

    def reader(self, latents: Tensor) -> Reader:
        return CnnReader(self.decoder, latents, self.inputs)

    @property
    def operations_per_token(self) -> float:
        return operations(self.encoder) + self.training_draws * operations(self.decoder)
