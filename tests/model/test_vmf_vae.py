"""The LSTM-VAE with von Mises–Fisher latents: its bounds, its options, and what is measured of it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data.batch import sequential_batches
from data.corpus import Corpus
from model.diagnostics import measure_use
from model.draws import Draws
from model.exchangeable import fit_correlation
from model.importance import importance_weighted
from model.objectives.elbo import Config as Elbo
from model.objectives.iwae import Config as Iwae
from model.randomness import generator
from model.updates.joint import Config as Joint
from model.variants.vmf_vae import Config, VmfVae
from model.vmf import NormPenalty

SMALL = {"embedding_dim": 6, "hidden_dim": 10, "latent_dim": 4, "kappa": 6.0, "init_range": 0.5}


def vae(corpus: Corpus, **fields: object) -> VmfVae:
    model = Config.model_validate({**SMALL, **fields}).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    return model


def tokens_of(corpus: Corpus) -> Tensor:
    return list(sequential_batches(corpus.splits["train"], 5))[-1].tokens


def nll_of(model: VmfVae, tokens: Tensor, draws: int, form: str) -> float:
    noise = Draws(model, list(range(len(tokens))), 3, "x", torch.device("cpu"))
    found = importance_weighted(model.eval(), tokens, draws, noise, torch.zeros(0), tokens_at_once=10**5)
    return found[form].nll.mean().item()


@pytest.mark.parametrize("fields", [{}, {"samples": 3, "average": True}], ids=repr)
def test_importance_weighting_is_below_the_bound(corpus: Corpus, fields: dict[str, object]) -> None:
    model, tokens, source = vae(corpus, **fields).eval(), tokens_of(corpus), generator(3, "noise")
    with torch.no_grad():
        bound = model.bound(tokens, model.draw_noise(len(tokens), 2000, source), source)
    assert nll_of(model, tokens, 500, "strict") <= bound.strict.mean().item() + 0.02


def test_training_lowers_the_loss_and_leaves_the_kl(corpus: Corpus) -> None:
    model = vae(corpus, norm_penalty=0.1)
    update, batch = Joint().build(model), next(sequential_batches(corpus.splits["train"], 8))
    first = update.step(batch, Elbo().at(0.0, 1.0), generator(0, "train")).bound
    for step in range(60):
        last = update.step(batch, Elbo().at(0.0, 1.0), generator(step, "train")).bound
    assert last.rec.mean() < 0.8 * first.rec.mean()
    assert torch.equal(last.kl, first.kl)
    assert float(last.kl[0]) == pytest.approx(model.concentration.kl)


def test_the_mean_of_several_latents_is_no_bound_and_is_charged_each_in_the_strict_one(corpus: Corpus) -> None:
    model, tokens, source = vae(corpus, samples=3, average=True).eval(), tokens_of(corpus), generator(3, "noise")
    noise = model.draw_noise(len(tokens), 1, source)
    assert (model.latents_per_sentence, model.training_draws, noise.shape) == (3, 1, (1, 3, len(tokens), 4))
    bound = model.bound(tokens, noise, source)
    assert torch.allclose(bound.paper, bound.rec + model.concentration.kl)
    assert torch.allclose(bound.strict, bound.rec + 3 * model.concentration.kl)
    z = model.posterior(tokens, source).sample(noise)
    one = vae(corpus).eval().log_likelihood(tokens, z.mean(dim=1, keepdim=True), source)
    assert torch.allclose(model.log_likelihood(tokens, z, source), one)
    assert model.operations_per_token == vae(corpus).operations_per_token


def charged(model: VmfVae, tokens: Tensor) -> Tensor:
    source = generator(3, "noise")
    bound = model.bound(tokens, model.draw_noise(len(tokens), 1, source), source)
    assert torch.allclose(bound.strict, bound.rec + model.concentration.kl)  # whatever training charges
    return bound.charged.sum(dim=1)


def test_the_penalty_on_the_norm_is_charged_and_reported_nowhere(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    model = vae(corpus, norm_penalty=0.5)
    mean = model.to_mean(model.encoder(tokens, generator(0, "unused")))
    expected = model.concentration.kl + 0.5 * (mean.norm(dim=1) - 1.0).square()
    assert torch.allclose(charged(model, tokens), expected)
    assert torch.allclose(charged(vae(corpus), tokens), torch.full((len(tokens),), model.concentration.kl))
    assert isinstance(model.charge, NormPenalty)
    with pytest.raises(ValueError, match="objective iwae .* so that norm_penalty can do nothing"):
        Iwae().check(model)
    Iwae().check(vae(corpus))


def test_the_encoder_may_show_its_cell_too(corpus: Corpus) -> None:
    tokens, source = tokens_of(corpus), generator(0, "unused")
    model = vae(corpus, encoder_summary="hidden_and_cell").eval()
    summary = model.encoder(tokens, source)
    start = torch.full_like(tokens[:, :1], corpus.vocabulary.start)
    words = model.encoder.embedding(torch.cat([start, tokens], dim=1).t())
    _, (hidden, cell) = model.encoder.lstm(words)
    assert torch.allclose(summary, torch.cat([hidden[0], cell[0]], dim=1))
    assert model.to_mean.in_features == 20


def test_a_sphere_has_two_dimensions_at_least(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="takes latent_dim 2 or more, not 1; give it more"):
        vae(corpus, latent_dim=1)


def test_diagnostics_say_nothing_of_active_units(corpus: Corpus) -> None:
    model = vae(corpus).eval()
    split = corpus.splits["test"]
    found, spectrum = measure_use(model, split, 0, "use", 1000, 4)
    assert set(found) == {"mi", "mi_se", "mi_b32", "kl_aggregate", "swap"}
    assert found["mi"] + found["kl_aggregate"] == pytest.approx(model.concentration.kl)
    assert spectrum == pytest.approx([model.concentration.kl])
    assert len(fit_correlation(vae(corpus, samples=2, average=True), split, 1000)) == 0


@pytest.mark.parametrize("draw", [VmfVae.draw_prior, lambda model, num, source: model.draw_noise(num, 1, source)[0, 0]])
def test_latents_are_directions(corpus: Corpus, draw: Callable[[VmfVae, int, torch.Generator], Tensor]) -> None:
    z = draw(vae(corpus), 9, generator(0, "latents"))
    assert z.shape == (9, 4)
    assert torch.allclose(z.norm(dim=1), torch.ones(9), atol=1e-6)
