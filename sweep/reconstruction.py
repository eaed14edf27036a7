"""How much of a sentence comes back from its latents."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data.vocabulary import Vocabulary
from sweep.config import unknown
from sweep.reading import HEADING, Reading, Speech, Trained, facts, line, text
from sweep.sampling import choose, latents_of, sentences_of

ORIGINS = {"sample": ("posterior", "a draw from"), "mean": ("mean", "the mean of")}
"""Each of `sampling.PICKS`, and how it is told."""
EXAMPLES = 20
"""Sentences that are shown with what became of them."""


@dataclass(frozen=True)
class Match:
    """How alike sentences and their reconstructions are, position by position.

    token_accuracy: the share of the originals' tokens, words and `</s>`, where the reconstruction has the same token at
    the same position; what it has beyond the original's `</s>` counts for nothing. exact_match: the share of sentences
    with every token right. bleu: of the whole split, 0 to 100, by sacrebleu with its `bleu_signature`.
    """

    sentences: int
    tokens: int
    token_accuracy: float
    exact_match: float
    bleu: float
    bleu_signature: str


def match(originals: Sequence[Sequence[int]], decoded: Sequence[Sequence[int]], vocabulary: Vocabulary) -> Match:
    """Of sentences and their reconstructions as ids, `</s>` among them."""
    pairs = list(zip(originals, decoded, strict=True))
    right = sum(one == other for pair in pairs for one, other in zip(*pair, strict=False))
    tokens = sum(map(len, originals))
    exact = sum(tuple(original) == tuple(found) for original, found in pairs)
    score, signature = bleu(
        [text(each, vocabulary) for each in originals], [text(each, vocabulary) for each in decoded]
    )
    return Match(len(pairs), tokens, right / tokens, exact / len(pairs), score, signature)


def bleu(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[float, str]:
    """BLEU of a corpus, 0 to 100, and the signature of how it was computed."""
    # Imports that the other commands need not pay.
    from sacrebleu.metrics.bleu import BLEU

    # The words of a corpus are the tokens; `force`, for it takes them for text that somebody forgot to take apart.
    metric = BLEU(tokenize="none", force=True)
    score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return float(score), str(metric.get_signature())


def reconstruct(trained: Trained, origin: str, split: str, limit: int | None, speech: Speech) -> Reading:
    """Decode the sentences of a split, or the first `limit`, from their posteriors. origin: of `ORIGINS`."""
    if origin not in ORIGINS:
        raise ValueError(unknown("origin of latents", origin, ORIGINS))
    pick, what = ORIGINS[origin]
    whole, vocabulary = trained.split(split), trained.corpus.vocabulary
    some = choose(whole, np.arange(min(limit or whole.num_sentences, whole.num_sentences)))
    decoded = speech.of(trained, latents_of(trained, some, pick, 1, speech.seed))
    originals = list(sentences_of(some))
    found = match(originals, [each.ids for each in decoded], vocabulary)
    pairs = list(zip(originals, decoded, strict=True))[:EXAMPLES]
    first = "the first " if found.sentences < whole.num_sentences else ""
    lines = [
        f"{first}{found.sentences} sentences of {split}, each decoded from {what} its posterior",
        f"token accuracy {found.token_accuracy:.3f}, exact match {found.exact_match:.3f}, BLEU {found.bleu:.1f}",
        f"BLEU: {found.bleu_signature}; token accuracy: right word at the right position, </s> counted",
        speech.label,
        HEADING,
    ]
    for number, (original, each) in enumerate(pairs, start=1):
        lines += [line(str(number), None, original, vocabulary), line("", each.log_p, each.ids, vocabulary)]
    examples = [{"original": text(ids, vocabulary), "decoded": facts(each, vocabulary)} for ids, each in pairs]
    told = {"from": origin, "split": split, **speech.facts(), **asdict(found), "examples": examples}
    return Reading(f"reconstruct-{origin}", lines, told)
