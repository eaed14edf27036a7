"""Bounds on −log p(x) of sentences: what the paper prints, and what is strict beside it.

Averaged hidden states condition one likelihood on L latents. The paper charges one KL for them, which bounds nothing;
see the forms in `bounds_of`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from data.batch import Batch
from model.core import Exchangeable, LatentModel, Posterior, TextModel
from model.draws import Draws

FORMS = ("paper", "strict", "exch", "l1")


@torch.no_grad()
def bounds_of(
    model: TextModel, batch: Batch, samples: int, correlation: Tensor, seed: int, purpose: str
) -> Mapping[str, Tensor]:
    """(B,) `rec`, `kl` of one latent, and the bounds by form, nats, each a mean over S = `samples` draws.

    `paper`: rec and one KL, which is no bound for L > 1 latents in one likelihood. `strict`: rec and L KLs, a bound
    with L independent latents. `exch`: rec and the KL from the exchangeable prior of (n,) correlations. `l1`: the same
    weights given one latent at a time, and one KL: `paper` and what averaging gains by Jensen's inequality, since the
    mean of log-sum-exps is at least that of the mean. Of a language model all are exact, and there is no `kl`. The
    model is in evaluation mode.
    """
    assert not model.training
    tokens, unused = batch.tokens, torch.Generator(batch.tokens.device)
    noise = Draws(model, batch.indices.tolist(), seed, purpose, tokens.device)
    if not isinstance(model, LatentModel):
        rec = model.bound(tokens, noise.take(1), unused).rec.double()
        return {"rec": rec, **dict.fromkeys(FORMS, rec)}
    posterior = model.posterior(tokens, noise.inference)
    recs: list[Tensor] = []
    alone: list[Tensor] = []
    # One draw at a time: a batch is as large as memory allows.
    for latents in posterior.sample(noise.take(samples)).unsqueeze(1):
        recs.append(-model.log_likelihood(tokens, latents, unused).double().squeeze(0))
        if latents.shape[1] > 1:
            one_by_one = latents.transpose(0, 1)  # L draws of one latent
            alone.append(-model.log_likelihood(tokens, one_by_one, unused).double().mean(dim=0))
    rec, kl = torch.stack(recs).mean(dim=0), posterior.kl().double()
    paper = rec + kl
    found = {"rec": rec, "kl": kl, "paper": paper, "strict": rec + model.latents_per_sentence * kl}
    found["exch"] = rec + _joint_kl(posterior, correlation, model.latents_per_sentence)
    found["l1"] = torch.stack(alone).mean(dim=0) + kl if alone else paper
    return found


def _joint_kl(posterior: Posterior, correlation: Tensor, latents: int) -> Tensor:
    """(B,) float64 KL of all latents of a sentence, from the exchangeable prior where there is one."""
    if isinstance(posterior, Exchangeable) and len(correlation):
        return posterior.correlated_kl_terms(latents, correlation).double().sum(dim=1)
    return latents * posterior.kl().double()
