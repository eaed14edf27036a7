"""What every architecture keeps when it is decoded word by word, over all files of model/variants/."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from data.corpus import Corpus
from model.beam import Beam
from model.core import LatentModel, ModelConfig, TextModel
from model.decode import Decoded, Decoding, Greedy, Sample, decode
from model.randomness import generator
from tests.contracts.test_models import small_configs

ROWS, LONGEST = 12, 9
WAYS = (Greedy(), Sample(), Sample(temperature=0.7, top_k=8, top_p=0.9), Beam(beam_width=4))
Make = Callable[[ModelConfig], TextModel]


@pytest.fixture
def make(corpus: Corpus) -> Make:
    def build(config: ModelConfig) -> TextModel:
        model = config.build(corpus.vocabulary)
        model.initialise(generator(1, "parameters"))
        sharpen(model, corpus)
        return model.train()

    return build


@torch.no_grad()
def sharpen(model: TextModel, corpus: Corpus) -> None:
    """Until it is far from uniform, so that words differ in their probability and with the latent."""
    model.eval()
    start = torch.full((ROWS,), corpus.vocabulary.start)
    while model.reader(latents_of(model)).read(start).std(dim=1).mean() < 0.4:
        for parameter in model.parameters():
            parameter.mul_(1.25)


@pytest.fixture(params=small_configs(), ids=repr)
def model(request: pytest.FixtureRequest, make: Make) -> TextModel:
    return make(request.param)


def latents_of(model: TextModel) -> Tensor:
    """(R, L, n)."""
    return model.draw_noise(ROWS, 1, generator(2, "latents"))[0].transpose(0, 1)


def decoded_by(model: TextModel, corpus: Corpus, decoding: Decoding, seed: int = 0) -> list[Decoded]:
    return decode(model, latents_of(model), corpus.vocabulary, decoding, max_length=LONGEST, seed=seed)


@torch.no_grad()
def log_p_of(model: TextModel, ids: tuple[int, ...], latents: Tensor) -> float:
    """By the model's own likelihood of a whole sentence. latents: (L, n)."""
    model.eval()
    source, tokens, noise = generator(0, "unused"), torch.tensor([ids]), latents[None, :, None]
    if isinstance(model, LatentModel):
        return float(model.log_likelihood(tokens, noise, source))
    return -float(model.bound(tokens, noise, source).rec)


@pytest.mark.parametrize("decoding", WAYS, ids=repr)
def test_a_sentence_has_the_probability_that_the_model_gives_it(
    model: TextModel, corpus: Corpus, decoding: Decoding
) -> None:
    latents = latents_of(model)
    found = decoded_by(model, corpus, decoding)
    assert len(found) == ROWS
    for row, sentence in enumerate(found):
        assert sentence.log_p == pytest.approx(log_p_of(model, sentence.ids, latents[row]), rel=1e-5, abs=1e-5)
        assert corpus.vocabulary.end not in sentence.ids[:-1]
        assert 1 <= len(sentence.ids) <= LONGEST
        assert sentence.is_cut(corpus.vocabulary) == (sentence.ids[-1] != corpus.vocabulary.end)
        assert not sentence.is_cut(corpus.vocabulary) or len(sentence.ids) == LONGEST


def test_all_probability_is_on_what_is_predicted(model: TextModel, corpus: Corpus) -> None:
    model.eval()
    reader = model.reader(latents_of(model))
    words = torch.full((ROWS,), corpus.vocabulary.start)
    with torch.no_grad():
        for _ in range(4):
            log_p = reader.read(words)
            assert log_p.shape == (ROWS, len(corpus.vocabulary))
            assert log_p.dtype == torch.float32
            assert torch.allclose(log_p.exp().sum(dim=1), torch.ones(ROWS), atol=1e-5)
            words = log_p.argmax(dim=1)
    drawn = Sample(temperature=50.0)
    assert all(max(each.ids) < corpus.vocabulary.start for each in decoded_by(model, corpus, drawn))


def test_hypotheses_are_kept_doubled_and_let_go(model: TextModel, corpus: Corpus) -> None:
    model.eval()
    latents, rows = latents_of(model), torch.tensor([5, 0, 5, 9])
    first, second = (torch.arange(ROWS) % len(corpus.vocabulary), torch.tensor([3, 1, 4, 1]))
    start = torch.full((ROWS,), corpus.vocabulary.start)
    with torch.no_grad():
        reader, other = model.reader(latents), model.reader(latents[rows])
        for words in (start, first):
            reader.read(words)
            other.read(words[rows])
        reader.keep(rows)
        assert torch.allclose(reader.read(second), other.read(second), atol=1e-5)


@pytest.mark.parametrize(
    "decoding", [Sample(top_k=1), Sample(temperature=1e-9), Sample(top_p=1e-9), Beam(beam_width=1)], ids=repr
)
def test_what_is_greedy_in_other_words(model: TextModel, corpus: Corpus, decoding: Decoding) -> None:
    found, expected = decoded_by(model, corpus, decoding), decoded_by(model, corpus, Greedy())
    assert [each.ids for each in found] == [each.ids for each in expected]


@pytest.mark.parametrize("decoding", WAYS, ids=repr)
def test_the_seed_decides_and_not_how_many_are_decoded_at_a_time(
    model: TextModel, corpus: Corpus, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.get_rng_state()
    first = decoded_by(model, corpus, decoding)
    torch.manual_seed(99)
    assert decoded_by(model, corpus, decoding) == first
    for logits in (1, 3 * len(corpus.vocabulary)):
        monkeypatch.setattr("model.decode.LOGITS_AT_ONCE", logits)
        assert [each.ids for each in decoded_by(model, corpus, decoding)] == [each.ids for each in first]
    if isinstance(decoding, Sample):
        assert decoded_by(model, corpus, decoding, seed=1) != first
    torch.set_rng_state(state)
    decoded_by(model, corpus, decoding)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_decoded_without_dropout_and_left_as_it_was(model: TextModel, corpus: Corpus) -> None:
    model.eval()
    expected = decoded_by(model, corpus, Greedy())
    assert not model.training
    model.train()
    assert decoded_by(model, corpus, Greedy()) == expected
    assert model.training


def test_one_latent_for_all_chains_is_one_chain(model: TextModel, corpus: Corpus) -> None:
    latents = latents_of(model)[:, :1]
    chains = max(model.latents_per_sentence, 1)
    one, several = (
        decode(model, some, corpus.vocabulary, Greedy(), max_length=LONGEST)
        for some in (latents, latents.expand(-1, chains, -1))
    )
    assert [each.ids for each in one] == [each.ids for each in several]


@pytest.mark.parametrize("longest", [1, 2, 30])
@pytest.mark.parametrize("decoding", WAYS, ids=repr)
def test_a_sentence_is_cut_at_its_greatest_length(
    model: TextModel, corpus: Corpus, decoding: Decoding, longest: int
) -> None:
    found = decode(model, latents_of(model), corpus.vocabulary, decoding, max_length=longest)
    assert all(1 <= len(each.ids) <= longest for each in found)


def test_nothing_is_decoded_from_nothing(model: TextModel, corpus: Corpus) -> None:
    assert decode(model, latents_of(model)[:0], corpus.vocabulary, Greedy()) == []
