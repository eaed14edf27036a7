"""A small SA-VAE, and a step of its training."""

from typing import Any

from torch import Tensor

from data.batch import Batch, sequential_batches
from data.corpus import Corpus
from model.core import Bound, LatentModel
from model.objective import Objective
from model.objectives.elbo import Config as Elbo
from model.randomness import generator
from model.variants.sa_vae import Config, SaVae

SMALL = {"embedding_dim": 6, "hidden_dim": 9, "latent_dim": 3, "init_range": 0.5}


def sa_vae(corpus: Corpus, **fields: Any) -> SaVae:
    model = Config(**{**SMALL, "svi_steps": 4, **fields}).build(corpus.vocabulary)
    model.initialise(generator(1, "parameters"))
    return model


def batch_of(corpus: Corpus, size: int = 8) -> Batch:
    return list(sequential_batches(corpus.splits["train"], size))[-2]


def value(
    model: LatentModel, tokens: Tensor, beta: float = 0.4, objective: Objective | None = None
) -> tuple[Tensor, Bound]:
    source = generator(4, "step")
    noise = model.draw_noise(len(tokens), model.training_draws, source)
    return (objective or Elbo()).at(1.0, beta)(model, tokens, noise, source)


def gradients(model: LatentModel) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
