"""Decoding of a model small enough to be searched by hand: a word depends on the word before it, and on the latent."""

import itertools
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from data.vocabulary import END, Vocabulary
from model.beam import Beam
from model.core import Bound, Reader, TextModel
from model.decode import Decoding, Greedy, Sample, between, decode
from model.gaussian import DiagonalGaussian
from model.inputs import DecoderInputs
from model.randomness import generator

VOCABULARY = Vocabulary((END, "<unk>", "a", "b", "c"))
LONGEST = 5


class Chain(TextModel):
    """log p of a word after each, <s> the last of them: one table a latent, which is its index. (K, V + 1, V)."""

    def __init__(self, seed: int, tables: int = 6):
        super().__init__()
        shape = (tables, len(VOCABULARY) + 1, len(VOCABULARY))
        self.tables = torch.nn.Parameter(2.0 * torch.randn(shape, generator=generator(seed, "tables")))

    def initialise(self, generator: torch.Generator) -> None: ...

    def draw_noise(self, num_sentences: int, draws: int, generator: torch.Generator) -> Tensor:
        return torch.empty(0)

    def bound(self, tokens: Tensor, noise: Tensor, generator: torch.Generator) -> Bound:
        return Bound(torch.empty(0), torch.empty(0, 0), 0)

    def reader(self, latents: Tensor) -> Reader:
        return ChainReader(self.log_p()[latents[:, 0, 0].long()])

    def log_p(self) -> Tensor:
        return self.tables.log_softmax(dim=-1)

    @property
    def operations_per_token(self) -> float:
        return 1.0


class ChainReader(Reader):
    def __init__(self, tables: Tensor):
        self.tables = tables

    def read(self, words: Tensor) -> Tensor:
        return self.tables[torch.arange(len(words)), words]

    def keep(self, rows: Tensor) -> None:
        self.tables = self.tables[rows]


def latents(num: int = 6) -> Tensor:
    return torch.arange(float(num)).view(-1, 1, 1)


def log_p_of(table: Tensor, ids: tuple[int, ...]) -> float:
    return sum(float(table[before, after]) for before, after in itertools.pairwise((VOCABULARY.start, *ids)))


def all_sentences() -> list[tuple[int, ...]]:
    """Those that end within `LONGEST` tokens."""
    words = range(1, len(VOCABULARY))
    return [(*each, VOCABULARY.end) for length in range(LONGEST) for each in itertools.product(words, repeat=length)]


def he_et_al(table: Tensor, width: int, penalty: float = 0.0) -> tuple[int, ...]:
    """One sentence at a time, in lists, as their `beam_search_decode`; what was cut counts where nothing has ended."""
    live, ended = [((), 0.0)], []
    for _ in range(LONGEST):
        longer = [((*ids, word), log_p + float(table[(VOCABULARY.start, *ids)[-1], word]))
                  for ids, log_p in live for word in range(len(VOCABULARY))]  # fmt: skip
        best = sorted(longer, key=lambda each: -each[1])[: width - len(ended)]
        ended += [each for each in best if each[0][-1] == VOCABULARY.end]
        live = [each for each in best if each[0][-1] != VOCABULARY.end]
    return max(ended or live, key=lambda each: each[1] / len(each[0]) ** penalty)[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("penalty", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 11])
def test_beams_go_as_those_of_he_et_al(seed: int, penalty: float, width: int) -> None:
    model = Chain(seed)
    found = decode(
        model, latents(), VOCABULARY, Beam(beam_width=width, length_penalty=penalty), max_length=LONGEST
    )  # fmt: skip
    tables = model.log_p().detach()
    assert [each.ids for each in found] == [he_et_al(table, width, penalty) for table in tables]
    assert [each.log_p for each in found] == pytest.approx(
        [log_p_of(table, each.ids) for table, each in zip(tables, found, strict=True)], abs=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_beam_that_holds_everything_finds_the_most_probable_sentence(seed: int) -> None:
    model, sentences = Chain(seed), all_sentences()
    found = decode(model, latents(), VOCABULARY, Beam(beam_width=2000), max_length=LONGEST)
    for table, each in zip(model.log_p().detach(), found, strict=True):
        assert each.ids == max(sentences, key=lambda ids, table=table: log_p_of(table, ids))  # type: ignore[misc]


def test_a_wider_beam_costs_no_probability_here() -> None:
    model = Chain(3)
    narrow, wide = (
        decode(model, latents(), VOCABULARY, decoding, max_length=30) for decoding in (Greedy(), Beam(beam_width=8))
    )
    ended = [(one, other) for one, other in zip(narrow, wide, strict=True) if not one.is_cut(VOCABULARY)]
    assert ended
    assert all(other.log_p >= one.log_p - 1e-6 for one, other in ended)


def test_a_length_penalty_prefers_longer_sentences() -> None:
    """</s> at once has 0.5; after one word, 0.4: per token the second is better."""
    model = Chain(0, tables=1)
    p = torch.full((len(VOCABULARY) + 1, len(VOCABULARY)), 1e-9)
    p[VOCABULARY.start, :3], p[2:5, 0] = torch.tensor([0.5, 0.1, 0.4]), 1.0
    with torch.no_grad():
        model.tables[0] = p.log()
    plain, normalised = (
        decode(model, latents(1), VOCABULARY, Beam(beam_width=3, length_penalty=each))[0] for each in (0.0, 1.0)
    )
    assert plain.ids == (0,)
    assert normalised.ids == (2, 0)
    assert normalised.log_p == pytest.approx(math.log(0.4), abs=1e-5)


def frequencies(decoding: Decoding, num: int = 20_000) -> tuple[Tensor, Tensor]:
    """Of the first word: as drawn, and as the model has it."""
    model = Chain(1)
    found = decode(model, torch.zeros(num, 1, 1), VOCABULARY, decoding, max_length=1)
    counts = torch.bincount(torch.tensor([each.ids[0] for each in found]), minlength=len(VOCABULARY))
    return counts.double() / num, model.log_p()[0, VOCABULARY.start].detach().double().exp()


def test_words_are_drawn_as_often_as_they_are_probable() -> None:
    drawn, p = frequencies(Sample())
    assert torch.allclose(drawn, p, atol=0.015)
    drawn, p = frequencies(Sample(temperature=2.0))
    assert torch.allclose(drawn, p.sqrt() / p.sqrt().sum(), atol=0.015)


def test_the_tail_is_cut_after_the_temperature() -> None:
    """By number, then by share: two of five; of those that remain, as few as have the share."""
    _, p = frequencies(Sample(), num=1)
    order = p.argsort(descending=True)
    drawn, _ = frequencies(Sample(top_k=2))
    expected = torch.zeros_like(p)
    expected[order[:2]] = p[order[:2]] / p[order[:2]].sum()
    assert torch.allclose(drawn, expected, atol=0.015)
    shares = p[order].cumsum(dim=0)
    drawn, _ = frequencies(Sample(top_p=float(shares[1]) + 1e-6))
    assert sorted(drawn.nonzero().flatten().tolist()) == sorted(order[:3].tolist())
    drawn, _ = frequencies(Sample(top_p=float(shares[1]) - 1e-6))
    assert sorted(drawn.nonzero().flatten().tolist()) == sorted(order[:2].tolist())
    drawn, _ = frequencies(Sample(top_k=2, top_p=float(p[order[0]] / p[order[:2]].sum()) - 1e-6))
    assert drawn.nonzero().flatten().tolist() == [int(order[0])]
    drawn, _ = frequencies(Sample(temperature=100.0, top_p=0.7))
    assert len(drawn.nonzero()) == 4


def test_cutting_nothing_changes_no_word() -> None:
    model = Chain(2)
    first, second = (
        decode(model, latents(), VOCABULARY, each, seed=4) for each in (Sample(), Sample(top_k=9, top_p=1.0))
    )
    assert first == second


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e9, 1e300])
def test_no_temperature_is_too_extreme(temperature: float) -> None:
    found = decode(Chain(0), latents(), VOCABULARY, Sample(temperature=temperature), max_length=LONGEST)
    assert all(math.isfinite(each.log_p) for each in found)


@pytest.mark.parametrize(
    ("decoding", "field", "value"),
    [
        (Sample, "temperature", 0.0),
        (Sample, "temperature", -1.0),
        (Sample, "temperature", math.nan),
        (Sample, "top_k", 0),
        (Sample, "top_p", 0.0),
        (Sample, "top_p", 1.1),
        (Beam, "beam_width", 0),
        (Beam, "length_penalty", -0.1),
        (Greedy, "temperature", 1.0),
    ],
)
def test_what_makes_no_sense_is_refused(decoding: type[Decoding], field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        decoding.model_validate({field: value})


def test_a_sentence_has_a_token_at_least() -> None:
    with pytest.raises(ValueError, match="max_length"):
        decode(Chain(0), latents(), VOCABULARY, Greedy(), max_length=0)


def test_an_inputless_decoder_reads_no_word_that_it_decodes() -> None:
    words = torch.tensor([VOCABULARY.start, 0, 2, 1])
    inputs = [DecoderInputs(mode, 0.0, VOCABULARY.start, VOCABULARY.unknown) for mode in ("words", "none")]  # type: ignore[arg-type]
    assert inputs[0].following(words).tolist() == words.tolist()
    assert inputs[1].following(words).tolist() == [VOCABULARY.start, 1, 1, 1]


def test_the_way_between_two_gaussians_is_straight() -> None:
    one, other = (DiagonalGaussian(torch.tensor([mean]), torch.zeros(1, 2)) for mean in ([0.0, 2.0], [4.0, 2.0]))
    way = between(one, other, torch.tensor([0.0, 0.25, 1.0]))
    assert way.tolist() == [[0.0, 2.0], [1.0, 2.0], [4.0, 2.0]]
