"""LSTM-VAE with L latent samples a step, decoded one by one or through the average of their hidden states.

`samples: L` alone is the VAE whose reconstruction is averaged over L draws (paper, section 3.1). With `average: true`
the L chains' hidden states are averaged before the softmax (section 3.2): one likelihood that conditions on all L.
"""

from collections.abc import Sequence

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from data.vocabulary import Vocabulary
from model.charge import AverageKl, charge_of
from model.core import Charge, LatentModel, Reader
from model.gaussian import DiagonalGaussian, largest_log_variance
from model.inputs import DecoderInputs
from model.lstm import InitialState, LstmConfig, LstmDecoder, LstmEncoder, LstmReader, initialise_uniform, operations
from model.precision import at_least_single


class Config(LstmConfig):
    latent_dim: PositiveInt = 32
    # Nats that the KL of one latent never falls below (δ-VAE); 0 sets no limit.
    delta: NonNegativeFloat = Field(0.0, json_schema_extra={"in_key": "unless default"})
    samples: PositiveInt = 1  # L
    average: bool = False
    # What training charges for averaged latents: one KL (paper), every KL, or that from an exchangeable prior.
    average_kl: AverageKl = Field("paper", json_schema_extra={"in_key": "unless default"})
    initial_state: InitialState = "linear"  # h0 = M2 z, c0 = 0 (paper); c0 = linear(z), h0 = tanh(c0); both linear
    encoder_dropout: float = Field(0.0, ge=0, lt=1)  # on the encoder's word embeddings
    latent_dropout: bool = False  # drop z at the decoder's input like the words beside it
    dropout_before_average: bool = False  # output dropout on each chain instead of on their mean
    shared_input_dropout: bool = False  # one word-dropout mask for the L chains instead of one each

    def build(self, vocabulary: Vocabulary) -> "LstmVae":
        return LstmVae(
            LstmEncoder(
                num_inputs=vocabulary.num_inputs,
                embedding_dim=self.embedding_dim,
                hidden_dim=self.hidden_dim,
                dropout_rate=self.encoder_dropout,
                start=vocabulary.start,
            ),
            LstmDecoder(
                num_inputs=vocabulary.num_inputs,
                num_outputs=len(vocabulary),
                embedding_dim=self.embedding_dim,
                hidden_dim=self.hidden_dim,
                latent_dim=self.latent_dim,
                initial_state=self.initial_state,
                input_dropout=self.input_dropout,
                output_dropout=self.output_dropout,
                latent_dropout=self.latent_dropout,
                dropout_before_average=self.dropout_before_average,
                shared_input_dropout=self.shared_input_dropout,
                linear_bias=self.linear_bias,
            ),
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


class LstmVae(LatentModel):
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
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.to_mean = nn.Linear(encoder.lstm.hidden_size, latent_dim, bias=linear_bias)
        self.to_log_variance = nn.Linear(encoder.lstm.hidden_size, latent_dim, bias=linear_bias)
        self.charge = charge
        self.inputs = inputs
        self.latent_dim = latent_dim
        self.largest_log_variance = largest_log_variance(delta / latent_dim) if delta > 0.0 else None
        self.latents_per_sentence = samples if average else 1
        self.training_draws = 1 if average else samples
        self.init_range = init_range
        self.embedding_init_range = embedding_init_range

    def initialise(self, generator: torch.Generator) -> None:
        initialise_uniform(self, self.init_range, self.embedding_init_range, generator)

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        shape = (draws, self.latents_per_sentence, num_sentences, self.latent_dim)
        return torch.randn(shape, generator=generator, device=generator.device)

    def posterior(self, tokens: Tensor, generator: torch.Generator) -> DiagonalGaussian:
        summary = self.encoder(tokens, generator)
        log_variance = at_least_single(self.to_log_variance(summary))
        if self.largest_log_variance is not None:
            log_variance = self.largest_log_variance + functional.logsigmoid(log_variance)
        return DiagonalGaussian(at_least_single(self.to_mean(summary)), log_variance)

    def inference_parameters(self) -> Sequence[nn.Parameter]:
        modules = (self.encoder, self.to_mean, self.to_log_variance)
        return [parameter for module in modules for parameter in module.parameters()]

    def log_likelihood(
        self, tokens: Tensor, latents: Tensor, generator: torch.Generator, *, equal_weights: bool = False
    ) -> Tensor:
        inputs = self.inputs(tokens, self.training, generator)
        log_p: Tensor = self.decoder(inputs, tokens, latents, generator, equal_weights=equal_weights)
        return log_p

    def reader(self, latents: Tensor) -> Reader:
        return LstmReader(self.decoder, latents, self.inputs)

    @property
    def operations_per_token(self) -> float:
        chains = self.training_draws * self.latents_per_sentence
        return (
            operations(self.encoder)
            + chains * operations(self.decoder.lstm)
            + self.training_draws * operations(self.decoder.to_logits)
        )
