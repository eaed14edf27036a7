"""What the LSTM systems with latents share: encoder, decoder and their fields, whatever the family of the posterior."""

from collections.abc import Mapping

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from data.vocabulary import Vocabulary
from model.core import LatentModel, Reader
from model.inputs import DecoderInputs
from model.lstm import InitialState, LstmConfig, LstmDecoder, LstmEncoder, LstmReader, initialise_uniform, operations
from model.start import StartsFromTrained


class LstmLatentConfig(LstmConfig):
    latent_dim: PositiveInt = 32
    samples: PositiveInt = 1  # L
    initial_state: InitialState = "linear"  # h0 = M2 z, c0 = 0 (paper); c0 = linear(z), h0 = tanh(c0); both linear
    # On the encoder's word embeddings.
    encoder_dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra={"in_shape": "whether"})
    latent_dropout: bool = False  # drop z at the decoder's input like the words beside it
    shared_input_dropout: bool = False  # one word-dropout mask for the L chains instead of one each

    def new_encoder(self, vocabulary: Vocabulary, *, reads_cell: bool = False) -> LstmEncoder:
        return LstmEncoder(
            num_inputs=vocabulary.num_inputs,
            embedding_dim=self.embedding_dim,
            hidden_dim=self.hidden_dim,
            dropout_rate=self.encoder_dropout,
            start=vocabulary.start,
            reads_cell=reads_cell,
        )

    def new_decoder(
        self, vocabulary: Vocabulary, *, dropout_before_average: bool = False, average_latents: bool = False
    ) -> LstmDecoder:
        return LstmDecoder(
            num_inputs=vocabulary.num_inputs,
            num_outputs=len(vocabulary),
            embedding_dim=self.embedding_dim,
            hidden_dim=self.hidden_dim,
            latent_dim=self.latent_dim,
            initial_state=self.initial_state,
            input_dropout=self.input_dropout,
            output_dropout=self.output_dropout,
            latent_dropout=self.latent_dropout,
            dropout_before_average=dropout_before_average,
            average_latents=average_latents,
            shared_input_dropout=self.shared_input_dropout,
            linear_bias=self.linear_bias,
        )


class LstmLatentModel(LatentModel, StartsFromTrained):
    """An LSTM encoder, from whose summary of a sentence an architecture makes a posterior, and an LSTM decoder.

    An architecture sets the maps from the summary, and then `charge`: parameters are drawn in the order in which they
    are set. samples: L. together: whether one likelihood is given all L latents, instead of L likelihoods one each.
    """

    decoder: LstmDecoder

    def __init__(
        self,
        encoder: LstmEncoder,
        decoder: LstmDecoder,
        *,
        inputs: DecoderInputs,
        latent_dim: int,
        samples: int,
        together: bool,
        init_range: float,
        embedding_init_range: float | None,
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.inputs = inputs
        self.latent_dim = latent_dim
        self.latents_per_sentence = samples if together else 1
        self.training_draws = 1 if together else samples
        self.init_range = init_range
        self.embedding_init_range = embedding_init_range

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """The encoder goes on from an LSTM language model's weights, as of `LstmEncoder.start_from`; the rest stays."""
        self.encoder.start_from(weights)

    def initialise(self, generator: torch.Generator) -> None:
        initialise_uniform(self, self.init_range, self.embedding_init_range, generator)

    def log_likelihood(
        self,
        tokens: Tensor,
        latents: Tensor,
        generator: torch.Generator,
        *,
        equal_weights: bool = False,
        twice: bool = False,
    ) -> Tensor:
        """As of every model. twice: whether its gradient can be differentiated again."""
        inputs = self.inputs(tokens, self.training, generator)
        log_p: Tensor = self.decoder(inputs, tokens, latents, generator, equal_weights=equal_weights, twice=twice)
        return log_p

    def reader(self, latents: Tensor) -> Reader:
        return LstmReader(self.decoder, latents, self.inputs)

    @property
    def operations_per_token(self) -> float:
        chains = self.training_draws * (1 if self.decoder.average_latents else self.latents_per_sentence)
        return (
            operations(self.encoder)
            + chains * operations(self.decoder.lstm)
            + self.training_draws * operations(self.decoder.to_logits)
        )
