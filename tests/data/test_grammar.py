"""The grammar: probabilities that sum to one and match the sampler, and text that its configuration alone decides."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from data import lexicon
from data.corpora.grammar import FRAMES, UNKNOWN, Config, Grammar, Phrase, Slot
from data.corpus import SPLITS, Text

NOWHERE = Path("no/such/folder")


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    default = Config()
    return Grammar(default.topics, default.list_length, default.topic_exponent, default.shared_exponent)


@pytest.fixture(scope="module")
def small() -> Grammar:
    """Two topics and one word a list: few enough sentences to list them all."""
    return Grammar(topics=2, list_length=1, topic_exponent=1.0, shared_exponent=1.0)


@pytest.fixture(scope="module")
def text() -> Text:
    return Config().read(NOWHERE)


def hidden_choices(grammar: Grammar) -> Iterator[dict[str, str]]:
    for values in product(*grammar.hidden.values()):
        yield dict(zip(grammar.hidden, values, strict=True))


def phrases_of(slot: Slot, chance: float, choices: Mapping[str, str]) -> list[tuple[Phrase, float]]:
    """What the sampler may emit at a slot, with probabilities; an unfilled slot emits nothing."""
    phrases, cumulative = slot.ranked[tuple(choices[name] for name in slot.reads)]
    weights = np.diff([0.0, *cumulative]) * chance
    return [*zip(phrases, weights.tolist(), strict=True), ((), 1 - chance)]


def mass_given(grammar: Grammar, choices: Mapping[str, str], sentence: Phrase) -> float:
    """p(sentence | hidden choices) by trying every way to cut the sentence into phrases."""
    laws = [phrases_of(slot, chance, choices) for slot, chance in grammar.frames[choices["frame"]]]

    def rest(index: int, tail: Phrase) -> float:
        if index == len(laws):
            return float(not tail)
        fitting = ((len(phrase), weight) for phrase, weight in laws[index] if tail[: len(phrase)] == phrase)
        return sum(weight * rest(index + 1, tail[length:]) for length, weight in fitting if weight > 0)

    return rest(0, sentence)


def all_sentences(grammar: Grammar) -> dict[Phrase, float]:
    """Every sentence with its probability, by listing all the paths of the sampler."""
    total: dict[Phrase, float] = defaultdict(float)
    num_choices = math.prod(map(len, grammar.hidden.values()))
    for choices in hidden_choices(grammar):
        laws = [phrases_of(slot, chance, choices) for slot, chance in grammar.frames[choices["frame"]]]
        for path in product(*laws):
            sentence = tuple(word for phrase, _ in path for word in phrase)
            total[sentence] += math.prod(weight for _, weight in path) / num_choices
    return {sentence: mass for sentence, mass in total.items() if mass > 0}


def test_probabilities_are_those_of_all_paths_and_sum_to_one(small: Grammar) -> None:
    listed = all_sentences(small)
    assert len(listed) > 1000
    computed = {sentence: math.exp(small.log_probability(sentence)) for sentence in listed}
    assert computed == pytest.approx(listed, rel=1e-9)
    assert math.fsum(computed.values()) == pytest.approx(1, abs=1e-9)


def test_every_slot_is_normalised_and_samples_what_it_scores(grammar: Grammar) -> None:
    axes = [name for name in grammar.hidden if name != "frame"]
    one_frame = [choices for choices in hidden_choices(grammar) if choices["frame"] == "deed"]
    for slot in {slot for places in grammar.frames.values() for slot, _ in places}:
        assert sum(slot.mass.values()) == pytest.approx(1)
        for choices in one_frame:
            index = tuple(grammar.hidden[name].index(choices[name]) if name in slot.reads else 0 for name in axes)
            law = dict(phrases_of(slot, 1.0, choices)[:-1])
            assert law == pytest.approx({phrase: slot.mass[phrase][index] for phrase in law})


def test_the_marginal_is_the_sum_over_all_hidden_choices(grammar: Grammar) -> None:
    num_choices = math.prod(map(len, grammar.hidden.values()))
    num_ambiguous = 0
    for words in grammar.sample(25, np.random.default_rng(7)):
        masses = [mass_given(grammar, choices, tuple(words)) / num_choices for choices in hidden_choices(grammar)]
        assert grammar.log_probability(words) == pytest.approx(math.log(math.fsum(masses)), abs=1e-9)
        num_ambiguous += sum(mass > 0 for mass in masses) > 1
    assert num_ambiguous > 2, "no sentence has two readings, so this test would pass without the sum"


def test_frequencies_in_a_sample_are_the_probabilities() -> None:
    peaked = Grammar(topics=2, list_length=3, topic_exponent=8.0, shared_exponent=8.0)
    num_sentences = 20_000
    counts = Counter(map(tuple, peaked.sample(num_sentences, np.random.default_rng(3))))
    frequent = counts.most_common(40)
    assert frequent[-1][1] > 20
    for sentence, count in frequent:
        expected = num_sentences * math.exp(peaked.log_probability(sentence))
        assert abs(count - expected) < 5 * math.sqrt(expected), " ".join(sentence)


@pytest.mark.parametrize(
    ("possible", "impossible"),
    [
        ("the captains repair the mast", "the captain repair the mast"),
        ("the captains repaired their mast", "the captain repaired their mast"),
        ("the captain repaired the mast", "the captain repaired the soup"),
        ("the captain has repaired the mast", "the captain have repaired the mast"),
        ("the masts were repaired by the captains", "the masts was repaired by the captains"),
        ("the captain will repair the mast tomorrow", "the captain will repair the mast yesterday"),
        ("so the captain waited near the harbour", "so the captain waited opposite the harbour"),
        ("each captain repaired the mast", "each captain quickly repaired the mast"),
        ("the captain repairs the mast and loads the boat", "the captain repairs the mast and loaded the boat"),
        ("the captain repairs the mast", "the captain repairs the"),
        ("the captain repairs the mast", "the captain repairs the mast the"),
        ("the captain repairs the mast", f"the captain repairs the {UNKNOWN}"),
        ("the captain repairs the mast", ""),
    ],
)
def test_what_agrees_is_possible_and_the_rest_is_not(grammar: Grammar, possible: str, impossible: str) -> None:
    assert -30 < grammar.log_probability(possible.split()) < 0
    assert grammar.log_probability(impossible.split()) == -math.inf


def test_source_nll_is_the_mean_over_the_split(grammar: Grammar, text: Text) -> None:
    assert set(text.source_nll) == set(SPLITS)
    for split, sentences in text.splits.items():
        mean = float(np.mean([-grammar.log_probability(sentence) for sentence in sentences]))
        assert text.source_nll[split] == pytest.approx(mean, rel=1e-12)
    # Three samples of one distribution: means within sampling error, and well above the hidden choices alone.
    values = list(text.source_nll.values())
    assert max(values) - min(values) < 1.5
    assert min(values) > math.log(2) * sum(grammar.bits.values())


def test_bits_of_the_hidden_choices(grammar: Grammar) -> None:
    assert grammar.bits == {"frame": 2, "topic": 3, "tense": 2, "number": 1, "register": 1}
    assert set(grammar.hidden["frame"]) == set(FRAMES)


def test_the_text_depends_on_the_configuration_alone(text: Text) -> None:
    again = Config().read(Path("elsewhere"))
    assert again.splits == text.splits
    assert again.vocabulary == text.vocabulary
    assert again.source_nll == text.source_nll
    assert Config(seed=1, train=9, valid=9).read(NOWHERE).splits["test"] != text.splits["test"]


def test_the_size_of_one_split_does_not_move_another(text: Text) -> None:
    other = Config(train=30, valid=510).read(NOWHERE)
    assert other.splits["test"] == text.splits["test"]
    assert other.splits["train"] == text.splits["train"][:30]
    assert other.splits["valid"][:500] == text.splits["valid"]


def test_splits_are_separate_draws(text: Text) -> None:
    for left, right in [("train", "valid"), ("train", "test"), ("valid", "test")]:
        shared = sum(a == b for a, b in zip(text.splits[left], text.splits[right], strict=False))
        assert shared < 10


def test_the_vocabulary_is_the_whole_lexicon_and_covers_the_text(grammar: Grammar, text: Text) -> None:
    vocabulary = text.vocabulary
    assert vocabulary.words[2:] == grammar.words
    assert vocabulary.words[vocabulary.unknown] == UNKNOWN
    assert 2000 <= len(vocabulary) <= 2500
    used = {word for sentences in text.splits.values() for sentence in sentences for word in sentence}
    assert used <= set(grammar.words)
    assert UNKNOWN not in used


def test_sentences_look_like_sentences(text: Text) -> None:
    sentences = [sentence for split in text.splits.values() for sentence in split]
    lengths = [len(sentence) for sentence in sentences]
    assert min(lengths) >= 4
    assert max(lengths) <= 14
    assert 7.5 < float(np.mean(lengths)) < 9.5
    assert all(re.fullmatch("[a-z]+", word) for word in text.vocabulary.words[2:])
    assert not any(left == right for sentence in sentences for left, right in pairwise(sentence))
    assert {split: len(text.splits[split]) for split in SPLITS} == {"train": 2000, "valid": 500, "test": 500}


def test_the_fingerprint_follows_every_field() -> None:
    changes = {"train": 9, "valid": 9, "test": 9, "seed": 9, "topics": 3, "list_length": 9}
    changes |= {"topic_exponent": 1, "shared_exponent": 1}
    assert set(changes) == set(Config.model_fields)
    configs = [Config(), *(Config.model_validate({name: value}) for name, value in changes.items())]
    assert len({config.fingerprint(NOWHERE) for config in configs}) == len(configs)
    assert Config().fingerprint(NOWHERE) == Config(train=2000).fingerprint(Path("elsewhere"))


@pytest.mark.parametrize("wrong", [{"train": 0}, {"topics": 9}, {"topic_exponent": -1}, {"seed": -1}, {"size": 5}])
def test_a_value_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(wrong)


@pytest.mark.parametrize(
    ("stem", "forms"),
    [
        ("load", "loads loaded"),
        ("bake", "bakes baked"),
        ("fry", "fries fried"),
        ("delay", "delays delayed"),
        ("mix", "mixes mixed"),
        ("polish", "polishes polished"),
        ("discuss", "discusses discussed"),
    ],
)
def test_inflection(stem: str, forms: str) -> None:
    third_person, past = forms.split()
    assert lexicon.noun(stem, "plural") == lexicon.verb(stem, "present", "singular") == third_person
    assert lexicon.verb(stem, "past", "plural") == lexicon.verb(stem, "perfect", "singular") == past
    assert lexicon.verb(stem, "present", "plural") == lexicon.verb(stem, "future", "singular") == stem
