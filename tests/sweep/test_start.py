"""Trials that start from another's weights: planned with it, held back until it is done, failed with it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep import queue as queue_module
from sweep.claims import Launch
from sweep.config import TrialConfig, trial_key
from sweep.document import Document, parse
from sweep.outcome import TrialFailedError
from sweep.plan import Plan, make_plan, plan_again
from sweep.queue import PAUSE, TrialQueue
from sweep.record import START, SweepRecord, TrialFailure, WantedTrial
from sweep.spec import RetryPolicy, SweepSpec
from sweep.store import TrialStore
from sweep.table import comparison_tables
from sweep.trial import prepare, run_trial
from sweep.verify import verify
from tests.sweep.test_queue import Clock, Notes

SWEEP = Path(sys.executable).with_name("sweep")
SPEC = """
name: starts
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 5, hidden_dim: 7}
  train: {epochs: 1, batch_size: 4}
axes:
  method:
    LSTM-LM: {model: lstm_lm, schedule: constant}
    CNN-VAE + init: {model: {kind: cnn_vae, size: S}, start: {trained: {model: lstm_lm, schedule: constant}}}
    LSTM-VAE + init: {model: lstm_vae, start: {trained: {model: {kind: lstm_lm, output_dropout: 0.1}}}}
seeds: 2
"""


def spec_of(text: str = SPEC, *overrides: str) -> SweepSpec:
    return SweepSpec.of(Document("starts.yaml", parse(text)), overrides)


@pytest.fixture
def plan(lines_corpus: Path) -> Plan:
    return make_plan(spec_of(), lines_corpus)


def by_name(record: SweepRecord) -> dict[str, WantedTrial]:
    return {trial.name: trial for trial in record.wanted.values()}


def test_what_is_started_from_is_wanted_once_and_stands_in_no_table(plan: Plan, lines_corpus: Path) -> None:
    record, names = plan.record, by_name(plan.record)
    assert len(record.trials) == 6
    assert len(record.wanted) == 8
    # One is a row of the sweep, the other is not.
    for seed in range(2):
        assert names[f"CNN-VAE + init / seed {seed}"].after == names[f"LSTM-LM / seed {seed}"].key
        assert names[f"LSTM-VAE + init / seed {seed}"].after == names[f"start of LSTM-VAE + init / seed {seed}"].key
    assert {trial.labels[START] for trial in record.starts} == {"start of CNN-VAE + init", "start of LSTM-VAE + init"}
    (table,) = comparison_tables(record, {})
    assert [row.label for row in table.rows] == ["LSTM-LM", "CNN-VAE + init", "LSTM-VAE + init"]
    assert plan.costs.keys() == record.wanted.keys()
    assert SweepRecord.from_json(record.to_json()) == record
    assert plan_again(record, lines_corpus).costs.keys() == record.wanted.keys()
    # What others wait for comes before them.
    order = [trial.key for trial in plan.missing(dict.fromkeys(record.wanted, "missing"))]
    for trial in record.trials:
        assert not trial.after or order.index(trial.after) < order.index(trial.key)


def test_a_cells_trials_are_those_of_each_seed_by_itself() -> None:
    """Whatever was worked out for the seed before."""
    spec = spec_of(SPEC, "seeds=4")
    for cell in spec.cells():
        for seed, config in zip(spec.seeds, spec.trial_configs(cell, spec.seeds), strict=True):
            alone = spec.trial_config(cell, seed)
            assert (config, config.document()) == (alone, alone.document())
            assert trial_key(config, "text") == trial_key(alone, "text")


def test_the_key_covers_both(lines_corpus: Path) -> None:
    spec = spec_of()
    cell = next(cell for cell in spec.cells() if cell.labels["method"] == "LSTM-VAE + init")
    config = spec.trial_config(cell, 0)
    prerequisite = config.prerequisite
    assert prerequisite is not None
    assert (prerequisite.seed, prerequisite.data, prerequisite.train) == (0, config.data, config.train)
    key = trial_key(config, "text")
    assert TrialConfig.parse(config.document()) == config
    longer = spec_of(SPEC.replace("output_dropout: 0.1", "output_dropout: 0.2"))
    assert trial_key(longer.trial_config(longer.cells()[2], 0), "text") != key
    # A default that is written out names the same trial.
    written = spec_of(SPEC.replace("output_dropout: 0.1", "output_dropout: 0.1, init_range: 0.1"))
    assert trial_key(written.trial_config(written.cells()[2], 0), "text") == key
    without = TrialConfig.parse({**config.document(), "start": {}})
    assert trial_key(without, "text") != key
    document = without.document()
    del document["start"]
    assert trial_key(TrialConfig.parse(document), "text") == trial_key(without, "text")


def test_it_starts_from_the_other_and_trains_on(plan: Plan, lines_corpus: Path, tmp_path: Path) -> None:
    store, names = TrialStore(tmp_path / "results"), by_name(plan.record)
    config = TrialConfig.parse(names["CNN-VAE + init / seed 0"].config)
    with pytest.raises(TrialFailedError, match="it starts from the weights of trial .*, which is missing"):
        run_trial(config, store, lines_corpus)
    run_trial(TrialConfig.parse(names["LSTM-LM / seed 0"].config), store, lines_corpus)
    result = run_trial(config, store, lines_corpus)
    assert store.state(result.key) == "done"
    assert result.key == names["CNN-VAE + init / seed 0"].key
    assert verify(store, result.key, lines_corpus, "cpu", 1).differences == []
    cold = run_trial(TrialConfig.parse({**config.document(), "start": {}}), store, lines_corpus)
    assert cold.history[0].valid != result.history[0].valid


def test_its_first_weights_are_the_others(plan: Plan, lines_corpus: Path, tmp_path: Path) -> None:
    from sweep.trial import start
    from sweep.weight import Corpora

    store, names = TrialStore(tmp_path / "results"), by_name(plan.record)
    other = run_trial(TrialConfig.parse(names["LSTM-LM / seed 0"].config), store, lines_corpus)
    config = TrialConfig.parse(names["CNN-VAE + init / seed 0"].config)
    corpus = Corpora(lines_corpus)(config.data)
    model = prepare(config, corpus, "cpu").model
    start(model, config, corpus, store)
    weights, own = store.weights(other.key), model.state_dict()
    assert torch.equal(own["encoder.lstm.weight_hh_l0"], weights["decoder.lstm.weight_hh_l0"])
    assert torch.equal(own["encoder.embedding.weight"], weights["decoder.embedding.weight"])


def queue_of(
    plan: Plan, store: TrialStore, launch: Launch, notes: Notes, only: set[str] | None = None
) -> TrialQueue[Any]:
    trials = [trial for trial in plan.record.wanted.values() if only is None or trial.key in only]
    return TrialQueue(trials, store, RetryPolicy(), [notes], launch.id, lambda key: 0)


def drained(queue: TrialQueue[Any]) -> list[str]:
    """Names of what is handed out now."""
    names = []
    while (found := queue.next()) is not None:
        names.append(found[0].name)
    return names


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(queue_module, "time", clock)
    return clock


def test_it_is_held_back_until_the_other_is_done(plan: Plan, lines_corpus: Path, tmp_path: Path, clock: Clock) -> None:
    store, notes, names = TrialStore(tmp_path / "results"), Notes(), by_name(plan.record)
    with Launch(store.launches, "starts") as launch:
        queue = queue_of(plan, store, launch, notes)
        first = drained(queue)
        assert {name for name in first if "LSTM-LM" in name} == {"LSTM-LM / seed 0", "LSTM-LM / seed 1"}
        assert not [name for name in first if "+ init /" in name and not name.startswith("start of")]
        run_trial(TrialConfig.parse(names["LSTM-LM / seed 1"].config), store, lines_corpus)
        queue.ended(names["LSTM-LM / seed 1"].key)
        clock.now += 2 * PAUSE
        assert drained(queue) == ["CNN-VAE + init / seed 1"]
        assert not queue.is_over


def test_it_fails_with_the_other_and_says_so(plan: Plan, tmp_path: Path, clock: Clock) -> None:
    store, notes, names = TrialStore(tmp_path / "results"), Notes(), by_name(plan.record)
    start, dependent = names["LSTM-LM / seed 0"], names["CNN-VAE + init / seed 0"]
    with Launch(store.launches, "starts") as launch:
        queue = queue_of(plan, store, launch, notes, {start.key, dependent.key})
        assert drained(queue) == [start.name]
        attempt = store.begin(start.key, start.config, launch.id)
        attempt.fail(TrialFailure(start.key, "non-finite", "the loss is not finite", "", 1, "here", 0.0))
        queue.ended(start.key)
        clock.now += 2 * PAUSE
        assert drained(queue) == []
        assert queue.is_over
    failure = store.failure(dependent.key)
    assert failure.kind == "prerequisite"
    assert failure.message.endswith("which is failed: the loss is not finite")
    assert f"failed {dependent.name}: prerequisite" in notes.told


def test_it_fails_where_nobody_trains_the_other(plan: Plan, tmp_path: Path, clock: Clock) -> None:
    store, notes = TrialStore(tmp_path / "results"), Notes()
    dependent = by_name(plan.record)["CNN-VAE + init / seed 0"]
    with Launch(store.launches, "starts") as launch:
        queue = queue_of(plan, store, launch, notes, {dependent.key})
        assert drained(queue) == []
        assert "which is missing: nobody trains it" in store.failure(dependent.key).message


MISTAKES: Mapping[str, tuple[str, str]] = {
    "start: {trained: {modell: lstm_lm}}": ("start.trained.modell: unknown group 'modell'", ""),
    "start: {trained: {model: lstm_llm}}": ("start.trained.model: unknown choice of conf/model/ 'lstm_llm'", ""),
    "start: {trained: {model: {kind: lstm_lm, samples: 3}}}": ("start.trained.model.samples: unknown key", ""),
    "start: {trainde: {}}": ("start.trainde: unknown key 'trainde'; did you mean 'trained'?", ""),
    "start: {trained: {model: lstm_lm, start: {trained: {}}}}": ("a trial that others start from is trained", ""),
    "model: lstm_lm, start: {trained: {model: lstm_lm}}": ("is for models that take weights from another", ""),
    "start: {trained: {model: {kind: lstm_lm, embedding_dim: 6}}}": ("", "embedding_dim and hidden_dim"),
    "start: {trained: {model: cnn_lm}}": ("", "name a trial of lstm_lm"),
}


@pytest.mark.parametrize("patch", MISTAKES)
def test_a_mistake_is_one_sentence(patch: str, lines_corpus: Path, tmp_path: Path) -> None:
    """In the spec where it can be known there, else as the trial's failure."""
    model = "" if patch.startswith("model") else "model: {kind: cnn_vae, size: S}, "
    text = SPEC[: SPEC.index("axes:")] + f"axes:\n  method:\n    X: {{{model}{patch}}}\n"
    in_spec, in_trial = MISTAKES[patch]
    if in_spec:
        with pytest.raises(ValueError, match=r"^starts\.yaml") as caught:
            make_plan(spec_of(text), lines_corpus)
        assert in_spec in str(caught.value)
        return
    store, plan = TrialStore(tmp_path / "results"), make_plan(spec_of(text), lines_corpus)
    run_trial(TrialConfig.parse(plan.record.starts[0].config), store, lines_corpus)
    with pytest.raises(TrialFailedError, match=in_trial):
        run_trial(TrialConfig.parse(plan.record.trials[0].config), store, lines_corpus)
    assert store.failure(plan.record.trials[0].key).kind == "config"
    assert json.loads(store.trial(plan.record.trials[0].key).read("config.json"))["start"]["trained"] is not None


@pytest.mark.slow
def test_a_sweep_trains_both_and_evaluates_the_rows(lines_corpus: Path, tmp_path: Path) -> None:
    """By real processes. The row's own learning rate is not that of what it starts from, which is a row itself."""
    (tmp_path / "starts.yaml").write_text(
        SPEC.replace("size: S}, start", "size: S}, update: {learning_rate: 0.1}, start")
    )
    environment = {**os.environ, "SWEEP_RESULTS": str(tmp_path / "results"), "SWEEP_CORPORA": str(lines_corpus)}

    def sweep(*words: str) -> str:
        done = subprocess.run(
            [SWEEP, *words, "--no-tracking"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = sweep("run", "starts.yaml")
    assert "8 trials wanted" in said
    store = TrialStore(tmp_path / "results")
    record = store.recorded("starts")
    assert set(store.states(record.wanted).values()) == {"done"}
    for seed in range(2):
        assert by_name(record)[f"CNN-VAE + init / seed {seed}"].after == by_name(record)[f"LSTM-LM / seed {seed}"].key
    ends = {key: result.finished for key, result in store.results(record.wanted).items()}
    begins = {key: result.started for key, result in store.results(record.wanted).items()}
    assert all(ends[trial.after] <= begins[trial.key] for trial in record.trials if trial.after)
    assert "6 trials to evaluate, 0 evaluated" in sweep("evaluate", "starts", "--iw", "5")
    settings = store.evaluated("starts")
    assert settings is not None
    assert set(store.evaluations(settings).states(trial.key for trial in record.trials).values()) == {"done"}
