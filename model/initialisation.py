"""PyTorch's own initialisation, from a given generator: its layers draw from the global one when they are made."""

import math

import torch
from torch import nn


@torch.no_grad()
def initialise_as_torch(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter anew, in place, from the distribution that it has in a layer just made.

    Embeddings N(0, 1); linear maps U(±1/√inputs), weights and biases; LSTMs U(±1/√units). A convolution that is
    written as a linear map has as many inputs as its kernel covers, and so PyTorch's range of a convolution.
    """
    for child in module.modules():
        own = list(child.parameters(recurse=False))
        match child:
            case nn.Embedding():
                child.weight.normal_(generator=generator)
            case nn.Linear():
                # kaiming_uniform_ with a = √5 is √3 · √(2 / (1 + 5)) / √inputs = 1 / √inputs.
                _uniform(own, 1.0 / math.sqrt(child.in_features), generator)
            case nn.LSTM():
                _uniform(own, 1.0 / math.sqrt(child.hidden_size), generator)
            case _:
                assert not own, f"no initialisation is known of a {type(child).__name__}"


def _uniform(parameters: list[nn.Parameter], bound: float, generator: torch.Generator) -> None:
    for parameter in parameters:
        parameter.uniform_(-bound, bound, generator=generator)
