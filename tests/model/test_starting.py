"""What parameters are before training: PyTorch's own draw, a uniform one, or an LSTM language model's weights."""

import math

import pytest
import torch
from torch import Tensor, nn

from data.vocabulary import END, Vocabulary
from model.initialisation import initialise_as_torch
from model.randomness import generator
from model.variants.cnn_lm import Config as CnnLmConfig
from model.variants.cnn_vae import CnnVae
from model.variants.cnn_vae import Config as CnnVaeConfig
from model.variants.lstm_lm import Config as LstmLmConfig
from model.variants.lstm_lm import LstmLm

SIZES = {"embedding_dim": 6, "hidden_dim": 9}
VOCABULARY = Vocabulary((END, "<unk>", *(f"w{index}" for index in range(21))))


def cnn_vae(**fields: object) -> CnnVae:
    model = CnnVaeConfig.model_validate({**SIZES, "latent_dim": 3, "size": "S", **fields}).build(VOCABULARY)
    model.initialise(generator(1, "parameters"))
    return model


def lstm_lm(**fields: object) -> LstmLm:
    model = LstmLmConfig.model_validate({**SIZES, **fields}).build(VOCABULARY)
    model.initialise(generator(2, "parameters"))
    return model


@torch.no_grad()
def assert_uniform(values: Tensor, bound: float) -> None:
    assert 0.95 * bound < float(values.abs().max()) <= bound
    assert float(values.mean()) == pytest.approx(0.0, abs=4 * bound / math.sqrt(3 * values.numel()))
    assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


@torch.no_grad()
def test_each_layer_is_drawn_as_pytorch_draws_it() -> None:
    linear, lstm, table = nn.Linear(300, 400), nn.LSTM(30, 400), nn.Embedding(200, 300)
    state = torch.get_rng_state()
    initialise_as_torch(nn.ModuleList([linear, lstm, table]), generator(1, "parameters"))
    assert torch.equal(torch.get_rng_state(), state)
    for values in linear.parameters():
        assert_uniform(values, 300**-0.5)
    for values in lstm.parameters():
        assert_uniform(values, 400**-0.5)
    assert float(table.weight.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(table.weight.std()) == pytest.approx(1.0, rel=0.02)
    assert float(table.weight.abs().max()) > 3.0

    expected = torch.empty(400, 300)
    nn.init.kaiming_uniform_(expected, a=math.sqrt(5), generator=generator(1, "parameters"))
    assert torch.allclose(linear.weight, expected, atol=1e-7)


def test_those_are_the_ranges_of_pytorch() -> None:
    """A convolution's is that of a linear map of all that its kernel covers."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        linear, lstm, convolution = nn.Linear(300, 400), nn.LSTM(30, 400), nn.Conv1d(100, 400, kernel_size=3)
    for module, bound in ((linear, 300**-0.5), (lstm, 400**-0.5), (convolution, 300**-0.5)):
        for values in module.parameters():
            assert_uniform(values, bound)


def test_a_parameter_of_no_known_kind_is_not_left_as_it_was() -> None:
    with pytest.raises(AssertionError, match="Conv1d"):
        initialise_as_torch(nn.Sequential(nn.ReLU(), nn.Conv1d(2, 2, 1)), generator(1, "parameters"))


@torch.no_grad()
def test_a_range_is_for_every_parameter() -> None:
    spread = [float(values.abs().max()) for values in cnn_vae(init_range=0.01).parameters()]
    assert all(0.0 < largest <= 0.01 for largest in spread)


@torch.no_grad()
def test_an_encoder_starts_from_a_language_model() -> None:
    """Having read words, it is in the state in which the language model is."""
    model, other, words = cnn_vae().eval(), lstm_lm().eval(), torch.tensor([[5, 3, 8, 8, 2]])
    before = {name: values.clone() for name, values in model.named_parameters()}
    model.start_from(dict(other.named_parameters()))
    embedded = other.decoder.embedding(torch.cat([torch.tensor([[VOCABULARY.start]]), words], dim=1).t())
    expected = other.decoder.lstm(embedded)[0][-1]
    assert torch.allclose(model.encoder(words, generator(0, "unused")), expected, atol=1e-6)
    for name, values in model.named_parameters():
        assert torch.equal(values, before[name]) != name.startswith("encoder."), name


def test_what_it_started_from_stays_as_it_is() -> None:
    model, other = cnn_vae(), lstm_lm()
    expected = other.decoder.embedding.weight.detach().clone()
    model.start_from(other.state_dict())
    with torch.no_grad():
        model.encoder.embedding.weight.zero_()
    assert torch.equal(other.decoder.embedding.weight, expected)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            lstm_lm(embedding_dim=7).state_dict(),
            r"decoder.embedding.weight is 24 × 7 in them and 24 × 6 here; .*same corpus, embedding_dim and hidden_dim",
        ),
        (lstm_lm(hidden_dim=8).state_dict(), r"decoder.lstm.weight_ih_l0 is 32 × 6 in them and 36 × 6 here; "),
        (
            CnnLmConfig(embedding_dim=6, hidden_dim=9).build(VOCABULARY).state_dict(),
            r"^an encoder starts from .* LSTM language model, and these have no decoder.lstm.weight_ih_l0; name a",
        ),
    ],
    ids=["other tables", "other states", "no LSTM"],
)
def test_weights_that_do_not_fit_are_refused_as_a_whole(weights: dict[str, Tensor], message: str) -> None:
    model = cnn_vae()
    before = [values.clone() for values in model.parameters()]
    with pytest.raises(ValueError, match=message):
        model.start_from(weights)
    for values, expected in zip(model.parameters(), before, strict=True):
        assert torch.equal(values, expected)
