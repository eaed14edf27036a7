"""Evaluation of done trials: what it records, that it goes on where it was stopped, and what it refuses."""

import dataclasses
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import measuring
from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.evaluation import FORMS, Evaluation, EvaluationSettings
from sweep.jobs import RESULT
from sweep.measuring import run_evaluation
from sweep.mlflow_values import measured_metrics
from sweep.outcome import Right, StoppedError, TrialFailedError
from sweep.plan import evaluations_of
from sweep.record import SweepRecord, TrialResult, WantedTrial
from sweep.store import TrialStore
from sweep.trial import run_trial
from tests.here import sweep_here
from tests.sweep.test_trial import DOCUMENT

SETTINGS = EvaluationSettings(samples=3, draws=30)
MODELS = {
    "LSTM-LM": {"kind": "lstm_lm", "embedding_dim": 6, "hidden_dim": 9},
    "LSTM-VAE": {"kind": "lstm_vae", "embedding_dim": 6, "hidden_dim": 9, "latent_dim": 3},
    "LSTM-VAE-AVG (L = 2)": DOCUMENT["model"],
}


@dataclasses.dataclass
class Place:
    store: TrialStore
    corpora: Path
    results: dict[str, TrialResult]
    launch: Launch

    def evaluate(self, method: str, settings: EvaluationSettings = SETTINGS, stop: bool = False) -> Evaluation:
        event = threading.Event()
        if stop:
            event.set()
        right = Right(self.launch.id, event)
        key = self.results[method].key
        return run_evaluation(settings, self.store, key, self.corpora, device="cpu", threads=1, right=right)


@pytest.fixture
def place(lines_corpus: Path, tmp_path: Path) -> Iterator[Place]:
    store = TrialStore(tmp_path / "results")
    results = {}
    for method, model in MODELS.items():
        config = TrialConfig.parse({**DOCUMENT, "model": model, "train": {"epochs": 1, "batch_size": 4}})
        results[method] = run_trial(config, store, lines_corpus)
    with Launch(store.launches, "") as launch:
        yield Place(store, lines_corpus, results, launch)


def test_it_records_every_bound_and_where_it_came_from(place: Place) -> None:
    found = place.evaluate("LSTM-VAE-AVG (L = 2)")
    assert place.store.evaluations(SETTINGS).result(found.key) == found
    assert found.settings == {"samples": 3, "draws": 30, "fit": "train", "mi_batch": 32}
    assert len(found.correlation) == len(found.kl_by_dimension) == 3
    test = found.test
    assert test["nelbo_paper"] == pytest.approx(test["rec"] + test["kl"])
    assert test["nelbo_strict"] == pytest.approx(test["rec"] + 2 * test["kl"])
    assert test["nelbo_l1"] == pytest.approx(test["nelbo_paper"] + test["jensen"])
    assert test["jensen"] >= 0
    assert sum(found.kl_by_dimension) == pytest.approx(test["kl"])
    assert test["kl"] == pytest.approx(test["mi"] + test["kl_aggregate"])
    for form in FORMS:
        assert 1 <= test[f"iw_{form}_ess"] <= 30
        assert test[f"iw_{form}"] == pytest.approx(test[f"nelbo_{form}"], abs=1.5)
        assert test[f"iw_{form}_se"] > 0
        assert math.log(test[f"ppl_{form}"]) * 11 / 3 == pytest.approx(test[f"nelbo_{form}"])
    assert "iw_strict" not in found.valid
    assert found.environment["torch"]
    folder = place.store.evaluations(SETTINGS).trial(found.key)
    assert folder.names() >= {"config.json", RESULT}
    assert json.loads(folder.read("config.json")) == SETTINGS.model_dump()
    assert not folder.names("attempts")


def test_of_one_latent_all_bounds_are_one_and_a_language_model_is_exact(place: Place) -> None:
    one = place.evaluate("LSTM-VAE")
    assert len({one.test[f"nelbo_{form}"] for form in FORMS}) == len({one.test[f"iw_{form}"] for form in FORMS}) == 1
    assert one.correlation == ()
    lm = place.evaluate("LSTM-LM")
    exact = place.results["LSTM-LM"].test["nll"]
    for form in FORMS:
        assert lm.test[f"nelbo_{form}"] == lm.test[f"iw_{form}"] == pytest.approx(exact)
    assert not {"kl", "mi", "active_units", "iw_strict_ess"} & lm.test.keys()
    assert lm.kl_by_dimension == ()


def test_stopped_and_continued_is_never_stopped(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after every single batch: to the last bit what it is in one piece."""
    other = TrialStore(place.store.location)
    whole = place.evaluate("LSTM-VAE-AVG (L = 2)")
    other.evaluations(SETTINGS).trial(whole.key).remove(RESULT)
    monkeypatch.setattr(measuring, "SAVED_SECONDS", 1e9)
    stops = 0
    while True:
        try:
            again = place.evaluate("LSTM-VAE-AVG (L = 2)", stop=True)
            break
        except StoppedError:
            stops += 1
            assert place.store.evaluations(SETTINGS).state(whole.key) == "started"
    assert stops > 5
    assert (again.test, again.valid) == (whole.test, whole.valid)
    assert again.kl_by_dimension == whole.kl_by_dimension
    assert "continuing after" in place.store.evaluations(SETTINGS).log(whole.key)


def test_twice_measures_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.evaluate("LSTM-VAE")
    monkeypatch.setattr(measuring, "measure", None)
    assert place.evaluate("LSTM-VAE") == first


def test_other_settings_are_another_evaluation(place: Place) -> None:
    first, more = place.evaluate("LSTM-VAE"), place.evaluate("LSTM-VAE", EvaluationSettings(samples=3, draws=60))
    assert first.test["nelbo_strict"] == more.test["nelbo_strict"]  # the draws of the one do not move the other's
    assert first.test["iw_strict"] != more.test["iw_strict"]
    assert place.store.evaluations(SETTINGS).result(first.key) == first
    ids = {EvaluationSettings(samples=a, draws=b, fit=c).id for a in (1, 2) for b in (0, 1) for c in ("train", "valid")}
    assert len(ids) == 8


def test_what_is_not_finite_is_kept_as_such(place: Place) -> None:
    found = place.evaluate("LSTM-VAE")
    odd = dataclasses.replace(found, test={**found.test, "nelbo_strict": math.nan, "ppl_strict": math.inf})
    again = Evaluation.from_json(odd.to_json())
    assert math.isnan(again.test["nelbo_strict"])
    assert math.isnan(again.test["ppl_strict"])
    with pytest.raises(ValueError, match="hash of its content"):
        Evaluation.from_json(odd.to_json().replace('"mi_batch": 32', '"mi_batch": 33'))


def test_it_refuses_what_it_cannot_measure(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trial abc is missing, and only a done one can be evaluated"):
        run_evaluation(
            SETTINGS, place.store, "abc", place.corpora, device="cpu", threads=1,
            right=Right(place.launch.id, threading.Event()),
        )  # fmt: skip
    key = place.results["LSTM-VAE"].key
    weights = place.store.trial(key).read("weights.safetensors")
    place.store.trial(key).publish("weights.safetensors", weights[:50])
    with pytest.raises(TrialFailedError, match="cannot be read"):
        place.evaluate("LSTM-VAE")
    assert place.store.evaluations(SETTINGS).failure(key).kind == "config"
    assert place.store.state(key) == "done"
    place.store.trial(key).publish("weights.safetensors", weights)
    text = place.corpora / "tiny" / "test.txt"
    text.write_text(text.read_text() + "w1 w1\n")
    with pytest.raises(TrialFailedError, match="another version of corpus tiny"):
        place.evaluate("LSTM-VAE")


def test_it_is_the_sweeps_settings_that_tables_go_by(place: Place) -> None:
    trials = tuple(
        WantedTrial(result.key, {"method": method}, 3, result.config) for method, result in place.results.items()
    )
    record = SweepRecord("mine", {}, trials, {"split_by": None, "across": None})
    found = place.evaluate("LSTM-VAE")
    assert evaluations_of(record, place.store) == {}
    place.store.keep_settings("mine", SETTINGS)
    assert evaluations_of(record, place.store) == {found.key: found}
    place.store.sweep("mine").publish("evaluation.json", b"{")
    with pytest.raises(ValueError, match=r"evaluation\.json does not say .*; remove it, and 'sweep evaluate mine'"):
        evaluations_of(record, place.store)


def test_metrics_in_mlflow_have_names_of_their_own(place: Place) -> None:
    names = measured_metrics(place.evaluate("LSTM-VAE"))
    assert {"measured/iw_strict", "measured/mi", "measured/valid_nelbo_strict"} <= names.keys()
    assert all(name.startswith("measured/") for name in names)


def test_the_command_says_what_is_wrong(place: Place, tmp_path: Path) -> None:
    environment = {"SWEEP_RESULTS": str(place.store.location), "SWEEP_CORPORA": str(place.corpora)}
    place.store.record(SweepRecord("mine", {"name": "mine"}, (), {}))
    for words, sentence in {
        ("none",): "no sweep 'none' was run in",
        ("mine",): "no trial of sweep 'mine' is done yet that could be evaluated; run it first",
        ("mine", "--fit", "test"): "fitted on train or valid, never on test; --fit test is neither",
    }.items():
        done = sweep_here("evaluate", *words, folder=tmp_path, environment=environment, code=2)
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
