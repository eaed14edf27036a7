"""Importance weighting: against the one-sentence loop of the plain version, exact values, and flat memory."""

import subprocess
import sys

import pytest
import torch

from data.vocabulary import END, Vocabulary
from model.bounds import FORMS
from model.draws import BLOCK, Draws
from model.gaussian import DiagonalGaussian
from model.importance import importance_weighted
from model.randomness import generator
from model.variants.lstm_vae import Config, LstmVae
from tests import plain

VOCABULARY = Vocabulary((END, "<unk>", *(f"w{index}" for index in range(40))))


def vae(**fields: object) -> LstmVae:
    model = Config.model_validate({"embedding_dim": 6, "hidden_dim": 9, "latent_dim": 3, **fields}).build(VOCABULARY)
    model.initialise(generator(1, "parameters"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0)
    return model.eval()


def tokens(sentences: int, length: int) -> torch.Tensor:
    return torch.randint(len(VOCABULARY), (sentences, length), generator=generator(0, "tokens"))


def nll(
    model: LstmVae,
    sentences: torch.Tensor,
    draws: int,
    *,
    form: str = "strict",
    seed: int = 3,
    tokens_at_once: int = 10**6,
) -> torch.Tensor:
    noise = Draws(model, list(range(len(sentences))), seed, "x", torch.device("cpu"))
    none = torch.zeros(0)
    found = importance_weighted(model, sentences, draws, noise, none, tokens_at_once=tokens_at_once)
    return found[form].nll


@pytest.mark.parametrize("fields", [{}, {"samples": 3, "average": True}, {"inputs": "none"}], ids=repr)
def test_one_sentence_is_that_of_the_loop(fields: dict[str, object]) -> None:
    model, sentence = vae(**fields), tokens(1, 7)
    ours = nll(model, sentence, 250)
    loop = plain.importance_nll(model, sentence, 250, generator(3, "x/0"), chunk=BLOCK)
    assert ours.dtype == torch.float64
    assert torch.allclose(ours, loop, rtol=1e-6, atol=1e-5)


def test_many_sentences_are_each_what_they_are_alone() -> None:
    model, sentences = vae(samples=2, average=True), tokens(5, 6)
    for form in FORMS:
        together = nll(model, sentences, 45, form=form, tokens_at_once=5 * 6 * 2 * 20)
        assert torch.allclose(together[:1], nll(model, sentences[:1], 45, form=form, tokens_at_once=1), atol=1e-5)


def test_one_draw_is_the_sampled_elbo_and_more_draws_are_lower() -> None:
    model, sentences = vae(), tokens(4, 6)
    one = torch.stack([nll(model, sentences, 1, seed=seed) for seed in range(4000)])
    source = generator(0, "y")
    with torch.no_grad():
        elbo = model.bound(sentences, model.draw_noise(4, 4000, source), source).strict
    assert torch.allclose(one.mean(dim=0), elbo.double(), rtol=0.01)
    assert bool((nll(model, sentences, 4000, tokens_at_once=10**5) < one.mean(dim=0)).all())


def test_the_papers_weights_are_the_usual_ones_of_one_latent_and_lower_ones_of_several() -> None:
    sentences = tokens(4, 6)
    model = vae()
    assert torch.equal(nll(model, sentences, 50, form="paper"), nll(model, sentences, 50))
    several = vae(samples=4, average=True)
    paper = torch.stack([nll(several, sentences, 1, form="paper", seed=seed) for seed in range(2000)])
    source = generator(0, "y")
    with torch.no_grad():
        bound = several.bound(sentences, several.draw_noise(4, 4000, source), source)
    # The mean of a log-weight is the paper's number.
    assert torch.allclose(paper.mean(dim=0), bound.paper.double(), rtol=0.02)


def test_draws_come_in_chunks_and_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sentences = vae(samples=2, average=True), tokens(3, 5)
    sizes: list[tuple[int, ...]] = []
    likelihood = LstmVae.log_likelihood

    def counted(self: LstmVae, tokens: torch.Tensor, latents: torch.Tensor, source: torch.Generator) -> torch.Tensor:
        sizes.append(tuple(latents.shape[:3]))
        return likelihood(self, tokens, latents, source)

    monkeypatch.setattr(LstmVae, "log_likelihood", counted)
    nll(model, sentences, 3 * BLOCK + 4, tokens_at_once=3 * 5 * 2 * 2 * BLOCK)
    # Each chunk for all latents together, and for the first alone.
    assert sizes == [(20, 2, 3), (20, 1, 3), (14, 2, 3), (14, 1, 3)]


def test_log_ratio_is_that_of_torch() -> None:
    source = generator(0, "x")
    mean, log_variance = torch.randn(2, 5, 4, generator=source).unbind()
    posterior = DiagonalGaussian(mean, log_variance)
    z = posterior.sample(torch.randn(3, 2, 5, 4, generator=source))
    q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = (torch.distributions.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=-1)
    assert torch.allclose(posterior.log_ratio(z), expected, atol=1e-4)
    # E_q of it is −KL.
    z = posterior.sample(torch.randn(200_000, 1, 5, 4, generator=source))
    assert torch.allclose(-posterior.log_ratio(z).mean(dim=0)[0], posterior.kl(), rtol=0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_memory_does_not_grow_with_the_draws() -> None:
    program = """
import resource, sys, torch
from data.vocabulary import END, Vocabulary
from model import host
from model.draws import Draws
from model.importance import importance_weighted
from model.randomness import generator
from model.variants.lstm_vae import Config
host.set_up()
model = Config(embedding_dim=16, hidden_dim=32).build(Vocabulary((END, *(f"w{i}" for i in range(1999)))))
model.initialise(generator(0, "parameters"))
model.eval()
tokens = torch.randint(2000, (4, 12), generator=generator(0, "tokens"))
noise = Draws(model, range(4), 0, "x", torch.device("cpu"))
importance_weighted(model, tokens, int(sys.argv[1]), noise, torch.zeros(0), tokens_at_once=8192)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", program, str(draws)], capture_output=True, check=True).stdout)
        for draws in (500, 5_000)
    ]
    assert peaks[1] - peaks[0] < 8 * 1024
