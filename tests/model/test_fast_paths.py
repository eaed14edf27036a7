"""The fast paths against the plain version in `tests/plain.py`: losses to 1e-6, gradients to 1e-5, in float32."""

import pytest
import torch
from torch import Tensor, nn

from data.corpus import Corpus
from data.vocabulary import END, Vocabulary
from model import recurrence
from model.core import TextModel
from model.cross_entropy import CHUNK_BYTES, MIN_ROWS, _chunks, cross_entropy
from model.evaluate import EvaluateConfig
from model.objectives.elbo import Config as Elbo
from model.plateau import Plateau, PlateauConfig
from model.precision import at_precision
from model.randomness import generator
from model.schedules.linear import Config as Linear
from model.train import TrainConfig, Training, fit
from model.updates.joint import Config as Joint
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig
from tests import plain

VOCABULARY = Vocabulary((END, "<unk>", *(f"w{index}" for index in range(181))))
SIZES = {"embedding_dim": 13, "hidden_dim": 37}
SYSTEMS = {
    "LM": LmConfig(**SIZES),
    "LM, biases": LmConfig(**SIZES, linear_bias=True, word_dropout=0.3),
    "LM, inputless": LmConfig(**SIZES, inputs="none"),
    "LM, inputless, no input dropout": LmConfig(**SIZES, inputs="none", input_dropout=0.0),
    "LM, inputless, no dropout": LmConfig(**SIZES, inputs="none", input_dropout=0.0, output_dropout=0.0),
    **{
        f"{name}, L = {samples}": VaeConfig(**SIZES, latent_dim=5, samples=samples, average=average)
        for samples in (1, 5, 10)
        for name, average in (("VAE", False), ("AVG", True))
    },
    "VAE, inputless": VaeConfig(**SIZES, latent_dim=5, inputs="none"),
    "VAE, inputless, no dropout": VaeConfig(**SIZES, latent_dim=5, inputs="none", input_dropout=0.0, samples=2),
    "AVG, inputless": VaeConfig(**SIZES, latent_dim=5, inputs="none", samples=5, average=True),
    "VAE, shared masks": VaeConfig(**SIZES, latent_dim=5, samples=5, shared_input_dropout=True),
    "AVG, shared masks": VaeConfig(**SIZES, latent_dim=5, samples=5, average=True, shared_input_dropout=True),
    "AVG, dropped latents": VaeConfig(**SIZES, latent_dim=5, samples=3, average=True, latent_dropout=True),
    "AVG, dropout before": VaeConfig(**SIZES, latent_dim=5, samples=3, average=True, dropout_before_average=True),
    "VAE, state from cell": VaeConfig(**SIZES, latent_dim=5, initial_state="tanh_cell", encoder_dropout=0.4),
    "VAE, both states": VaeConfig(**SIZES, latent_dim=5, samples=2, initial_state="linear_both", linear_bias=True),
}
SHAPES = [(1, 1), (1, 9), (7, 1), (11, 14), (32, 25)]


@pytest.fixture(params=SYSTEMS.values(), ids=SYSTEMS)
def model(request: pytest.FixtureRequest) -> TextModel:
    model: TextModel = request.param.build(VOCABULARY)
    model.initialise(generator(1, "parameters"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)  # large enough for saturated gates and predictions that are sure of themselves
    return model


def random_tokens(sentences: int, length: int) -> Tensor:
    words = torch.randint(1, len(VOCABULARY), (sentences, length - 1), generator=generator(sentences, f"{length}"))
    return torch.cat([words, torch.zeros(sentences, 1, dtype=torch.long)], dim=1)


def measure(model: TextModel, tokens: Tensor, is_plain: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """(2, B) rec and kl, and the gradients of the training loss at KL weight 0.3."""
    source = generator(4, "step")
    noise = model.draw_noise(len(tokens), model.training_draws, source)
    bound = plain.bound(model, tokens, noise, source) if is_plain else model.bound(tokens, noise, source)
    model.zero_grad()
    (bound.rec + 0.3 * bound.kl).mean().backward()  # type: ignore[no-untyped-call]
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return torch.stack([bound.rec.detach(), bound.kl.detach()]), gradients


@pytest.fixture(params=["split", "whole"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways through the LSTM, whatever the size."""
    monkeypatch.setattr("model.recurrence._split_pays", lambda words, hidden: request.param == "split")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("way")
def test_training(model: TextModel, shape: tuple[int, int]) -> None:
    tokens = random_tokens(*shape)
    fast, fast_gradients = measure(model, tokens, is_plain=False)
    slow, slow_gradients = measure(model, tokens, is_plain=True)
    assert torch.allclose(fast, slow, rtol=1e-6, atol=1e-5)
    assert fast_gradients.keys() == slow_gradients.keys() == dict(model.named_parameters()).keys()
    for name, expected in slow_gradients.items():
        assert (fast_gradients[name] - expected).norm() <= 1e-5 * expected.norm(), name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("way")
def test_evaluation(model: TextModel, shape: tuple[int, int]) -> None:
    model.eval()
    tokens, source = random_tokens(*shape), generator(4, "step")
    noise = model.draw_noise(len(tokens), 3, source)
    with torch.no_grad():
        fast, slow = model.bound(tokens, noise, source), plain.bound(model, tokens, noise, source)
    assert torch.allclose(fast.rec, slow.rec, rtol=1e-6, atol=1e-5)
    assert torch.allclose(fast.kl, slow.kl, rtol=1e-6, atol=1e-5)


def test_the_split_is_for_many_chains_or_shared_words() -> None:
    for chains, sentences, words_of, expected in (
        (1, 320, (1, 320), False),  # one chain that reads its own words
        (10, 32, (10, 32), True),
        (10, 32, (1, 32), True),
        (1, 320, (1, 1), True),  # inputless
        (5, 8, (5, 8), False),  # too small
    ):
        hidden = torch.zeros(chains, sentences, 64)
        assert recurrence._split_pays(torch.zeros(3, *words_of, 7), hidden) is expected


@pytest.mark.usefixtures("way")
def test_bfloat16_is_near(model: TextModel) -> None:
    """Gradients arrive at the float32 parameters, a few bits of bfloat16 away from those of float32."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.div_(5.0)
    tokens = random_tokens(11, 14)
    single, single_gradients = measure(model, tokens, is_plain=False)
    half, half_gradients = measure(at_precision(model, "bf16"), tokens, is_plain=False)
    assert half.dtype == torch.float32
    assert torch.allclose(half, single, rtol=0.01, atol=0.01)
    assert not torch.equal(half, single)
    for name, expected in single_gradients.items():
        found = half_gradients[f"model.{name}"]
        assert found.dtype == torch.float32
        assert (found - expected).norm() <= 0.05 * expected.norm(), name


def test_targets_may_share_a_row() -> None:
    layer, source = nn.Linear(7, 23), generator(0, "test")
    hidden = torch.randn(600, 7, generator=source)
    targets = torch.randint(23, (600, 4), generator=source)
    repeated = hidden.repeat_interleave(4, dim=0)
    results = []
    for rows, expected in ((hidden, targets), (repeated, targets.view(-1, 1))):
        rows = rows.clone().requires_grad_()
        layer.zero_grad()
        nll = cross_entropy(rows, layer, expected, equal_weights=True)
        nll.mean().backward()  # type: ignore[no-untyped-call]
        assert rows.grad is not None
        results.append(
            (nll.detach().flatten(), rows.grad.view(600, -1, 7).sum(dim=1), layer.weight.grad, layer.bias.grad)
        )
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_unequal_weights_are_refused_or_right() -> None:
    layer, source = nn.Linear(7, 23), generator(0, "test")
    hidden, targets = torch.randn(9, 7, generator=source), torch.randint(23, (9, 1), generator=source)
    weights = torch.rand(9, 1, generator=source)

    def weighed(equal_weights: bool) -> Tensor:
        layer.zero_grad()
        (cross_entropy(hidden, layer, targets, equal_weights=equal_weights) * weights).sum().backward()
        assert layer.weight.grad is not None
        return layer.weight.grad

    with pytest.raises(AssertionError, match="equal_weights=False"):
        weighed(equal_weights=True)
    found = weighed(equal_weights=False)
    layer.zero_grad()
    each = nn.functional.cross_entropy(layer(hidden), targets[:, 0], reduction="none")
    (each * weights[:, 0]).sum().backward()
    assert torch.allclose(found, layer.weight.grad, atol=1e-6)


def test_a_gradient_made_once_is_used_once() -> None:
    layer = nn.Linear(7, 23)
    total = cross_entropy(torch.randn(9, 7), layer, torch.zeros(9, 1, dtype=torch.long), equal_weights=True).sum()
    total.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()  # type: ignore[no-untyped-call]


def test_nothing_of_all_logits_is_kept() -> None:
    """Chunks are cut so that each has at least the rows that keep products fast, and all together every row once."""
    for rows, width in ((1, 10), (255, 10_000), (3_680, 10_000), (7_040, 20_000), (100, 10_000_000)):
        chunks = [range(rows)[chunk] for chunk in _chunks(rows, width)]
        assert [row for chunk in chunks for row in chunk] == list(range(rows))
        assert max(map(len, chunks)) <= max(MIN_ROWS, CHUNK_BYTES // (4 * width))
        assert max(map(len, chunks)) - min(map(len, chunks)) <= len(chunks)


@pytest.mark.parametrize("name", ["LM", "VAE, L = 5", "AVG, L = 5", "AVG, inputless"])
def test_two_epochs_are_those_of_the_plain_version(name: str, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole training and validation, the rounding of every step carried on to the next."""

    def train() -> list[dict[str, float]]:
        model: TextModel = SYSTEMS[name].build(corpus.vocabulary)
        model.initialise(generator(1, "parameters"))
        training, records = Training(model, Joint().build(model), Plateau(PlateauConfig(), 2.0)), []
        config = TrainConfig(epochs=2, batch_size=8)
        fit(training, corpus, Linear(epochs=2), Elbo(), config, EvaluateConfig(), 3, records.append)
        return [{**record.train, **record.valid} for record in records]

    fast = train()
    monkeypatch.setattr(type(SYSTEMS[name].build(corpus.vocabulary)), "bound", plain.bound)
    for ours, theirs in zip(fast, train(), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
