"""The commands of whoever looks after sweeps, on a real store; and MLflow rebuilt from it."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.doctor import Finding, examine
from sweep.jobs import RESULT
from sweep.mirror import Mirror, default_uri
from sweep.outcome import Right, StoppedError, TrialFailedError
from sweep.plan import make_plan
from sweep.record import SweepRecord
from sweep.run import write_tables
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial
from tests.contracts.test_resume import AfterSteps
from tests.here import sweep_here

SPEC = """
name: tiny
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 6, hidden_dim: 8}
  train: {epochs: 3, batch_size: 4}
axes:
  method:
    LSTM-LM: {model: lstm_lm}
    broken: {model: lstm_lm, update: {kind: joint, learning_rate: 3.0e+38, clip: 1.0e+38}}
    hungry: {model: {kind: lstm_lm, hidden_dim: 300000}}
seeds: 2
"""


class Care:
    """A store with two done trials, two that diverged, one that ran out of memory and one that was stopped."""

    def __init__(self, folder: Path, corpora: Path):
        (folder / "tiny.yaml").write_text(SPEC)
        self.folder, self.corpora = folder, corpora
        self.store = TrialStore(folder / "results")
        self.record = make_plan(SweepSpec.load(str(folder / "tiny.yaml")), corpora).record
        self.store.record(self.record)
        for trial in self.record.trials[:5]:
            try:
                run_trial(TrialConfig.parse(trial.config), self.store, corpora)
            except TrialFailedError:
                continue
        last = self.record.trials[5]
        stopped = {**last.config, "model": self.record.trials[0].config["model"], "seed": 7}
        self.record = replace(self.record, trials=(*self.record.trials[:5], replace(last, config=stopped, seed=7)))
        with Launch(self.store.launches, "") as launch, pytest.raises(StoppedError):
            run_trial(TrialConfig.parse(stopped), self.store, corpora, right=Right(launch.id, AfterSteps(9)))
        [key] = self.store.files.names("trials") - {trial.key for trial in self.record.trials}
        self.record = replace(self.record, trials=(*self.record.trials[:5], replace(self.record.trials[5], key=key)))
        self.store.record(self.record)

    def sweep(self, *words: str, code: int = 0) -> str:
        """Standard output of a command, or its errors when it is to fail."""
        own = {"SWEEP_RESULTS": str(self.store.location), "SWEEP_CORPORA": str(self.corpora)}
        done = sweep_here(*words, folder=self.folder, environment=own, code=code)
        return done.stderr if code == 2 else done.stdout


@pytest.fixture
def care(tmp_path: Path, lines_corpus: Path) -> Care:
    return Care(tmp_path, lines_corpus)


def test_status_failures_and_logs(care: Care) -> None:
    status = care.sweep("status", "tiny")
    assert "6 trials wanted, 2 done, 1 to continue, 3 failed, 0 not begun" in status
    assert "nobody runs it now" in status
    assert "failed: broken / seed 0: non-finite: in epoch 1, " in status
    assert "failed: hungry / seed 0: out-of-memory: " in status
    first = care.record.trials[0]
    assert f"{first.key[:12]}  {care.store.state(first.key):7}  {first.name}" in care.sweep(
        "status", "tiny", "--trials"
    )
    assert first.key[:12] not in status
    shown = care.sweep("failures", "tiny")
    assert "2 trials: non-finite: in epoch 1, " in shown
    assert "1 trial: out-of-memory: " in shown
    keys = [trial.key[:12] for trial in care.record.trials if trial.labels["method"] == "broken"]
    assert f"'sweep retry tiny {keys[0]} {keys[1]}' tries again" in shown
    assert f"'sweep logs {keys[0]}' shows all of it" in shown
    groups = json.loads(care.sweep("failures", "tiny", "--json"))
    assert [len(group) for group in groups] == [2, 1]
    assert {"kind", "message", "traceback", "host", "epoch", "attempt", "log_tail"} <= groups[0][0].keys()
    log = care.sweep("logs", keys[0][:8])
    assert "failed: in epoch 1, " in log
    assert "NonFiniteError" in log
    assert "no trial of " in care.sweep("logs", "zzz", code=2)
    assert "trials begin so: " in care.sweep("logs", "", code=2)


def test_status_of_a_running_sweep(care: Care) -> None:
    key = care.record.trials[5].key
    with Launch(care.store.launches, "tiny", lambda: {"mlflow": "x", "unwritten": 7, "problem": "refused"}) as launch:
        care.store.lead("tiny", launch)
        attempt = care.store.begin(key, {}, launch.id)
        status = care.sweep("status", "tiny")
        assert f"run by process {os.getpid()} on " in status
        assert "running: hungry / seed 7: epoch 1, step 3 saved, on " in status
        assert "MLflow at x lacks 7 records (refused)" in status
        assert json.loads(care.sweep("status", "tiny", "--json"))["running"][0]["key"] == key
        refused = care.sweep("sync", "tiny", code=2)
        assert f"sweep 'tiny' is being run by process {os.getpid()} on " in refused
        assert "asked process" in care.sweep("stop", "tiny")
        assert launch.stop.wait(20)
        attempt.give_up()
    assert "is not running" in care.sweep("stop", "tiny", code=2)
    assert "nobody runs it now" in care.sweep("status", "tiny")


def test_an_mlflow_that_cannot_be_used_is_one_sentence(care: Care, tmp_path: Path) -> None:
    """Nobody listens at that port; and a file that is no database."""
    (tmp_path / "damaged.db").write_text("no database, however often it is opened\n" * 99)
    for uri in ("http://me:secret@127.0.0.1:9", f"sqlite:///{tmp_path / 'damaged.db'}"):
        for command in ("sync", "ui"):
            said = care.sweep(command, "tiny", "--tracking-uri", uri, code=2)
            assert "Traceback" not in said
            assert "secret" not in said
            sentence = said.splitlines()[-1]
            assert sentence.startswith("error: MLflow at ")
            assert sentence.endswith("or give another with --tracking-uri, and do the same again")


def test_a_table_from_two_commits_is_said(care: Care) -> None:
    first, second = (trial.key for trial in care.record.trials[:2])
    for key, commit in {first: "a" * 40, second: "b" * 40}.items():
        result = care.store.result(key)
        other = replace(result, environment={**result.environment, "commit": commit, "dirty": "no"})
        care.store.trial(key).publish(RESULT, other.to_json().encode())
    assert f"trials of one table come from 2 commits: {'a' * 12}, {'b' * 12}" in care.sweep("status", "tiny")


def test_what_a_result_says_of_where_it_came_from(care: Care) -> None:
    result = care.store.result(care.record.trials[0].key)
    found = result.environment
    assert {"host", "device", "threads", "python", "system", "commit", "dirty", "torch", "numpy", "ray"} <= found.keys()
    if shutil.which("git"):
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
        assert found["commit"] in (head, "unknown")
    assert result.corpus["content_hash"]
    assert result.config["seed"] == 0


def test_gc_removes_what_is_of_no_use_and_nothing_else(care: Care) -> None:
    folder = care.folder / "results"
    done, orphan = care.record.trials[0].key, "e" * 64
    (folder / "trials" / done / "checkpoint" / "epoch-00003").mkdir(parents=True)
    (folder / "trials" / done / "checkpoint" / "epoch-00003" / "state.json").write_bytes(b"x" * 1000)
    (folder / "trials" / orphan / "checkpoint").mkdir(parents=True)
    (folder / "trials" / orphan / "checkpoint" / "state.json").write_bytes(b"x" * 500)
    (folder / "trials" / done / "log.txt.00.partial").write_bytes(b"x" * 20)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    planned = care.sweep("gc", "--dry-run")
    assert f"1,000  trials/{done}/checkpoint  (of a done trial)" in planned
    assert f"500  trials/{orphan}  (unfinished, and no sweep asks for it)" in planned
    assert "1,520  bytes would go" in planned
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "1,520  bytes removed" in care.sweep("gc")
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    gone = {path for path in before if path not in kept}
    assert kept.items() <= before.items()
    assert {path.name for path in gone} == {"state.json", "log.txt.00.partial"}
    assert care.sweep("gc").strip() == "0  bytes removed"
    started = care.record.trials[5].key
    assert care.store.progress(started)["step"] == 3


def test_gc_leaves_an_evaluation_alone_while_anybody_works_here(care: Care) -> None:
    folder = f"trials/{care.record.trials[0].key}/evaluations/0123/checkpoint/epoch-00000-step-0000007"
    path = care.folder / "results" / folder
    path.mkdir(parents=True)
    (path / "test.safetensors.00.partial").write_bytes(b"x" * 30)
    with Launch(care.store.launches, "tiny"):
        assert "0  bytes would go" in care.sweep("gc", "--dry-run")
    assert f"30  {folder}/test.safetensors.00.partial  (half written" in care.sweep("gc")


def test_verify_trains_again_and_compares(care: Care) -> None:
    key = care.record.trials[0].key
    assert f"{key[:12]}: equal in every number, bit for bit" in care.sweep("verify", key[:10])
    result = care.store.result(key)
    other = replace(result, test={**result.test, "nll": result.test["nll"] + 1e-12})
    care.store.trial(key).publish(RESULT, other.to_json().encode())
    differing = care.sweep("verify", key, code=1)
    assert "1 numbers differ" in differing
    assert "test.nll: " in differing
    assert "and only a done one can be compared" in care.sweep("verify", care.record.trials[2].key, code=2)


def test_retry_is_of_what_failed(care: Care) -> None:
    assert "unknown kind of failure 'oom'" in care.sweep("retry", "tiny", "--kind", "oom", code=2)
    assert "nothing to retry: no trial failed of kind config" in care.sweep("retry", "tiny", "--kind", "config")
    done = care.record.trials[0].key
    assert f"is done and stays so; 'sweep verify {done[:12]}' trains it again" in care.sweep(
        "retry", "tiny", done, code=2
    )
    assert "0 trials of sweep 'tiny' begin so" in care.sweep("retry", "tiny", "zzz", code=2)


def test_resume_refuses_another_corpus(care: Care) -> None:
    (care.corpora / "tiny" / "test.txt").write_text("other words\n")
    assert "it is another trial; run the sweep's spec again" in care.sweep("resume", "tiny", code=2)


def test_doctor(care: Care, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    too_large = care.sweep("doctor", "tiny.yaml", code=1)
    assert "wrong  disk: " in too_large
    (care.folder / "tiny.yaml").write_text(SPEC.replace("300000", "30"))
    findings = care.sweep("doctor", "tiny.yaml")
    for subject in ("storage", "disk", "mlflow", "ray token", "gpu", "ray"):
        assert f"{subject}: " in findings
    assert "and sweep 'tiny.yaml' needs up to " in findings
    token = care.folder / "auth_token"
    token.write_text("a token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    for mode, code in ((0o644, 1), (0o640, 1), (0o600, 0)):
        token.chmod(mode)
        said = f"wrong  ray token: others can read {token}; chmod 600 {token}" if code else f"ray token: from {token}"
        assert said in care.sweep("doctor", code=code)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    away = care.sweep("doctor", "--tracking-uri", "http://someone:secret@127.0.0.1:1", code=1)
    assert "wrong  mlflow: http://***@127.0.0.1:1 does not answer" in away
    assert "secret" not in away
    assert "wrong  ray token: RAY_AUTH_MODE is disabled" in away


def test_doctor_says_of_a_cluster_that_it_cannot_be_joined_and_all_else(
    care: Care, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cluster(*_: object) -> None:
        raise ValueError("no Ray cluster answers at head:6379")

    monkeypatch.setitem(sys.modules, "sweep.cluster", SimpleNamespace(cluster=cluster))
    findings = examine(None, care.store, care.corpora, None, "head:6379")
    assert Finding("wrong", "cluster", "no Ray cluster answers at head:6379") in findings
    assert ("good", "storage") in {(each.grade, each.subject) for each in findings}


SYNCED = 100


def shown(uri: str) -> dict[str, object]:
    """Everything that MLflow has of the sweep but when its runs were begun."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    found: dict[str, object] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=5000):
        points = {
            name: sorted((p.step, p.timestamp, p.value) for p in client.get_metric_history(run.info.run_id, name))
            for name in run.data.metrics
        }
        artifacts = sorted(each.path for each in client.list_artifacts(run.info.run_id))
        assert run.info.run_name not in found
        tags = {name: text for name, text in run.data.tags.items() if not name.startswith("mlflow.")}
        inputs = [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs]
        ended = run.info.end_time if "test/nll" in points else None
        found[run.info.run_name] = (run.info.status, ended, run.data.params, tags, points, artifacts, inputs)
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sync_into_an_empty_mlflow_equals_the_live_mirror(tmp_path: Path, lines_corpus: Path) -> None:
    """Run by run and point by point, after 100 trials; a second time adds nothing; a deleted database comes back."""
    (tmp_path / "tiny.yaml").write_text(SPEC.replace("    hungry: {model: {kind: lstm_lm, hidden_dim: 300000}}\n", ""))
    record = make_plan(SweepSpec.load(str(tmp_path / "tiny.yaml"), [f"seeds={SYNCED // 2}"]), lines_corpus).record
    store = TrialStore(tmp_path / "results")
    store.record(record)
    train_live(record, store, lines_corpus)
    live = shown(default_uri(tmp_path / "results"))
    assert len(live) == SYNCED + 2  # the summary of one cell, and the tables
    assert {status for status, *_ in live.values()} == {"FINISHED", "FAILED"}  # type: ignore[misc]
    own = {"SWEEP_RESULTS": str(store.location)}
    other = f"sqlite:///{tmp_path / secrets.token_hex(4)}.db"
    for _ in range(2):
        sweep_here("sync", "tiny", "--tracking-uri", other, folder=tmp_path, environment=own)
        synced = shown(other)
        assert synced.keys() == live.keys()
        for name, run in live.items():
            assert synced[name] == run, name


def train_live(record: SweepRecord, store: TrialStore, corpora: Path) -> None:
    mirror = Mirror(default_uri(store.location), record, store)
    assert mirror.open() is None
    for trial in record.trials:
        mirror.started(trial)
        try:
            tell = partial(mirror.epoch, trial)
            result = run_trial(TrialConfig.parse(trial.config), store, corpora, on_epoch=tell)
            mirror.finished(trial, result)
        except TrialFailedError as error:
            mirror.failed(trial, error.failure)
    assert mirror.close(write_tables(record, store)) is None


def test_from_scratch_forgets_a_checkpoint_but_not_of_what_runs(care: Care) -> None:
    key = care.record.trials[5].key
    with Launch(care.store.launches, "") as launch:
        attempt = care.store.begin(key, {}, launch.id)
        care.store.forget([key])
        assert care.store.progress(key)["step"] == 3
        attempt.give_up()
    care.store.forget([key])
    assert care.store.state(key) == "missing"
    trained: list[int] = []
    config = TrialConfig.parse(care.record.trials[5].config)
    run_trial(config, care.store, care.corpora, on_epoch=lambda record: trained.append(record.epoch))
    assert trained == [1, 2, 3]
