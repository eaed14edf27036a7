"""What every architecture keeps, over all files of model/variants/; shapes checked by jaxtyping and beartype."""

import importlib

import pytest
import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from data.batch import sequential_batches
from data.corpus import Corpus
from model.core import Bound, LatentModel, ModelConfig, TextModel
from model.evaluate import EvaluateConfig, evaluate
from model.inputs import ReadingConfig
from model.lstm import LstmConfig
from model.precision import at_precision
from model.randomness import generator
from sweep.config import kinds

SMALL = {"embedding_dim": 7, "hidden_dim": 11, "svi_steps": 3}


def small_configs() -> list[ModelConfig]:
    """Each kind in its default form, in the inputless setting, and with several samples where it has them."""
    configs: list[ModelConfig] = []
    for kind in kinds("model"):
        config_type = importlib.import_module(f"model.variants.{kind}").Config
        fields = config_type.model_fields
        common = {name: value for name, value in SMALL.items() if name in fields}
        patches: list[dict[str, object]] = [{}]
        patches += [{"inputs": "none"}] if issubclass(config_type, LstmConfig) else []
        patches += [{"word_dropout": 0.4}] if issubclass(config_type, ReadingConfig) else []
        if "samples" in fields:
            patches += [{"samples": 3}]
        if "average" in fields:
            patches += [{"samples": 3, "average": True}, {"samples": 3, "average": True, "inputs": "none"}]
        if "average_kl" in fields:
            patches += [{"samples": 3, "average": True, "average_kl": charged} for charged in ("strict", "exch")]
        if "encoder_loss" in fields:
            patches += [{"encoder_loss": "elbo"}, {"encoder_loss": "kl"}, {"amortised": False}]
        if "norm_penalty" in fields:
            patches += [{"norm_penalty": 0.1, "encoder_summary": "hidden_and_cell", "initial_state": "linear_both"}]
        configs += [config_type(**common, **patch) for patch in patches]
    return configs


@pytest.fixture(params=small_configs(), ids=repr)
def model(request: pytest.FixtureRequest, corpus: Corpus) -> TextModel:
    built: TextModel = request.param.build(corpus.vocabulary)
    built.initialise(generator(1, "parameters"))
    return built


@jaxtyped(typechecker=beartype)
def check_bound(rec: Float[Tensor, " B"], kl: Float[Tensor, " B"], tokens: Tensor) -> None:
    assert rec.shape[0] == tokens.shape[0]


@jaxtyped(typechecker=beartype)
def check_latents(
    noise: Float[Tensor, "S L B n"], latents: Float[Tensor, "S L B n"], log_p: Float[Tensor, "S B"]
) -> None: ...


def bound_of(model: TextModel, corpus: Corpus, seed: int = 5, draws: int = 2) -> Bound:
    batch = next(sequential_batches(corpus.splits["train"], 4))
    source = generator(seed, "test")
    noise = model.draw_noise(len(batch.tokens), draws, source)
    return model.bound(batch.tokens, noise, source)


def test_bound_has_a_term_a_sentence(model: TextModel, corpus: Corpus) -> None:
    for batch in sequential_batches(corpus.splits["train"], 4):
        source = generator(5, "test")
        bound = model.bound(batch.tokens, model.draw_noise(len(batch.tokens), 2, source), source)
        check_bound(bound.rec, bound.kl, batch.tokens)
        assert bool((bound.rec > 0).all())
        assert bool((bound.kl >= 0).all())
        assert bool((bound.strict >= bound.paper - 1e-6).all())
        assert bound.latents == model.latents_per_sentence


def test_bfloat16_is_another_rounding_of_the_same(model: TextModel, corpus: Corpus) -> None:
    """Terms and gradients in float32 whatever the architecture, and parameters that stay float32."""
    rounded = at_precision(model, "bf16")
    found, expected = bound_of(rounded, corpus), bound_of(model, corpus)
    check_bound(found.rec, found.kl, next(sequential_batches(corpus.splits["train"], 4)).tokens)
    assert found.rec.dtype == found.kl.dtype == torch.float32
    assert torch.allclose(found.rec, expected.rec, rtol=0.02)
    found.strict.sum().backward()  # type: ignore[no-untyped-call]
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == {torch.float32}


def test_latent_shapes(model: TextModel, corpus: Corpus) -> None:
    if not isinstance(model, LatentModel):
        assert model.latents_per_sentence == 0
        return
    batch = next(sequential_batches(corpus.splits["train"], 4))
    source = generator(5, "test")
    noise = model.draw_noise(4, 2, source)
    latents = model.posterior(batch.tokens, source).sample(noise)
    check_latents(noise, latents, model.log_likelihood(batch.tokens, latents, source))
    assert noise.shape[:2] == (2, model.latents_per_sentence)


def test_every_parameter_has_a_gradient(model: TextModel, corpus: Corpus) -> None:
    bound = bound_of(model, corpus)
    value = bound.rec.sum() + bound.charged.sum()
    (value if bound.beside is None else value + bound.beside.sum()).backward()  # type: ignore[no-untyped-call]
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    assert idle == []


def test_inference_parameters_are_those_that_the_posterior_alone_depends_on(model: TextModel, corpus: Corpus) -> None:
    inference = {id(each) for each in model.inference_parameters()}
    assert {id(each) for each in at_precision(model, "bf16").inference_parameters()} == inference
    if not isinstance(model, LatentModel):
        assert len(inference) == 0
        return
    batch, source = next(sequential_batches(corpus.splits["train"], 4)), generator(5, "test")
    noise = model.draw_noise(len(batch.tokens), 1, source)
    posterior = model.posterior(batch.tokens, source)
    latents = posterior.sample(noise)
    lesson = latents.sum() if posterior.beside is None else latents.sum() + posterior.beside.sum()
    by_posterior = _reached(model, lesson)
    by_likelihood = _reached(model, model.log_likelihood(batch.tokens, latents.detach(), source).sum())
    of_prior = {id(each) for each in model.charge.parameters()}
    assert by_posterior - by_likelihood - of_prior == inference
    assert by_likelihood


def _reached(model: TextModel, value: Tensor) -> set[int]:
    """The parameters that a scalar depends on."""
    if not value.requires_grad:
        return set()
    gradients = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return {id(each) for each, found in zip(model.parameters(), gradients, strict=True) if found is not None}


def test_nothing_but_the_generators_decides(model: TextModel, corpus: Corpus) -> None:
    state = torch.get_rng_state()
    first = bound_of(model, corpus)
    torch.manual_seed(99)
    second = bound_of(model, corpus)
    assert torch.equal(first.rec, second.rec)
    assert not torch.equal(first.rec, bound_of(model, corpus, seed=6).rec)
    torch.set_rng_state(state)
    bound_of(model, corpus)
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_does_not_depend_on_its_batches(model: TextModel, corpus: Corpus) -> None:
    split = corpus.splits["train"]
    per_size = [evaluate(model, split, EvaluateConfig(samples=2, tokens_at_once=n), 3, "x") for n in (1, 50, 10_000)]
    for other in per_size[1:]:
        assert other == pytest.approx(per_size[0], rel=2e-6)


def test_evaluation_is_deterministic_and_without_dropout(model: TextModel, corpus: Corpus) -> None:
    model.train()
    first = evaluate(model, corpus.splits["test"], EvaluateConfig(), 3, "x")
    assert model.training
    model.eval()
    assert evaluate(model, corpus.splits["test"], EvaluateConfig(), 3, "x") == first


def test_no_start_symbol_is_predicted(model: TextModel, corpus: Corpus) -> None:
    rows = [m.out_features for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert len(corpus.vocabulary) in rows
    assert corpus.vocabulary.num_inputs not in rows


def test_it_can_be_built_without_memory(model: TextModel) -> None:
    assert model.operations_per_token > 0


def test_the_future_does_not_reach_a_prediction(model: TextModel, corpus: Corpus) -> None:
    """Changing the last word leaves the log-probability of what stands before it, given the same latents."""
    model.eval()
    source = generator(0, "test")
    batch = list(sequential_batches(corpus.splits["train"], 1))[-1]
    tokens = batch.tokens
    noise = model.draw_noise(1, 1, source)
    latents = torch.randn_like(noise) if isinstance(model, LatentModel) else noise

    def prefix_nll(tokens: Tensor) -> float:
        with torch.no_grad():
            if isinstance(model, LatentModel):
                return float(-model.log_likelihood(tokens[:, :3], latents, source))
            return float(model.bound(tokens[:, :3], noise, source).rec)

    changed = tokens.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % len(corpus.vocabulary)
    assert prefix_nll(tokens) == prefix_nll(changed)
