"""What every objective keeps, over all files of model/objectives/; and what each of them is, by hand."""

import importlib
import math

import pytest
import torch
from torch import Tensor

from data.batch import sequential_batches
from data.corpus import Corpus
from model.core import Bound
from model.evaluate import EvaluateConfig, evaluate
from model.objective import Objective
from model.objectives.capacity import Config as Capacity
from model.objectives.elbo import Config as Elbo
from model.objectives.free_bits import Config as FreeBits
from model.objectives.iwae import Config as Iwae
from model.precision import at_precision
from model.randomness import generator
from model.train import TrainConfig
from model.updates.joint import Config as Joint
from model.variants.lstm_lm import Config as LmConfig
from model.variants.lstm_vae import Config as VaeConfig
from model.variants.lstm_vae import LstmVae
from sweep.config import kinds


@pytest.fixture(params=kinds("objective"))
def objective(request: pytest.FixtureRequest) -> Objective:
    config: Objective = importlib.import_module(f"model.objectives.{request.param}").Config()
    return config


def make(corpus: Corpus, **fields: object) -> LstmVae:
    model = VaeConfig(embedding_dim=6, hidden_dim=9, latent_dim=3, init_range=0.5, **fields).build(corpus.vocabulary)  # type: ignore[arg-type]
    model.initialise(generator(1, "parameters"))
    return model


def tokens_of(corpus: Corpus) -> Tensor:
    return next(sequential_batches(corpus.splits["train"], 8)).tokens


def value(
    objective: Objective, model: LstmVae, tokens: Tensor, beta: float = 0.5, epoch: float = 2.0
) -> tuple[Tensor, Bound]:
    source = generator(4, "step")
    noise = model.draw_noise(len(tokens), model.training_draws, source)
    return objective.at(epoch, beta)(model, tokens, noise, source)


def test_it_is_a_scalar_whose_gradient_reaches_every_parameter(objective: Objective, corpus: Corpus) -> None:
    for fields in ({}, {"samples": 3}, {"samples": 3, "average": True}):
        model = make(corpus, **fields)
        objective.check(model)
        found, bound = value(objective, model, tokens_of(corpus), epoch=0.0)
        assert found.shape == ()
        assert bound.kl_terms.shape == (8, 3)
        found.backward()  # type: ignore[no-untyped-call]
        without = {name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()}
        # Embeddings are one table: some word of it is in the batch.
        assert not without or isinstance(objective, FreeBits)


def test_what_it_reports_is_the_bound_without_its_own_terms(objective: Objective, corpus: Corpus) -> None:
    model, tokens = make(corpus, samples=2), tokens_of(corpus)
    reported, plain = value(objective, model, tokens)[1], value(Elbo(), model, tokens)[1]
    assert torch.allclose(reported.rec, plain.rec, rtol=1e-5)
    assert torch.equal(reported.kl_terms, plain.kl_terms)


def test_the_numbers_of_a_moment_may_be_tensors(objective: Objective, corpus: Corpus) -> None:
    """To the same bits, so that a step can be repeated while what they hold changes."""
    found = []
    moment = objective.moment(2.0, 0.3)
    for numbers in (moment, [torch.tensor(number) for number in moment]):
        model, source = make(corpus, samples=3), generator(4, "step")
        tokens = tokens_of(corpus)
        noise = model.draw_noise(len(tokens), model.training_draws, source)
        value, _ = objective.given(0.3, numbers)(model, tokens, noise, source)
        value.backward()  # type: ignore[no-untyped-call]
        found.append([value.detach(), *(each.grad for each in model.parameters() if each.grad is not None)])
    assert found[0][0].dtype == found[1][0].dtype
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_it_trains_in_bfloat16_too(objective: Objective, corpus: Corpus) -> None:
    model = make(corpus, samples=2)
    batch = next(sequential_batches(corpus.splits["train"], 8))
    step = Joint().build(at_precision(model, "bf16")).step(batch, objective.at(1.0, 0.5), generator(0, "step"))
    assert not bool(step.skipped)
    assert step.bound.rec.dtype == step.bound.kl_terms.dtype == torch.float32


def test_a_language_model_has_the_elbo_alone(objective: Objective, corpus: Corpus) -> None:
    model = LmConfig(embedding_dim=6, hidden_dim=9).build(corpus.vocabulary)
    if isinstance(objective, Elbo):
        objective.check(model)
    else:
        with pytest.raises(ValueError, match="is about latent variables, .*; give it objective: elbo"):
            objective.check(model)


def test_averaged_latents_are_charged_as_the_model_says(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    charged = {}
    for which in ("paper", "strict", "exch"):
        model = make(corpus, samples=4, average=True, average_kl=which)
        found, bound = value(Elbo(), model, tokens, beta=0.5)
        assert torch.allclose(found, (bound.rec + 0.5 * bound.charged.sum(dim=1)).mean())
        charged[which] = bound.charged.sum(dim=1)
        assert torch.equal(bound.kl, charged["paper"])  # what is reported is the same
    assert torch.allclose(charged["strict"], 4 * charged["paper"])
    # ρ is near ½ before training; whatever it is, the joint KL is at least that of one latent.
    assert bool((charged["exch"] >= charged["paper"] - 1e-6).all())
    floor = FreeBits(nats=100.0)
    found, _ = value(floor, make(corpus, samples=4, average=True, average_kl="strict"), tokens, beta=1.0)
    assert found.item() > 100.0


def test_a_charge_that_can_do_nothing_is_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="average_kl: strict is about several latents in one likelihood"):
        make(corpus, samples=4, average_kl="strict")
    with pytest.raises(ValueError, match="average_kl: exch can do nothing"):
        Iwae().check(make(corpus, samples=4, average=True, average_kl="exch"))
    Iwae().check(make(corpus, samples=4, average=True, average_kl="strict"))
    judged = TrainConfig(select="nelbo_charged")
    judged.check(make(corpus, samples=4, average=True, average_kl="exch"))
    with pytest.raises(ValueError, match="select: nelbo_charged is of models that are charged another KL"):
        judged.check(make(corpus, samples=4, average=True))


def test_what_is_charged_is_measured_where_it_is_not_the_papers(corpus: Corpus) -> None:
    split, evaluation = corpus.splits["valid"], EvaluateConfig()
    strict = evaluate(make(corpus, samples=4, average=True, average_kl="strict"), split, evaluation, 0, "x")
    assert strict["nelbo_charged"] == pytest.approx(strict["nll"])
    assert "nelbo_charged" not in evaluate(make(corpus, samples=4, average=True), split, evaluation, 0, "x")


def test_the_elbo_is_rec_and_one_weighted_kl(corpus: Corpus) -> None:
    found, bound = value(Elbo(), make(corpus, samples=2, average=True), tokens_of(corpus), beta=0.3)
    assert torch.equal(found, (bound.rec + 0.3 * bound.kl).mean())


def test_normalisation_by_tokens_divides_by_them(corpus: Corpus) -> None:
    batch, gradients = next(sequential_batches(corpus.splits["train"], 8)), []
    for normalisation in ("sentence", "token"):
        model = make(corpus)
        update = Joint(normalisation=normalisation, learning_rate=1e-9, clip=1e9).build(model)
        update.step(batch, Elbo().at(0.0, 1.0), generator(0, "step"))
        gradients.append(model.to_mean.weight.grad)
    assert torch.allclose(gradients[0], gradients[1] * batch.tokens.shape[1], rtol=1e-4)


def test_free_bits_in_its_four_forms() -> None:
    kl = torch.tensor([[0.1, 3.0], [0.5, 1.0]])
    forms = {
        # max(λ/n, mean over the batch), summed over dimensions: max(1, 0.3) + max(1, 2)
        (True, False): 3.0,
        # mean over the batch of the sum of max(λ/n, ·): ((1 + 3) + (1 + 1)) / 2
        (True, True): 3.0,
        # max(λ, mean of the whole): max(2, 2.3)
        (False, False): 2.3,
        # mean of max(λ, whole): (3.1 + 2) / 2
        (False, True): 2.55,
    }
    for (by_dimension, by_sentence), expected in forms.items():
        objective = FreeBits(nats=2.0, by_dimension=by_dimension, by_sentence=by_sentence)
        assert float(objective.clamped(kl)) == pytest.approx(expected)


def test_the_forms_of_free_bits_differ_and_leave_a_large_kl_alone() -> None:
    kl = torch.rand(16, 4, generator=generator(0, "kl")) * torch.tensor([0.5, 1.0, 2.0, 4.0])
    forms = [FreeBits(nats=3.9, by_dimension=d, by_sentence=s) for d in (True, False) for s in (True, False)]
    assert len({float(form.clamped(kl)) for form in forms}) == 4
    for form in forms:
        assert float(form.clamped(kl + 4.0)) == pytest.approx(float((kl + 4.0).sum(dim=1).mean()))


def test_below_the_floor_the_kl_has_no_gradient(corpus: Corpus) -> None:
    model = make(corpus)
    found, bound = value(FreeBits(nats=99.0), model, tokens_of(corpus), beta=1.0)
    assert found.item() == pytest.approx(bound.rec.mean().item() + 99.0)


def test_capacity_holds_the_kl_at_its_target(corpus: Corpus) -> None:
    objective = Capacity(nats=8.0, epochs=4.0, gamma=3.0)
    assert [objective.target(epoch) for epoch in (0.0, 1.0, 4.0, 9.0)] == [0.0, 2.0, 8.0, 8.0]
    found, bound = value(objective, make(corpus), tokens_of(corpus), beta=1.0, epoch=2.0)
    assert found.item() == pytest.approx((bound.rec.mean() + 3.0 * (bound.kl.mean() - 4.0).abs()).item())


def test_the_importance_weighted_objective_by_hand(corpus: Corpus) -> None:
    """−log mean of p(x|z) p(z) / q(z|x), from torch's own densities."""
    model, tokens = make(corpus, samples=5), tokens_of(corpus)
    model.eval()
    found, _ = value(Iwae(), model, tokens, beta=1.0)
    source = generator(4, "step")
    noise = model.draw_noise(len(tokens), 5, source)
    posterior = model.posterior(tokens, source)
    z = posterior.sample(noise)
    q = torch.distributions.Normal(posterior.mean, torch.exp(0.5 * posterior.log_variance))
    ratio = (torch.distributions.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=(1, 3))
    weights = model.log_likelihood(tokens, z, source) + ratio
    assert found.item() == pytest.approx(-(weights.logsumexp(dim=0) - math.log(5)).mean().item(), rel=1e-5)


def test_more_draws_tighten_the_importance_weighted_objective(corpus: Corpus) -> None:
    tokens = tokens_of(corpus)
    one, many = (value(Iwae(), make(corpus, samples=s).eval(), tokens, beta=1.0)[0].item() for s in (1, 200))
    assert many < one
    assert one == pytest.approx(value(Elbo(), make(corpus, samples=200).eval(), tokens, beta=1.0)[0].item(), rel=0.2)
