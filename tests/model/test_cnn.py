"""The systems of Yang et al. (2017): what a prediction sees, layer by layer against plain arithmetic, and sizes."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from data.batch import sequential_batches
from data.corpus import Corpus
from data.vocabulary import END, Vocabulary
from model.core import TextModel
from model.dilated_cnn import DILATIONS, CnnDecoder, ResidualLayer, Size
from model.initialisation import initialise_as_torch
from model.objectives.elbo import Config as Elbo
from model.randomness import generator
from model.updates.joint import Config as Joint
from model.variants.cnn_lm import Config as LmConfig
from model.variants.cnn_vae import CnnVae
from model.variants.cnn_vae import Config as VaeConfig

RECEPTIVE_FIELDS: dict[Size, int] = {"S": 15, "M": 63, "L": 125, "VL": 187}
SMALL = {"embedding_dim": 5, "hidden_dim": 8, "latent_dim": 3}
VOCABULARY = Vocabulary((END, "<unk>", *(f"w{index}" for index in range(21))))


def vae(**fields: object) -> CnnVae:
    model = VaeConfig.model_validate({**SMALL, **fields}).build(VOCABULARY)
    model.initialise(generator(1, "parameters"))
    return model


def random_tokens(sentences: int, length: int) -> Tensor:
    return torch.randint(1, len(VOCABULARY), (sentences, length), generator=generator(2, "tokens"))


def logits_of(decoder: CnnDecoder, inputs: Tensor, latents: Tensor) -> Tensor:
    """(T, S·B, V) of (B, T) input ids and (S, B, n) latents."""
    channels = decoder._read(inputs, latents).flatten(1, 2)
    for layer in decoder.layers:
        channels = layer(channels, generator(0, "dropout"))
    logits: Tensor = decoder.to_logits(channels)
    return logits


@pytest.mark.parametrize("size", DILATIONS)
@torch.no_grad()
def test_a_prediction_sees_its_receptive_field_and_no_further(size: Size) -> None:
    decoder = vae(size=size).double().eval().decoder
    # All weights positive, so that no unit is off and nothing cancels on the one path from the farthest symbol.
    for parameter in decoder.parameters():
        parameter.abs_()
    field = RECEPTIVE_FIELDS[size]
    inputs, latents = random_tokens(1, field + 3), torch.zeros(1, 1, 3, dtype=torch.float64)
    expected = logits_of(decoder, inputs, latents)[-1]
    for distance in range(field + 3):
        changed = inputs.clone()
        changed[0, -1 - distance] = 1 + changed[0, -1 - distance] % (len(VOCABULARY) - 1)
        assert torch.equal(logits_of(decoder, changed, latents)[-1], expected) == (distance >= field), distance


@torch.no_grad()
def test_no_word_reaches_a_prediction_before_it_is_read() -> None:
    model, tokens, source = vae(size="M").eval(), random_tokens(2, 40), generator(3, "latents")
    latents = torch.randn(1, 2, 3, generator=source)
    expected = logits_of(model.decoder, model.inputs(tokens, False, source), latents)
    for place in range(tokens.shape[1] - 1):
        changed = tokens.clone()
        changed[:, place] = 1 + changed[:, place] % (len(VOCABULARY) - 1)
        found = logits_of(model.decoder, model.inputs(changed, False, source), latents)
        assert torch.equal(found[: place + 1], expected[: place + 1])
        assert not torch.isclose(found[place + 1], expected[place + 1]).all(dim=1).any()


@pytest.mark.parametrize("dilation", [1, 2, 4, 16])
@pytest.mark.parametrize("length", [1, 2, 5, 40])
@torch.no_grad()
def test_a_layer_is_its_equations(dilation: int, length: int) -> None:
    """Position by position, with zeros before the first; and PyTorch's convolutions, the left padded."""
    layer = ResidualLayer(6, 4, dilation, dropout_rate=0.5).double().eval()
    initialise_as_torch(layer, generator(1, "parameters"))
    x = torch.randn(length, 3, 6, generator=generator(2, "x"), dtype=torch.float64)
    found = layer(x, generator(0, "unused"))

    narrow = [torch.relu(layer.narrow.weight @ x[t].t() + layer.narrow.bias[:, None]) for t in range(length)]
    zeros = torch.zeros_like(narrow[0])
    for t in range(length):
        seen = [narrow[t - age * dilation] if t >= age * dilation else zeros for age in (2, 1, 0)]
        convolved = torch.relu(layer.convolve.weight @ torch.cat(seen) + layer.convolve.bias[:, None])
        wide = layer.widen.weight @ convolved + layer.widen.bias[:, None]
        assert torch.allclose(found[t], torch.relu(x[t].t() + wide).t(), atol=1e-12)

    kernel = layer.convolve.weight.view(4, 3, 4).transpose(1, 2)
    padded = functional.pad(torch.relu(layer.narrow(x)).permute(1, 2, 0), (2 * dilation, 0))
    convolved = functional.conv1d(padded, kernel, layer.convolve.bias, dilation=dilation).permute(2, 0, 1)
    assert torch.allclose(found, torch.relu(x + layer.widen(torch.relu(convolved))), atol=1e-12)


def test_the_gradient_of_a_layer_is_that_of_its_equations() -> None:
    layer = ResidualLayer(4, 3, 2, dropout_rate=0.0).double()
    initialise_as_torch(layer, generator(1, "parameters"))
    x = torch.randn(6, 2, 4, generator=generator(2, "x"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x, generator(0, "unused")), (x, *layer.parameters()))


@torch.no_grad()
def test_dropout_is_within_the_layers_and_in_training_alone() -> None:
    x = torch.randn(9, 2, 6, generator=generator(2, "x"))
    layer = ResidualLayer(6, 4, 2, dropout_rate=0.4)
    initialise_as_torch(layer, generator(1, "parameters"))
    first, again, other = (layer(x, generator(seed, "dropout")) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    expected = layer.eval()(x, generator(1, "dropout"))
    assert torch.equal(layer(x, generator(2, "dropout")), expected)
    layer.train().dropout_rate = 0.0
    assert torch.equal(layer(x, generator(2, "dropout")), expected)
    layer.dropout_rate = 1.0 - 1e-9
    assert torch.equal(layer(x, generator(2, "dropout")), torch.relu(x + layer.widen.bias))


@torch.no_grad()
def test_each_sentence_and_draw_is_decoded_by_itself() -> None:
    model, tokens, source = vae(size="M").double().eval(), random_tokens(4, 20), generator(3, "latents")
    latents = torch.randn(3, 1, 4, 3, generator=source, dtype=torch.float64)
    together = model.log_likelihood(tokens, latents, source)
    for draw in range(3):
        for row in range(4):
            alone = model.log_likelihood(tokens[[row]], latents[[draw]][:, :, [row]], source)
            assert torch.allclose(alone[0, 0], together[draw, row], rtol=1e-12)


def test_the_fast_gradient_is_that_of_any_loss() -> None:
    tokens = random_tokens(4, 20)
    model = vae(size="M", layer_dropout=0.0).double()
    latents = torch.randn(3, 1, 4, 3, generator=generator(3, "latents"), dtype=torch.float64)
    gradients = []
    for equal_weights in (True, False):
        log_p = model.log_likelihood(tokens, latents, generator(0, "unused"), equal_weights=equal_weights)
        gradients.append(torch.autograd.grad(log_p.sum(), list(model.decoder.parameters())))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("size", DILATIONS)
@torch.no_grad()
def test_word_by_word_past_the_end_of_every_ring(size: Size) -> None:
    model, tokens, source = vae(size=size).eval(), random_tokens(3, 80), generator(3, "latents")
    latents = torch.randn(1, 1, 3, 3, generator=source)
    reader = model.reader(latents[0].transpose(0, 1))
    log_p, rows, words = torch.zeros(3), torch.arange(3), torch.full((3,), VOCABULARY.start)
    for time in range(tokens.shape[1]):
        following = reader.read(words)
        words = tokens[rows, time]
        log_p += following.gather(1, words.unsqueeze(1)).squeeze(1)
        order = torch.tensor([2, 0, 1])
        reader.keep(order)
        rows, words, log_p = rows[order], words[order], log_p[order]
    assert torch.allclose(log_p, model.log_likelihood(tokens, latents, source)[0, rows], atol=1e-3)


def layer_size(external: int, internal: int) -> int:
    return external * internal + internal + 3 * internal**2 + internal + internal * external + external


@pytest.mark.parametrize(
    ("config", "words", "expected"),
    [
        (LmConfig(), 10_000, 10_001 * 100 + (101 * 400) + 10 * layer_size(400, 200) + 401 * 10_000),
        (LmConfig(size="S"), 10_000, 10_001 * 100 + (101 * 400) + 3 * layer_size(400, 200) + 401 * 10_000),
        (
            VaeConfig(embedding_dim=512, hidden_dim=1024, size="VL"),
            20_000,
            2 * 20_001 * 512  # both tables
            + 4 * 1024 * (512 + 1024 + 2)  # the encoder's LSTM
            + 1025 * 1024  # its hidden layer
            + 2 * 1025 * 32  # mean and variance
            + (512 + 32 + 1) * 1024
            + 15 * layer_size(1024, 512)
            + 1025 * 20_000,
        ),
        (LmConfig(hidden_dim=9, internal_dim=2, size="S"), 30, 31 * 100 + 101 * 9 + 3 * layer_size(9, 2) + 10 * 30),
    ],
    ids=["PTB, L", "PTB, S", "Yahoo, VL", "narrow"],
)
def test_parameter_counts(config: LmConfig | VaeConfig, words: int, expected: int) -> None:
    with torch.device("meta"):
        model: TextModel = config.build(Vocabulary((END, *(f"w{index}" for index in range(words - 1)))))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_larger_decoders_cost_more() -> None:
    costs = [vae(size=size).operations_per_token for size in DILATIONS]
    assert all(less < more for less, more in pairwise(costs))
    assert vae(samples=5).operations_per_token > 2 * vae().operations_per_token


@pytest.mark.parametrize("word_dropout", [0.0, 0.5])
@pytest.mark.parametrize("config", [LmConfig, VaeConfig])
def test_without_words_there_is_nothing_to_convolve(
    config: type[LmConfig] | type[VaeConfig], word_dropout: float
) -> None:
    with pytest.raises(ValueError, match=r"^a convolution .* inputs: none .*; exclude this combination$"):
        config(inputs="none", word_dropout=word_dropout).build(VOCABULARY)


@pytest.mark.parametrize("config", [LmConfig(hidden_dim=20, size="S"), VaeConfig(hidden_dim=20, size="S", samples=2)])
def test_training_lowers_the_loss(corpus: Corpus, config: LmConfig | VaeConfig) -> None:
    batch = list(sequential_batches(corpus.splits["train"], 30))[-1]
    model: TextModel = config.build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    update, source, loss = Joint(learning_rate=0.05).build(model), generator(2, "train"), Elbo().at(0.0, 1.0)
    course = [float(update.step(batch, loss, source).bound.strict.mean()) for _ in range(60)]
    assert sum(course[-5:]) < 0.6 * sum(course[:5])
