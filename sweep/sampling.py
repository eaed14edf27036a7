"""Sentences from a model's latent space: from its prior, from posteriors, and along the way between two sentences."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.batch import batches_of_tokens, on_device
from data.corpus import Split
from model.core import LatentModel, Posterior
from model.decode import between
from model.exchangeable import fit_correlation
from model.exchangeable import sample_prior as sample_correlated
from model.randomness import generator
from sweep.config import shown, unknown
from sweep.reading import HEADING, Reading, Speech, Trained, encode, facts, line, text

TOKENS_AT_ONCE = 8192
"""Encoded side by side."""


@dataclass(frozen=True)
class Prior:
    """A way to draw the L latents of a sentence from the prior; all are the same for L = 1.

    label: how it is told. draw: (R, L or 1, n) latents of R sentences, from a generator on the CPU.
    """

    label: str
    draw: Callable[[Trained, int, torch.Generator], Tensor]


def draw_independent(trained: Trained, num: int, source: torch.Generator) -> Tensor:
    model = trained.model
    if not isinstance(model, LatentModel):
        return model.draw_noise(num, 1, source)[0].transpose(0, 1)  # of no dimension
    chains = model.latents_per_sentence
    return model.draw_prior(chains * num, source).view(chains, num, -1).transpose(0, 1)


def draw_repeated(trained: Trained, num: int, source: torch.Generator) -> Tensor:
    return draw_independent(trained, num, source)[:, :1]


def draw_exchangeable(trained: Trained, num: int, source: torch.Generator) -> Tensor:
    """Raises ValueError where the latents of a sentence have no prior in which they are correlated."""
    correlation = fit_correlation(trained.latent_model, trained.split("train"), TOKENS_AT_ONCE).to(source.device)
    if len(correlation) == 0:
        raise ValueError(
            f"trial {trained.key[:12]} has latents whose prior knows no correlation, so that there are no exchangeable "
            f"ones; ask for independent or repeated ones"
        )
    return sample_correlated(num, trained.model.latents_per_sentence, correlation, source)


PRIORS: dict[str, Prior] = {
    "independent": Prior(
        "independent: the prior of the strict bound, far from what training decodes", draw_independent
    ),
    "exchangeable": Prior("exchangeable: with correlations fitted on train", draw_exchangeable),
    "repeated": Prior("one repeated", draw_repeated),
}


def sample_prior(trained: Trained, way: str, num: int, speech: Speech) -> Reading:
    """Sentences from latents that know of no sentence. way: of `PRIORS`."""
    if way not in PRIORS:
        raise ValueError(unknown("way to draw latents", way, PRIORS))
    chains, vocabulary = trained.model.latents_per_sentence, trained.corpus.vocabulary
    prior = PRIORS[way if chains > 1 else "independent"]
    decoded = speech.of(trained, prior.draw(trained, num, generator(speech.seed, "reading/prior")))
    how = f", {chains} latents a sentence, {prior.label}" if chains > 1 else ""
    lines = [f"from the prior{how}", speech.label, HEADING]
    lines += [line(str(number), each.log_p, each.ids, vocabulary) for number, each in enumerate(decoded, start=1)]
    told = {"from": "prior", **({"latents": way} if chains > 1 else {}), **speech.facts()}
    name = f"sample-prior-{way}" if chains > 1 else "sample-prior"
    return Reading(name, lines, {**told, "sentences": [facts(each, vocabulary) for each in decoded]})


PICKS: Mapping[str, Callable[[Posterior, Tensor], Tensor]] = {
    "posterior": lambda posterior, noise: posterior.sample(noise),
    # Chains that start from one latent have one state, so that a single one does for all.
    "mean": lambda posterior, noise: posterior.location.expand(len(noise), 1, -1, -1),
}
"""(D, L or 1, B, n) latents of the posteriors of B sentences, from (D, L, B, n) base noise."""


@torch.no_grad()
def latents_of(trained: Trained, split: Split, origin: str, draws: int, seed: int) -> Tensor:
    """(N · D, L or 1, n): D draws for each of the N sentences of a split, one sentence after another.

    origin: of `PICKS`. The noise belongs to the sentence, not to the batch in which it is encoded.
    """
    if origin not in PICKS:
        raise ValueError(unknown("origin of latents", origin, ("prior", *PICKS)))
    model, device = trained.latent_model, trained.device
    noise = model.draw_noise(split.num_sentences, draws, generator(seed, "reading/posterior")).to(device)
    found: dict[int, Tensor] = {}
    for batch in on_device(batches_of_tokens(split, TOKENS_AT_ONCE), device):
        posterior = model.posterior(batch.tokens, generator(seed, "reading/encoder", device))
        latents = PICKS[origin](posterior, noise[:, :, batch.indices.to(device)])
        found.update(zip(batch.indices.tolist(), latents.permute(2, 0, 1, 3), strict=True))
    return torch.cat([found[sentence] for sentence in range(split.num_sentences)])


def sample_posterior(trained: Trained, origin: str, split: str, num: int, draws: int, speech: Speech) -> Reading:
    """At most `num` sentences of a split, chosen by the seed, each with what `draws` of its latents come to.

    origin: of `PICKS`.
    """
    whole, vocabulary = trained.split(split), trained.corpus.vocabulary
    order = torch.randperm(whole.num_sentences, generator=generator(speech.seed, "reading/sentences"))
    some = choose(whole, order[:num].sort().values.numpy())
    decoded = iter(speech.of(trained, latents_of(trained, some, origin, draws, speech.seed)))
    what = {"posterior": "draws from", "mean": "the mean of"}[origin]
    lines = [f"sentences of {split}, each with what is decoded from {what} its posterior", speech.label, HEADING]
    sentences = []
    for number, ids in enumerate(sentences_of(some), start=1):
        own = [next(decoded) for _ in range(draws)]
        lines += [
            line(str(number), None, ids, vocabulary),
            *(line("", each.log_p, each.ids, vocabulary) for each in own),
        ]
        sentences.append({"original": text(ids, vocabulary), "decoded": [facts(each, vocabulary) for each in own]})
    told = {"from": origin, "split": split, **speech.facts()}
    return Reading(f"sample-{origin}", lines, {**told, "sentences": sentences})


@torch.no_grad()
def interpolate(trained: Trained, ends: tuple[str, str], steps: int, speech: Speech) -> Reading:
    """Sentences along the way from one sentence to another through the middles of their posteriors, in even steps."""
    vocabulary, model, device = trained.corpus.vocabulary, trained.latent_model, trained.device
    encoded = [encode(sentence, vocabulary) for sentence in ends]
    posteriors = [
        model.posterior(torch.tensor([ids], device=device), generator(speech.seed, "reading/encoder", device))
        for ids, _ in encoded
    ]
    shares = torch.linspace(0.0, 1.0, steps, device=device)
    decoded = speech.of(trained, between(posteriors[0], posteriors[1], shares).unsqueeze(1))
    unknown_word = vocabulary.words[vocabulary.unknown]
    strange = list(dict.fromkeys(word for _, words in encoded for word in words))
    lines = [f"note: {', '.join(map(shown, strange))} not in the vocabulary, read as {unknown_word}"] * bool(strange)
    lines += [speech.label, HEADING, line("a", None, encoded[0][0], vocabulary)]
    told = list(zip(shares.tolist(), decoded, strict=True))
    lines += [line(f"{share:.2f}", each.log_p, each.ids, vocabulary) for share, each in told]
    lines.append(line("b", None, encoded[1][0], vocabulary))
    return Reading(
        "interpolate",
        lines,
        {
            "ends": [text(ids, vocabulary) for ids, _ in encoded],
            "unknown": strange,
            **speech.facts(),
            "sentences": [{"share": share, **facts(each, vocabulary)} for share, each in told],
        },
    )


def choose(split: Split, indices: npt.NDArray[np.int64]) -> Split:
    """Some sentences of a split, in that order."""
    sentences = [split.tokens[split.offsets[index] : split.offsets[index + 1]] for index in indices]
    offsets = np.cumsum([0, *map(len, sentences)], dtype=np.int64)
    return Split(np.concatenate([split.tokens[:0], *sentences]), offsets)


def sentences_of(split: Split) -> Iterator[list[int]]:
    """Ids of each sentence, `</s>` among them."""
    for start, end in zip(split.offsets[:-1], split.offsets[1:], strict=True):
        yield split.tokens[start:end].tolist()
