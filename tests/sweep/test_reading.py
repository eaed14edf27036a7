"""The commands that read a latent space, on trials that were really trained: a language model, VAEs and AVG."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor

from data.vocabulary import END, Vocabulary
from model.core import LatentModel
from model.decode import Greedy
from model.randomness import generator
from sweep.read_cli import mirror
from sweep.reading import Speech, Trained, about, encode, read_trained, use_of_latents
from sweep.reconstruction import match
from sweep.record import SweepRecord, WantedTrial
from sweep.sampling import choose, draw_exchangeable, draw_independent, interpolate, latents_of, sentences_of
from sweep.store import EvaluationStore, TrialStore
from sweep.tracking import find_runs
from tests.here import sweep_here

SPEC = """
name: tiny
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 8, hidden_dim: 16, input_dropout: 0.0, output_dropout: 0.0}
  train: {epochs: 3, batch_size: 4}
axes:
  method:
    LM: {model: lstm_lm, schedule: constant}
    VAE: {model: {kind: lstm_vae, latent_dim: 3, delta: 3.0}, schedule: constant}
    AVG: {model: {kind: lstm_vae, latent_dim: 3, samples: 2, average: true}, schedule: constant}
    VMF: {model: {kind: vmf_vae, latent_dim: 3, kappa: 8.0}, schedule: constant}
seeds: 1
"""
LINES = ("w1 w2 w3", "w2 w1", "w4", "w5 w5 w1 w2", "w3 w4 w1", "w6 w0")


@dataclass(frozen=True)
class Workplace:
    """A folder with a corpus and a store. keys: of its done trials, by method."""

    folder: Path
    keys: dict[str, str]

    @property
    def store(self) -> TrialStore:
        return TrialStore(self.folder / "results")

    def sweep(self, *arguments: str, code: int = 0) -> SimpleNamespace:
        places = {"SWEEP_RESULTS": str(self.folder / "results"), "SWEEP_CORPORA": str(self.folder / "corpora")}
        done = sweep_here(*arguments, folder=self.folder, environment=places, code=code)
        assert "Traceback" not in done.stderr
        return SimpleNamespace(out=done.stdout, errors=done.stderr)

    def read(self, command: str, method: str, *arguments: str, code: int = 0) -> SimpleNamespace:
        return self.sweep(command, self.keys[method][:16], *arguments, "--no-tracking", code=code)

    def data(self, command: str, method: str, *arguments: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.read(command, method, *arguments, "--json").out)
        return found

    def files(self, method: str) -> set[str]:
        return self.store.trial(self.keys[method]).names("reading")

    def trained(self, method: str) -> Trained:
        return read_trained(self.store, self.keys[method], self.folder / "corpora", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("reading")
    corpus = folder / "corpora" / "tiny"
    corpus.mkdir(parents=True)
    (corpus / "train.txt").write_text("\n".join(LINES * 4) + "\n")
    (corpus / "valid.txt").write_text("w1 w2 w3\nw4 w5\n")
    (corpus / "test.txt").write_text("w2 w2 w1\nw0 w6\nw3 w1 w4\nw5\n")
    (folder / "tiny.yaml").write_text(SPEC)
    place = Workplace(folder, {})
    for method in ("LM", "VAE", "AVG", "VMF"):
        place.keys[method] = place.sweep("trial", "tiny.yaml", method).out.split()[0]
    return place


@pytest.fixture
def place(made: Workplace, tmp_path: Path) -> Workplace:
    """A copy, for whoever writes into it."""
    shutil.copytree(made.folder, tmp_path / "place")
    return Workplace(tmp_path / "place", made.keys)


@pytest.mark.parametrize("method", ["LM", "VAE", "AVG", "VMF"])
def test_samples_are_printed_and_kept(place: Workplace, method: str) -> None:
    printed = place.read("sample", method, "--num", "3", "--out", "mine.txt").out
    name = "sample-prior-independent" if method == "AVG" else "sample-prior"
    assert place.files(method) == {f"{name}.txt", f"{name}.json"}
    folder = place.store.trial(place.keys[method])
    assert folder.read(f"reading/{name}.txt").decode() == printed == (place.folder / "mine.txt").read_text()
    data = place.data("sample", method, "--num", "3")
    assert json.loads(folder.read(f"reading/{name}.json")) == data
    assert data["trial"] == place.keys[method]
    assert len(data["sentences"]) == 3  # type: ignore[arg-type]
    assert data["decoding"]["kind"] == ("sample" if method == "LM" else "greedy")  # type: ignore[index]
    assert printed.startswith(f"trial {place.keys[method][:12]}: ")
    assert ("KL" in printed) == (method != "LM")


def test_the_seed_decides(place: Workplace) -> None:
    def drawn(seed: int) -> object:
        return place.data("sample", "LM", "--seed", str(seed))["sentences"]

    assert drawn(0) == drawn(0) != drawn(1)


def test_a_collapsed_model_says_so(place: Workplace) -> None:
    assert "collapsed: below 0.1 nats" in place.read("sample", "AVG").out
    assert "collapsed" not in place.read("sample", "VAE").out
    assert place.data("sample", "AVG")["is_collapsed"]


def test_what_an_evaluation_found_is_told_first(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, store = place.trained("VAE"), place.store
    assert use_of_latents(store, trained.result) == {"kl": trained.result.test["kl"]}
    in_search = replace(trained.result, test={})
    assert use_of_latents(store, in_search) == {"kl": trained.result.valid["kl"]}

    def found(each: EvaluationStore, keys: Sequence[str]) -> dict[str, SimpleNamespace]:
        finished = {"new": 2.0, "old": 1.0}[each.id]
        return {
            trained.key: SimpleNamespace(finished=finished, test={"mi": finished, "active_units": 3.0, "swap": 7.0})
        }

    for name in ("new", "old"):
        store.trial(trained.key).publish(f"evaluations/{name}/config.json", b"")
    monkeypatch.setattr(EvaluationStore, "results", found)
    assert (
        f"KL {trained.result.test['kl']:.2f} nats, mutual information 2.00 nats, 3 active units"
        in about(store, trained).lines
    )


@pytest.mark.parametrize(
    ("way", "label"),
    [
        ("independent", "far from what training decodes"),
        ("exchangeable", "correlations fitted on train"),
        ("repeated", "one repeated"),
    ],
)
def test_latents_of_averaged_states_are_drawn_in_three_ways(place: Workplace, way: str, label: str) -> None:
    printed = place.read("sample", "AVG", "--latents", way).out
    assert label in printed
    assert place.files("AVG") == {f"sample-prior-{way}.txt", f"sample-prior-{way}.json"}
    assert place.data("sample", "AVG", "--latents", way)["latents"] == way
    # With one latent they are the same.
    one = place.data("sample", "VAE", "--latents", way)
    assert one == place.data("sample", "VAE")
    assert "latents" not in one


@pytest.mark.parametrize("method", ["VAE", "AVG"])
@pytest.mark.parametrize("origin", ["posterior", "mean"])
def test_sentences_come_with_what_became_of_them(place: Workplace, method: str, origin: str) -> None:
    data = place.data("sample", method, "--from", origin, "--num", "2", "--draws", "3", "--decoding", "sample")
    assert place.files(method) == {f"sample-{origin}.txt", f"sample-{origin}.json"}
    sentences: list[dict[str, object]] = data["sentences"]  # type: ignore[assignment]
    test = (place.folder / "corpora" / "tiny" / "test.txt").read_text().splitlines()
    assert len(sentences) == 2
    for each in sentences:
        assert each["original"] in test
        assert len(each["decoded"]) == 3  # type: ignore[arg-type]
    everything = place.data("sample", method, "--from", origin, "--num", "99")
    assert [each["original"] for each in everything["sentences"]] == test  # type: ignore[attr-defined]
    of_train = place.data("sample", method, "--from", origin, "--split", "train", "--num", "1")
    assert of_train["sentences"][0]["original"] in LINES  # type: ignore[index]


@pytest.mark.parametrize("options", [[], ["--decoding", "beam", "--beam-width", "3", "--length-penalty", "0.5"]])
@pytest.mark.parametrize("origin", ["sample", "mean"])
@pytest.mark.parametrize("method", ["VAE", "AVG"])
def test_reconstructions_are_scored(place: Workplace, method: str, origin: str, options: list[str]) -> None:
    data = place.data("reconstruct", method, "--from", origin, *options)
    assert place.files(method) == {f"reconstruct-{origin}.txt", f"reconstruct-{origin}.json"}
    assert (data["sentences"], data["tokens"]) == (4, 13)
    assert 0.0 <= data["exact_match"] <= data["token_accuracy"] <= 1.0  # type: ignore[operator]
    assert "tok:none" in str(data["bleu_signature"])
    assert "tok:none" in place.read("reconstruct", method, "--from", origin, *options).out
    few = place.data("reconstruct", method, "--from", origin, "--limit", "2", *options)
    assert (few["sentences"], few["tokens"]) == (2, 7)


def test_the_way_between_two_sentences(place: Workplace) -> None:
    data = place.data("interpolate", "VAE", "w2 w1", "w4 zebra", "--steps", "3")
    assert place.files("VAE") == {"interpolate.txt", "interpolate.json"}
    assert data["ends"] == ["w2 w1", "w4 <unk>"]
    assert data["unknown"] == ["zebra"]
    assert [each["share"] for each in data["sentences"]] == [0.0, 0.5, 1.0]  # type: ignore[attr-defined]
    printed = place.read("interpolate", "VAE", "w2 w1", "w4 zebra", "--steps", "3").out
    assert "note: 'zebra' not in the vocabulary, read as <unk>" in printed
    assert "note" not in place.read("interpolate", "AVG", "", "w1").out


def test_both_ends_are_decoded_from_their_means(made: Workplace) -> None:
    trained = made.trained("AVG")
    speech = Speech(Greedy(), None, 0)
    found = interpolate(trained, ("w2 w1", "w4"), 2, speech).facts["sentences"]
    model, source = trained.latent_model, generator(0, "unused")
    for each, end in zip(found, ("w2 w1", "w4"), strict=True):
        with torch.no_grad():
            tokens = torch.tensor([trained.corpus.vocabulary.encode(end.split())])
            mean = model.posterior(tokens, source).location
            ids = torch.tensor([trained.corpus.vocabulary.encode(each["text"].split())])
            assert each["is_cut"] or each["log_p"] == pytest.approx(
                float(model.log_likelihood(ids, mean[None, None].expand(-1, 2, -1, -1), source)), rel=1e-5
            )


@pytest.mark.parametrize(("origin", "draws"), [("posterior", 3), ("mean", 1), ("mean", 3)])
@pytest.mark.parametrize("method", ["VAE", "AVG", "VMF"])
def test_latents_stand_in_the_order_of_the_corpus(
    made: Workplace, method: str, origin: str, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, split = made.trained(method), made.trained(method).split("train")
    together = latents_of(trained, split, origin, draws, 5)
    monkeypatch.setattr("sweep.sampling.TOKENS_AT_ONCE", 1)
    assert torch.allclose(latents_of(trained, split, origin, draws, 5), together, atol=1e-6)
    means = torch.cat([location(trained.latent_model, ids) for ids in sentences_of(split)])
    chains = trained.model.latents_per_sentence if origin == "posterior" else 1
    assert together.shape == (split.num_sentences * draws, chains, 3)
    if origin == "mean":
        assert torch.allclose(together, means.repeat_interleave(draws, dim=0).unsqueeze(1), atol=1e-6)


@torch.no_grad()
def location(model: LatentModel, ids: list[int]) -> Tensor:
    return model.posterior(torch.tensor([ids]), generator(0, "unused")).location


def test_independent_latents_are_of_the_models_own_prior(made: Workplace) -> None:
    drawn = {method: draw_independent(made.trained(method), 5, generator(0, "prior")) for method in made.keys}
    assert drawn["LM"].shape == (5, 1, 0)
    assert torch.equal(drawn["AVG"], torch.randn(2, 5, 3, generator=generator(0, "prior")).transpose(0, 1))
    assert torch.allclose(drawn["VMF"].norm(dim=-1), torch.ones(5, 1))


def test_directions_go_along_the_sphere_and_have_no_correlated_prior(made: Workplace) -> None:
    trained = made.trained("VMF")
    found = interpolate(trained, ("w2 w1", "w4"), 3, Speech(Greedy(), None, 0)).facts["sentences"]
    assert [each["share"] for each in found] == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="whose prior knows no correlation"):
        draw_exchangeable(trained, 5, generator(0, "prior"))


def test_some_sentences_of_a_split(made: Workplace) -> None:
    split = made.trained("LM").split("train")
    whole = list(sentences_of(split))
    some = choose(split, torch.tensor([4, 0, 4]).numpy())
    assert list(sentences_of(some)) == [whole[4], whole[0], whole[4]]
    assert some.num_tokens == 2 * len(whole[4]) + len(whole[0])


VOCABULARY = Vocabulary((END, "<unk>", "a", "b", "c", "d", "e"))


def test_words_that_are_not_known_are_told() -> None:
    assert encode("a zebra  b zebra gnu", VOCABULARY) == ([2, 1, 3, 1, 1, 0], ["zebra", "gnu"])
    assert encode("", VOCABULARY) == encode("  ", VOCABULARY) == ([0], [])
    assert encode("a </s> <s>", VOCABULARY) == ([2, 1, 1, 0], ["</s>", "<s>"])
    assert encode("<unk> a", VOCABULARY) == ([1, 2, 0], [])


def test_reconstructions_are_compared_position_by_position() -> None:
    originals = [(2, 3, 4, 5, 6, 0), (2, 3, 0), (0,), (3, 0)]
    found = match(originals, [(2, 3, 4, 5, 6, 0), (3, 2, 3, 0), (2, 0), (3, 3)], VOCABULARY)
    assert (found.sentences, found.tokens) == (4, 12)
    assert found.token_accuracy == pytest.approx((6 + 0 + 0 + 1) / 12)
    assert found.exact_match == 0.25
    assert 0 < found.bleu < 100
    same = match(originals, originals, VOCABULARY)
    assert (same.token_accuracy, same.exact_match) == (1.0, 1.0)
    assert same.bleu == pytest.approx(100.0)
    assert match(originals, [(0,)] * 4, VOCABULARY).bleu == 0.0
    assert "tok:none" in same.bleu_signature


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sample", "LM", "--from", "posterior"], "has no latent variable and so no posterior"),
        (["reconstruct", "LM"], "has no latent variable and so no posterior"),
        (["interpolate", "LM", "a", "b"], "has no latent variable and so no posterior"),
        (["sample", "VAE", "--from", "prio"], "unknown origin of latents 'prio'; did you mean 'prior'?"),
        (["sample", "VAE", "--latents", "same"], "unknown way to draw latents 'same'"),
        (["sample", "VAE", "--from", "mean", "--latents", "repeated"], "--latents is a way to draw from the prior"),
        (["sample", "VAE", "--decoding", "best"], "unknown way of decoding 'best'"),
        (["sample", "VAE", "--temperature", "2"], "--temperature is of --decoding sample, and this is greedy"),
        (["sample", "VAE", "--decoding", "sample", "--beam-width", "2"], "--beam-width is of --decoding beam"),
        (
            ["sample", "VAE", "--decoding", "sample", "--temperature", "0"],
            "temperature: input should be greater than 0",
        ),
        (["sample", "VAE", "--decoding", "sample", "--top-p", "1.5"], "top_p: input should be less than or equal to 1"),
        (["sample", "VAE", "--from", "mean", "--split", "tset"], "unknown split 'tset'; did you mean 'test'?"),
        (["sample", "VAE", "--out", "nowhere/mine.txt"], "there is no folder nowhere"),
        (["reconstruct", "VAE", "--from", "prior"], "unknown origin of latents 'prior'"),
        (["interpolate", "VAE", "a", "b", "--decoding", "beam", "--top-k", "3"], "--top-k is of --decoding sample"),
    ],
)
def test_a_mistake_is_one_sentence(made: Workplace, arguments: list[str], sentence: str) -> None:
    command, method, *others = arguments
    errors = made.read(command, method, *others, code=2).errors
    assert sentence in errors
    assert errors.count("\n") == 1


def test_a_trial_that_cannot_be_read_says_why(place: Workplace) -> None:
    key = place.keys["VAE"]
    weights, result = (place.store.trial(key).read(name) for name in ("weights.safetensors", "result.json"))
    place.store.trial(key).publish("weights.safetensors", weights[:-100])
    assert "cannot be read" in place.read("sample", "VAE", code=2).errors
    place.store.trial(key).remove("weights.safetensors")
    assert "cannot be read" in place.read("reconstruct", "VAE", code=2).errors
    place.store.trial(key).publish("weights.safetensors", weights)
    place.store.trial(key).remove("result.json")
    assert "is missing, and only a done one can be read" in place.read("sample", "VAE", code=2).errors
    place.store.trial(key).publish("result.json", result)
    assert "no trial of" in place.sweep("sample", "zzzz", "--no-tracking", code=2).errors
    (place.folder / "corpora" / "tiny" / "valid.txt").write_text("w1 w2\n")
    assert "another version of corpus tiny" in place.read("sample", "VAE", code=2).errors
    assert place.files("VAE") == set()


def test_a_store_that_takes_nothing_is_no_reason_to_print_nothing(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.files.LocalFiles.publish", full)
    done = place.read("sample", "VAE")
    assert "from the prior" in done.out
    assert "warning: " in done.errors
    assert "No space left on device" in done.errors


def wanting(place: Workplace) -> None:
    """Three sweeps, two of which want the VAE."""
    for name, method in (("one", "VAE"), ("two", "VAE"), ("three", "LM")):
        trial = WantedTrial(place.keys[method], {"method": method}, 0, {})
        place.store.record(SweepRecord(name, {}, (trial,), {}))


def artifacts(uri: str, sweep: str) -> dict[str, list[str]]:
    """Of the runs of a sweep's trials, by key; nothing where MLflow has no such sweep."""
    found = find_runs(uri, sweep)
    client = MlflowClient(uri)
    runs = found[1] if found else {}
    return {key: sorted(each.path for each in client.list_artifacts(run, "reading")) for key, run in runs.items()}


def test_readings_go_to_every_sweep_that_wants_the_trial(place: Workplace) -> None:
    uri, key = f"sqlite:///{place.folder}/mlflow.db", place.keys["VAE"]
    wanting(place)
    place.sweep("sample", key, "--tracking-uri", uri)
    names = ["reading/sample-prior.json", "reading/sample-prior.txt"]
    assert artifacts(uri, "one") == artifacts(uri, "two") == {key: names}
    assert artifacts(uri, "three") == {}
    place.sweep("sync", "one", "--tracking-uri", uri)
    assert artifacts(uri, "one") == {key: names}
    assert place.store.launches.names() == set()


def test_an_mlflow_that_is_away_is_a_warning(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    wanting(place)
    uri = "http://me:secret@127.0.0.1:9"
    mirror(uri, place.store, place.keys["VAE"], ["reading/sample-prior.txt"])
    errors = capsys.readouterr().err
    assert errors.count("warning: MLflow at http://***@127.0.0.1:9 lacks what was read (") == 2
    assert "'sweep sync one' adds it" in errors
    assert "secret" not in errors
