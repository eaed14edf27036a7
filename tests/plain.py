"""The systems as their equations say: one decoder call a sample, PyTorch's LSTM, all logits, its cross-entropy.

The oracle of every fast path, and what the benchmark compares with. Works on the parameters of the real model and draws
the same random numbers in the same order.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.core import Bound, TextModel
from model.gaussian import DiagonalGaussian
from model.lstm import LstmDecoder, LstmEncoder
from model.randomness import dropout
from model.variants.lstm_lm import LstmLm
from model.variants.lstm_vae import LstmVae


def bound(model: TextModel, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
    if isinstance(model, LstmLm):
        rec = -log_likelihood(model, tokens, noise, generator).mean(dim=0)
        return Bound(rec, rec.new_zeros(len(rec), 0), latents=0)
    assert isinstance(model, LstmVae)
    summary = encode(model.encoder, tokens, generator)
    posterior = DiagonalGaussian(model.to_mean(summary), model.to_log_variance(summary))
    rec = -log_likelihood(model, tokens, posterior.sample(noise), generator).mean(dim=0)
    return Bound(rec, posterior.kl_terms(), model.latents_per_sentence)


def encode(encoder: LstmEncoder, tokens: Tensor, generator: torch.Generator) -> Tensor:
    start = torch.full_like(tokens[:, :1], encoder.start)
    words = encoder.embedding(torch.cat([start, tokens], dim=1).t())
    words = words * mask(words.unsqueeze(1), encoder.dropout_rate, encoder.training, generator).squeeze(1)
    hidden: Tensor = encoder.lstm(words)[0][-1]
    return hidden


def log_likelihood(model: LstmLm | LstmVae, tokens: Tensor, latents: Tensor, generator: torch.Generator) -> Tensor:
    """(S, B), from (B, T) tokens and (S, L, B, n) latents."""
    decoder, (draws, chains, sentences, _) = model.decoder, latents.shape
    inputs = model.inputs(tokens, model.training, generator).expand(sentences, -1)
    words = decoder.embedding(inputs.t())
    rows = draws * chains
    rate, training = decoder.input_dropout, decoder.training
    kept = words.new_empty(len(words), 1 if decoder.shared_input_dropout else rows, *words.shape[1:])
    kept = mask(kept, rate, training, generator).expand(-1, rows, -1, -1)
    z = latents.flatten(0, 1)
    wide = z.expand(len(words), -1, -1, -1)
    wide = wide * mask(wide, rate if decoder.latent_dropout else 0.0, training, generator)
    hidden = []
    for row in range(rows):
        start = initial_state(decoder, z[row])
        hidden.append(decoder.lstm(torch.cat([words * kept[:, row], wide[:, row]], dim=-1), start)[0])
    states = torch.stack(hidden, dim=1).unflatten(1, (draws, chains))  # (T, S, L, B, m)
    if decoder.dropout_before_average:
        states = (states * mask(states, decoder.output_dropout, training, generator)).mean(dim=2)
    else:
        states = states.mean(dim=2)
        states = states * mask(states, decoder.output_dropout, training, generator)
    return torch.stack([-nll(decoder, states[:, draw], tokens) for draw in range(draws)])


def nll(decoder: LstmDecoder, states: Tensor, tokens: Tensor) -> Tensor:
    logits = decoder.to_logits(states)  # (T, B, V)
    each = functional.cross_entropy(logits.flatten(0, 1), tokens.t().reshape(-1), reduction="none")
    return each.view(len(states), -1).sum(dim=0)


def initial_state(decoder: LstmDecoder, z: Tensor) -> tuple[Tensor, Tensor]:
    zeros = z.new_zeros(len(z), decoder.lstm.hidden_size)
    hidden, cell = zeros, zeros
    if decoder.to_state is not None:
        state = decoder.to_state(z)
        match decoder.initial_state:
            case "linear":
                hidden = state
            case "tanh_cell":
                hidden, cell = torch.tanh(state), state
            case "linear_both":
                hidden, cell = state.chunk(2, dim=-1)
    return hidden.unsqueeze(0).contiguous(), cell.unsqueeze(0).contiguous()


def mask(like: Tensor, rate: float, training: bool, generator: torch.Generator) -> Tensor:
    ones = torch.ones(like.shape, dtype=like.dtype, device=like.device)
    return dropout(ones, rate if training else 0.0, generator)


def step(
    model: TextModel, optimizer: torch.optim.Optimizer, tokens: Tensor, beta: float, generator: torch.Generator
) -> None:
    """One step of training as the paper's: SGD, the norm of all gradients together clipped at 5."""
    noise = model.draw_noise(len(tokens), model.training_draws, generator)
    found = bound(model, tokens, noise, generator)
    value = (found.rec + beta * found.kl).mean()
    optimizer.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


@torch.no_grad()
def importance_nll(model: LstmVae, tokens: Tensor, draws: int, generator: torch.Generator, chunk: int = 100) -> Tensor:
    """(B,) as the code of He et al. 2019 goes: one sentence at a time, `chunk` draws of it as the rows of a batch."""
    decoder, nlls = model.decoder, []
    for sentence in tokens.split(1):
        summary = encode(model.encoder, sentence, generator)
        mean, deviation = model.to_mean(summary), torch.exp(0.5 * model.to_log_variance(summary))
        words = decoder.embedding(model.inputs(sentence, False, generator).t())
        log_weights = []
        for start in range(0, draws, chunk):
            rows = min(chunk, draws - start)
            noise = model.draw_noise(1, rows, generator)[:, :, 0]  # (S, L, n)
            z = mean + deviation * noise
            states = []
            for chain in z.unbind(dim=1):
                read = torch.cat([words.expand(-1, rows, -1), chain.expand(len(words), -1, -1)], dim=-1)
                states.append(decoder.lstm(read, initial_state(decoder, chain))[0])
            log_p = -nll(decoder, torch.stack(states).mean(dim=0), sentence.expand(rows, -1))
            prior, posterior = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(mean, deviation)
            log_ratio = (prior.log_prob(z) - posterior.log_prob(z)).sum(dim=(1, 2))
            log_weights.append((log_p + log_ratio).double())
        nlls.append(math.log(draws) - torch.cat(log_weights).logsumexp(dim=0))
    return torch.stack(nlls)
