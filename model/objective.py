"""The one place where the terms of a bound become a loss."""

from typing import Literal

from torch import Tensor

from model.core import Bound

Normalisation = Literal["sentence", "token"]


def loss(bound: Bound, beta: float, tokens_per_sentence: int, normalisation: Normalisation) -> Tensor:
    """Scalar to minimise: rec + beta · KL, one KL whatever the number of latents (paper, Eq. 5 and section 3.2).

    `sentence` sums over tokens and averages over sentences, the scale at which the paper's learning rate and clipping
    threshold act; `token` divides by the predicted tokens instead.
    """
    per_sentence = (bound.rec + beta * bound.kl).mean()
    return per_sentence if normalisation == "sentence" else per_sentence / tokens_per_sentence
