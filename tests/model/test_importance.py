"""Importance weighting: against the one-sentence loop of the plain version, exact values, and flat memory."""

import subprocess
import sys

import pytest
import torch

from data.vocabulary import END, Vocabulary
from model.gaussian import DiagonalGaussian
from model.importance import importance_nll, weigh
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


@pytest.mark.parametrize("fields", [{}, {"samples": 3, "average": True}, {"inputs": "none"}], ids=repr)
def test_one_sentence_is_that_of_the_loop(fields: dict[str, object]) -> None:
    model, sentence = vae(**fields), tokens(1, 7)
    ours = importance_nll(model, sentence, 250, generator(3, "x"), tokens_at_once=10**6)
    loop = plain.importance_nll(model, sentence, 250, generator(3, "x"), chunk=250)
    assert ours.dtype == torch.float64
    assert torch.allclose(ours, loop, rtol=1e-6, atol=1e-5)


def test_many_sentences_agree_with_the_loop_within_their_noise() -> None:
    model, sentences = vae(), tokens(5, 6)
    ours = importance_nll(model, sentences, 20_000, generator(3, "x"), tokens_at_once=50_000)
    loop = plain.importance_nll(model, sentences, 20_000, generator(4, "x"), chunk=20_000)
    assert torch.allclose(ours, loop, atol=0.05)


def test_one_draw_is_the_sampled_elbo_and_more_draws_are_lower() -> None:
    model, sentences = vae(), tokens(4, 6)
    one = torch.stack([importance_nll(model, sentences, 1, generator(s, "x"), tokens_at_once=99) for s in range(4000)])
    source = generator(0, "y")
    with torch.no_grad():
        elbo = model.bound(sentences, model.draw_noise(4, 4000, source), source).strict
    assert torch.allclose(one.mean(dim=0), elbo.double(), rtol=0.01)
    many = importance_nll(model, sentences, 4000, generator(0, "x"), tokens_at_once=10**5)
    assert bool((many < one.mean(dim=0)).all())


def test_draws_come_in_chunks_and_all_of_them() -> None:
    model, sentences = vae(samples=2, average=True), tokens(3, 5)
    chunks = list(weigh(model, sentences, 17, generator(0, "x"), tokens_at_once=3 * 5 * 2 * 4))
    assert [len(chunk.log_likelihood) for chunk in chunks] == [4, 4, 4, 4, 1]
    assert chunks[0].log_ratio.shape == (4, 2, 3)


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
from model.importance import importance_nll
from model.randomness import generator
from model.variants.lstm_vae import Config
host.set_up()
model = Config(embedding_dim=16, hidden_dim=32).build(Vocabulary((END, *(f"w{i}" for i in range(1999)))))
model.initialise(generator(0, "parameters"))
model.eval()
tokens = torch.randint(2000, (4, 12), generator=generator(0, "tokens"))
importance_nll(model, tokens, int(sys.argv[1]), generator(0, "x"), tokens_at_once=8192)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", program, str(draws)], capture_output=True, check=True).stdout)
        for draws in (500, 5_000)
    ]
    assert peaks[1] - peaks[0] < 8 * 1024
