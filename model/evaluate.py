"""Evaluation of a split: bounds with dropout off and latents sampled; sums over sentences and tokens, then divided."""

import math

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from data.batch import batches_of_tokens, on_device
from data.corpus import Split
from model.core import TextModel
from model.precision import products
from model.randomness import generator


class EvaluateConfig(BaseModel):
    """How a split is measured.

    samples: draws S of the latents a sentence (of the whole tuple, for averaged hidden states).
    tokens_at_once: decoded side by side, each sentence S · L times; bounds memory, and changes nothing but rounding.
    test: whether the test split is read, once, at the end; the trials of a search never read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: PositiveInt = 1
    tokens_at_once: PositiveInt = 8192
    test: bool = Field(True, json_schema_extra={"in_key": "unless default", "in_shape": False})


@torch.no_grad()
def evaluate(model: TextModel, split: Split, config: EvaluateConfig, seed: int, purpose: str) -> dict[str, float]:
    """Metrics of a split at KL weight 1; leaves the model in the mode it was in.

    nll: strict bound on −log p(x) (exact for a language model); nelbo_paper: reconstruction and one KL term; rec, kl:
    those terms; all in nats per sentence, `</s>` counted. ppl, ppl_paper: exp(total / predicted tokens).
    nelbo_charged: reconstruction and the KL that training charges, only where that is not the paper's.
    The noise belongs to the sentence, not to the batch: the batch size changes nothing but the rounding.
    """
    device = next(model.parameters()).device
    source = generator(seed, f"evaluate/{purpose}", device)
    noise = model.draw_noise(split.num_sentences, config.samples, source)
    was_training = model.training
    model.eval()
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    charged: Tensor | None = None
    done = 0
    tokens_at_once = config.tokens_at_once // math.prod(noise.shape[:2])
    for batch in on_device(batches_of_tokens(split, tokens_at_once), device):
        tokens = batch.tokens
        with products("fp32", device):
            bound = model.bound(tokens, noise[:, :, done : done + len(tokens)], source)
        done += len(tokens)
        terms = torch.stack([bound.strict, bound.paper, bound.rec, bound.kl])
        totals += terms.double().sum(dim=1)
        if bound.charged_terms is not None:
            some = (bound.rec + bound.charged_terms.sum(dim=1)).double().sum()
            charged = some if charged is None else charged + some
    model.train(was_training)
    assert done == split.num_sentences
    found = metrics(totals.tolist(), split.num_sentences, split.num_tokens)
    return found if charged is None else {**found, "nelbo_charged": charged.item() / split.num_sentences}


def metrics(totals: list[float], sentences: int, tokens: int) -> dict[str, float]:
    """Named averages of the totals (strict, paper, rec, kl), in nats, over a number of sentences and tokens."""
    strict, paper, rec, kl = totals
    return {
        "nll": strict / sentences,
        "nelbo_paper": paper / sentences,
        "rec": rec / sentences,
        "kl": kl / sentences,
        "ppl": perplexity(strict, tokens),
        "ppl_paper": perplexity(paper, tokens),
    }


def perplexity(nats: float, tokens: int) -> float:
    """Of predicted tokens that have so many nats in all."""
    # A model before its first epochs, or one that diverged, can exceed what a float holds.
    return math.exp(min(nats / tokens, 700.0))
