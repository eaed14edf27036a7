"""A small sweep in a store with everything that a report can have, its numbers worked out by hand; shared by tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweep.evaluation import Evaluation, EvaluationSettings
from sweep.formats.html import Entry, Grid
from sweep.points import Outcome, Point, keep_point
from sweep.record import (
    SUGGESTION,
    TUNED,
    EpochRecord,
    StudyPlan,
    SweepRecord,
    TrialFailure,
    TrialResult,
    Tuned,
    WantedTrial,
)
from sweep.store import TrialStore

EVIL = '<script>document.title = "taken"</script> & "co"'
SECRET = "hunter2"
METHODS: Mapping[str, Mapping[str, Any]] = {
    "LSTM-LM": {"kind": "lstm_lm"},
    "LSTM-VAE": {"kind": "lstm_vae", "samples": 1, "average": False},
    "LSTM-VAE (L = 5)": {"kind": "lstm_vae", "samples": 5, "average": False},
    "LSTM-VAE-AVG (L = 5)": {"kind": "lstm_vae", "samples": 5, "average": True},
    EVIL: {"kind": "other"},
}
LATENTS = {"LSTM-LM": 0, "LSTM-VAE-AVG (L = 5)": 5}
SETTINGS = ("Standard", "Inputless")
STUDY = "0123456789abcdef"
MEASURED = EvaluationSettings(samples=10, draws=50)
SEARCH = {"space": {"update.learning_rate": {"float": [0.1, 1.0]}}, "budget": 3, "objective": "nll"}
CORPUS = {
    "title": "Toy",
    "content_hash": "c0" * 32,
    "vocabulary": 1234,
    "sentences": {"train": 1000, "valid": 100, "test": 100},
    "tokens": {"train": 10_000, "valid": 1000, "test": 1000},
    "source_nll": {"test": 15.0},
}


def sweep(seeds: int = 2, methods: Sequence[str] = tuple(METHODS), settings: Sequence[str] = SETTINGS) -> SweepRecord:
    trials = tuple(
        WantedTrial(
            f"{n:02d}".ljust(64, "a"),
            {"dataset": "Toy", "setting": setting, "method": method},
            seed,
            {"model": METHODS[method], "data": {"kind": "toy"}, "seed": seed},
        )
        for n, (setting, method, seed) in enumerate(
            (setting, method, seed) for setting in settings for method in methods for seed in range(seeds)
        )
    )
    document = {"name": "mine", "about": f"a toy of {EVIL}", "axes": {"method": dict(METHODS)}}
    return SweepRecord("mine", document, trials, {"split_by": "dataset", "across": "setting"})


def result(trial: WantedTrial) -> TrialResult:
    """Reconstruction of 20 nats and 1 more a method, KL of 2 nats and 0.5 more a seed, less in what is inputless."""
    method = trial.labels["method"]
    latents = LATENTS.get(method, 1)
    rec = 20.0 + list(METHODS).index(method) + (20.0 if trial.labels["setting"] == "Inputless" else 0.0)
    kl = (2.0 + 0.5 * trial.seed) if latents else 0.0
    metrics = metrics_of(rec, kl, latents)
    history = tuple(
        EpochRecord(
            n,
            1000.0 * n,
            30.0,
            min(1.0, n / 2),
            1.0,
            {},
            {**metrics, "nelbo_paper": metrics["nelbo_paper"] + 5 / n},
            True,
        )
        for n in (1, 2, 3)
    )
    cost = {"seconds": 90.0, "epochs": 3, "train_tokens_per_second": 1000.0}
    ran = {
        "host": "secret-host", "device": "Abacus 9000", "threads": "1", "python": "3.11.2", "commit": "f" * 40,
        "dirty": "no", "torch": "2.13.0",
    }  # fmt: skip
    return TrialResult(
        1, trial.key, trial.config, CORPUS, 10, latents, 3, 1.0, metrics, metrics, history, cost, ran, 0.0, 7200.0
    )  # fmt: skip


def metrics_of(rec: float, kl: float, latents: int) -> dict[str, float]:
    paper, strict = rec + kl, rec + max(latents, 1) * kl
    ppls = {"ppl": math.exp(strict / 10), "ppl_paper": math.exp(paper / 10)}
    return {"rec": rec, "kl": kl, "nelbo_paper": paper, "nll": strict, **ppls}


def evaluation(trial: WantedTrial) -> Evaluation:
    """With the numbers of the training, an MI of 0.9 of the KL, and a spectrum in no order."""
    of = result(trial)
    kl, paper, strict = of.test["kl"], of.test["nelbo_paper"], of.test["nll"]
    forms = {
        "paper": paper,
        "strict": strict,
        "exch": (paper + strict) / 2,
        "l1": paper + (0.25 if strict > paper else 0),
    }
    test = {"rec": of.test["rec"], "kl": kl}
    for form, value in forms.items():
        test |= {f"nelbo_{form}": value, f"nelbo_{form}_se": 0.1, f"ppl_{form}": math.exp(value / 10)}
        test |= {f"iw_{form}": value - 0.5, f"iw_{form}_se": 0.2, f"iw_{form}_ess": 12.5}
    test["jensen"] = forms["l1"] - paper
    valid = {f"nelbo_{form}": value for form, value in forms.items()}
    spectrum: tuple[float, ...] = ()
    if of.latents_per_sentence:
        test |= {"mi": 0.9 * kl, "mi_se": 0.01, "mi_b32": 0.8 * kl, "kl_aggregate": 0.1 * kl, "active_units": 2.0}
        test |= {"swap": 1.5}
        spectrum = (0.0, 0.75 * kl, 0.0, 0.25 * kl)
    facts = {**MEASURED.model_dump(), "mi_batch": 32}
    return Evaluation(
        trial.key, facts, of.latents_per_sentence, (), spectrum, valid, test, {"seconds": 30.0}, {}, 0.0
    )  # fmt: skip


def keep(store: TrialStore, record: SweepRecord, *, but: Sequence[int] = ()) -> None:
    """Put a sweep into a store, its trials done but those at some places."""
    store.record(record)
    for place, trial in enumerate(record.trials):
        if place not in but:
            store.trial(trial.key).publish("result.json", result(trial).to_json().encode())


def keep_evaluations(store: TrialStore, record: SweepRecord) -> None:
    """Of every done trial."""
    store.sweep(record.name).publish("evaluation.json", MEASURED.model_dump_json().encode())
    for key in store.results(record.wanted):
        text = evaluation(record.wanted[key]).to_json()
        store.evaluations(MEASURED).trial(key).publish("result.json", text.encode())


def keep_failure(store: TrialStore, trial: WantedTrial) -> None:
    message = f"no gradient in step 7 of {EVIL}, said https://me:{SECRET}@mlflow.example/x"
    traceback = f'Traceback:\n  File "model/update.py", line 3, in step\nNonFiniteError: {message}'
    failure = TrialFailure(trial.key, "non-finite", message, traceback, 2, "secret-host", 5.0)
    store.trial(trial.key).publish("failure.json", failure.to_json().encode())


def keep_search(store: TrialStore, record: SweepRecord) -> SweepRecord:
    """A search of three suggestions in the first cell, one of them pruned, and a tuned row that is done."""
    first = record.trials[2]
    cell = dict(first.labels)
    study = StudyPlan(STUDY, cell, {}, SEARCH["space"], "", 1, 3)  # type: ignore[arg-type]
    for number, state in enumerate(("complete", "pruned", "complete")):
        trial = WantedTrial(f"5{number}".ljust(64, "b"), {**cell, SUGGESTION: str(number)}, 10_000, first.config)
        point = Point(number, {"update.learning_rate": 0.5 + number / 10}, (trial,))
        keep_point(store, record.name, STUDY, replace(point, outcome=Outcome(state, 21.5 + number, ())))  # type: ignore[arg-type]
        store.trial(trial.key).publish("result.json", result(trial).to_json().encode())
    labels = {**cell, TUNED: "tuned"}
    tuned = WantedTrial("6".ljust(64, "c"), labels, 0, {**first.config, "lr": 0.5})
    store.trial(tuned.key).publish("result.json", result(tuned).to_json().encode())
    chosen = Tuned(labels, "nll", 3, 1, 0, {"update.learning_rate": 0.5, "name": EVIL}, 21.5)
    return replace(
        record,
        document={**record.document, "search": SEARCH},
        trials=(*record.trials, tuned),
        studies=(study,),
        tuned=(chosen,),
    )


def everything(store: TrialStore) -> SweepRecord:
    """A sweep with all that a report has a section for: of the trials 3, 7 and 19 are not done, and 7 has failed."""
    record = keep_search(store, sweep())
    keep(store, record, but=(3, 7, 19))
    keep_failure(store, record.trials[7])
    keep_evaluations(store, record)
    files = store.trial(record.trials[2].key)
    files.publish("reading/prior.txt", f"the cat sat\n{EVIL}\n".encode())
    files.publish("reading/prior.json", b"{}")
    return record


def results(record: SweepRecord) -> dict[str, TrialResult]:
    return {trial.key: result(trial) for trial in record.trials}


def evaluations(record: SweepRecord) -> dict[str, Evaluation]:
    return {trial.key: evaluation(trial) for trial in record.trials}


def line(grid: Grid, label: str, block: int = 0) -> dict[str, Entry]:
    """Entries by column; of columns with one header, the last."""
    found = next(line for line in grid.blocks[block].lines if line.label == label)
    return dict(zip(grid.columns, found.entries, strict=True))
