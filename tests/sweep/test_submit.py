"""What is sent where, and what becomes of it; with stand-ins for the programs of clusters that no machine alone has."""

import itertools
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from sweep import submit, target
from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.plan import make_plan
from sweep.record import seal
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.submission import ending
from sweep.target import Job, new_id
from sweep.targets import kuberay, ray_job, slurm
from sweep.trial import run_trial
from tests.here import sweep_here

SPEC = """
name: Tiny.one
base:
  data: {kind: lines, name: tiny}
  model: {kind: lstm_lm, embedding_dim: 4, hidden_dim: 5}
  train: {epochs: 1, batch_size: 8}
"""
JOB = Job("tiny-01234567", ["sweep", "resume", "tiny", "--results", "s3://bucket/results"])


class Outside:
    """A folder from which sweeps are submitted, with programs of its own before all others."""

    def __init__(self, folder: Path, corpora: Path, patch: pytest.MonkeyPatch):
        (folder / "tiny.yaml").write_text(SPEC)
        self.folder, self.corpora, self.programs = folder, corpora, folder / "bin"
        self.programs.mkdir()
        self.store = TrialStore(folder / "results")
        patch.setenv("PATH", f"{self.programs}{os.pathsep}{os.environ['PATH']}")
        patch.setattr(submit, "ASKED", 0.05)

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def sweep(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Standard output and errors."""
        own = {"SWEEP_RESULTS": str(self.store.location), "SWEEP_CORPORA": str(self.corpora)}
        done = sweep_here(*words, folder=self.folder, environment=own, code=code)
        return done.stdout, done.stderr

    def train(self) -> None:
        """What the cluster would do."""
        for trial in make_plan(SweepSpec.load(str(self.folder / "tiny.yaml")), self.corpora).record.trials:
            run_trial(TrialConfig.parse(trial.config), self.store, self.corpora)


@pytest.fixture
def outside(tmp_path: Path, lines_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Outside(tmp_path, lines_corpus, monkeypatch)


def test_every_target_is_a_file_and_has_a_dry_run_that_writes_nothing(outside: Outside) -> None:
    assert target.names() == ["kuberay", "ray-job", "slurm"]
    command = "sweep resume Tiny.one --address auto --submission tiny-one-"
    for name in target.names():
        shown, _ = outside.sweep("submit", "tiny.yaml", "--to", name, "--dry-run")
        assert command in shown.replace("\n", " ").replace("  ", " ")
        assert f"--results {outside.store.location}" in shown.replace("\n    ", " ")
    assert not (outside.folder / "results").exists()
    _, said = outside.sweep("submit", "tiny.yaml", "--to", "slum", "--dry-run", code=2)
    assert "unknown target 'slum'; did you mean 'slurm'? known: kuberay, ray-job, slurm" in said


def test_names_are_those_that_kubernetes_has() -> None:
    names = {new_id(sweep) for sweep in ("My_Sweep.of THINGS" + "x" * 90, "3-" + "layers" * 15) for _ in range(20)}
    assert len(names) == 40
    for name in names:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 47


def test_no_password_gets_into_a_command(outside: Outside) -> None:
    secret = ("postgresql://somebody:hunter2@db/mlflow", "postgresql://db/mlflow?user=somebody&Password=hunter2")
    for option, uri in itertools.product(("--tracking-uri", "--search-storage"), secret):
        _, said = outside.sweep("submit", "tiny.yaml", "--to", "ray-job", "--dry-run", option, uri, code=2)
        assert "would stand in the job's command for everybody to see" in said
        assert "hunter2" not in said
    shown, _ = outside.sweep(
        "submit", "tiny.yaml", "--to", "ray-job", "--dry-run", "--tracking-uri", "http://mlflow:5000"
    )
    assert "--tracking-uri http://mlflow:5000" in shown
    shown, _ = outside.sweep("submit", "tiny.yaml", "--to", "ray-job", "--dry-run", "--no-tracking")
    assert "--no-tracking" in shown


def test_a_manifest_of_ones_own_comes_first(outside: Outside) -> None:
    own = outside.folder / "conf" / "cluster" / "kuberay"
    own.mkdir(parents=True)
    manifest = yaml.safe_load(target.cluster_file("kuberay/rayjob.yaml"))
    manifest["spec"]["backoffLimit"] = 7
    (own / "rayjob.yaml").write_text(yaml.safe_dump(manifest))
    shown, _ = outside.sweep("submit", "tiny.yaml", "--to", "kuberay", "--dry-run")
    assert yaml.safe_load(shown)["spec"]["backoffLimit"] == 7


# KubeRay


def test_kubernetes_is_given_the_manifest_and_asked_until_the_job_is_over(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = outside.folder / "conf" / "cluster" / "kuberay" / "rayjob.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(target.cluster_file("kuberay/rayjob.yaml").replace("IMAGE", "registry/sweep:1"))
    monkeypatch.chdir(outside.folder)
    state = outside.folder / "state.json"
    outside.program("kubectl", f'if [ "$1" = create ]; then cat > "{outside.folder}/sent.yaml"; else cat "{state}"; fi')
    assert kuberay.Target().send(JOB) == JOB.id
    sent = yaml.safe_load((outside.folder / "sent.yaml").read_text())
    assert sent["metadata"]["name"] == JOB.id
    assert sent["spec"]["entrypoint"] == "sweep resume tiny --results s3://bucket/results"
    assert "&id" not in (outside.folder / "sent.yaml").read_text()
    over = {"Complete", "Failed", "ValidationFailed"}
    for name in {"Initializing", "Running", "Suspended", "Retrying"} | over:
        state.write_text(json.dumps({"status": {"jobDeploymentStatus": name}}))
        assert kuberay.Target().is_over(JOB.id) is (name in over)
    state.write_text("{}")
    assert not kuberay.Target().is_over(JOB.id)


def test_a_manifest_without_an_image_is_not_sent(outside: Outside) -> None:
    """Its pods would wait for that image, and whoever waits for the job with them."""
    outside.program("kubectl", f'cat > "{outside.folder}/sent.yaml"')
    with pytest.raises(ValueError, match=r"rayjob.yaml does not name your image yet; copy it to \./conf/cluster/"):
        kuberay.Target().send(JOB)
    assert not (outside.folder / "sent.yaml").exists()


def test_kubernetes_that_refuses_or_has_forgotten(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kuberay, "PLACEHOLDER", "")
    outside.program("kubectl", 'echo "Error from server (NotFound): rayjobs.ray.io not found" >&2; exit 1')
    assert kuberay.Target().is_over(JOB.id)
    with pytest.raises(ValueError, match="Kubernetes does not take the RayJob .*NotFound"):
        kuberay.Target().send(JOB)
    outside.program("kubectl", 'echo "Unable to connect to the server" >&2; exit 1')
    with pytest.raises(OSError, match="Unable to connect"):
        kuberay.Target().is_over(JOB.id)


@pytest.mark.parametrize("word", ["a b", "$HOME", "a;b", "'", '"', "`id`", "a|b", ""])
def test_a_word_that_a_shell_would_read_is_not_sent_through_kuberay(word: str) -> None:
    with pytest.raises(ValueError, match="may not survive that; rename it"):
        kuberay.Target().shown(Job("tiny-0", ["sweep", "resume", word]))


# Slurm


def test_slurm_is_given_the_script_and_the_command_as_words(outside: Outside) -> None:
    outside.program(
        "sbatch", f'printf "%s\\n" "$@" > "{outside.folder}/words"; cat "$3" > "{outside.folder}/script"; echo 42;'
    )
    job = Job("tiny-0", ["sweep", "resume", "tiny", "--results", "/shared/my results"])
    assert slurm.Target().send(job) == "42"
    words = (outside.folder / "words").read_text().splitlines()
    assert words[:2] == ["--parsable", "--job-name=tiny-0"]
    assert words[3:] == job.command
    assert (outside.folder / "script").read_text() == target.cluster_file("slurm/sweep.sbatch")
    outside.program("sbatch", "echo 42';'north")
    assert slurm.Target().send(job) == "42"
    outside.program("squeue", "echo PENDING")
    assert not slurm.Target().is_over("42")
    outside.program("squeue", "true")
    assert slurm.Target().is_over("42")
    outside.program("squeue", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    assert slurm.Target().is_over("42")
    outside.program("squeue", "echo Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(OSError, match="Unable to contact"):
        slurm.Target().is_over("42")


def test_a_program_that_is_not_there(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(outside.programs))
    with pytest.raises(ValueError, match="sbatch is not installed here; submit from a machine that has it"):
        slurm.Target().send(JOB)


# Waiting


def test_the_exit_code_is_the_sweeps_own(outside: Outside) -> None:
    """And not the scheduler's. The stand-in of a cluster ends as soon as it has begun."""
    outside.program("sbatch", "echo 42")
    outside.program("squeue", "true")
    _, said = outside.sweep("submit", "tiny.yaml", "--to", "slurm", code=3)
    assert "sent to slurm as 42; 'sweep status Tiny.one' shows how it stands" in said
    assert "job 42 is over and has left no word" in said
    outside.train()
    printed, said = outside.sweep("submit", "tiny.yaml", "--to", "slurm")
    assert "NLL" in printed
    assert "has left no word" not in said


@pytest.mark.parametrize(("code", "sentence"), [(0, ""), (1, ""), (2, "node n1: its torch is another"), (3, "")])
def test_what_a_job_says_in_the_store_counts(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    outside.program("sbatch", "echo 42")
    outside.program("squeue", "true")
    monkeypatch.setattr("sweep.submit_cli.new_id", lambda name: "tiny-0")
    own = outside.store.sweep("Tiny.one")
    own.publish("submissions/tiny-0.json", seal({"code": code, "sentence": sentence}).encode())
    _, said = outside.sweep("submit", "tiny.yaml", "--to", "slurm", code=code)
    assert sentence in said


def test_an_address_that_means_another_machine_there_is_said(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    outside.program("sbatch", "echo 42")
    for uri, is_said in (("http://127.0.0.1:5000", True), ("http://mlflow:5000", False)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        _, said = outside.sweep("submit", "tiny.yaml", "--to", "slurm", "--no-wait")
        assert (f"MLflow is at {uri}, which is its own machine there" in said) is is_said


def test_a_target_that_is_away_is_asked_again(outside: Outside) -> None:
    outside.train()
    outside.program("sbatch", "echo 42")
    away = outside.folder / "away"
    away.write_text("..")
    # Away for as many questions as the file has characters.
    outside.program("squeue", f'[ -s "{away}" ] || exit 0; truncate -s -1 "{away}"; echo away >&2; exit 1')
    _, said = outside.sweep("submit", "tiny.yaml", "--to", "slurm")
    assert said.count("how it stands cannot be asked (squeue: away); trying on") == 1
    assert away.read_text() == ""


def test_a_resumed_submission_leaves_its_ending(outside: Outside) -> None:
    outside.train()
    outside.program("sbatch", "echo 42")
    outside.sweep("submit", "tiny.yaml", "--to", "slurm", "--no-wait")
    outside.sweep("resume", "Tiny.one", "--no-tracking", "--submission", "tiny-1")
    found = ending(outside.store, "Tiny.one", "tiny-1")
    assert found is not None
    assert (found.code, found.sentence) == (0, "")
    (outside.corpora / "tiny" / "test.txt").write_text("other words\n")
    outside.sweep("resume", "Tiny.one", "--no-tracking", "--submission", "tiny-2", code=2)
    found = ending(outside.store, "Tiny.one", "tiny-2")
    assert found is not None
    assert found.code == 2
    assert "it is another trial; run the sweep's spec again" in found.sentence
    for id in ("../tiny", "tiny/..", "", "Tiny", "a" * 64):
        _, said = outside.sweep("resume", "Tiny.one", "--no-tracking", "--submission", id, code=2)
        assert "a submission's id is of lower-case letters, digits and hyphens" in said


def test_a_job_that_a_cluster_tries_again_stays_stopped(outside: Outside) -> None:
    outside.program("sbatch", "echo 42")
    outside.sweep("submit", "tiny.yaml", "--to", "slurm", "--no-wait")
    with Launch(outside.store.launches, "Tiny.one") as driver:
        outside.store.lead("Tiny.one", driver)
        outside.sweep("stop", "Tiny.one")
    outside.sweep("resume", "Tiny.one", "--no-tracking", "--submission", "tiny-1", code=3)
    found = ending(outside.store, "Tiny.one", "tiny-1")
    assert found is not None
    assert (found.code, outside.store.files.names("trials")) == (3, set())
    outside.train()
    outside.sweep("submit", "tiny.yaml", "--to", "slurm", "--no-wait")
    outside.sweep("resume", "Tiny.one", "--no-tracking", "--submission", "tiny-2")


def test_a_sweep_that_runs_is_not_submitted(outside: Outside) -> None:
    outside.program("sbatch", "exit 1")
    with Launch(outside.store.launches, "Tiny.one") as other:
        outside.store.lead("Tiny.one", other)
        _, said = outside.sweep("submit", "tiny.yaml", "--to", "slurm", code=2)
    assert f"sweep 'Tiny.one' is being run by process {os.getpid()}" in said


# Ray's jobs API


@pytest.fixture
def answering() -> Iterator[dict[str, int]]:
    """A server on loopback that answers with these status codes by path; and has under `port` where it is."""
    codes: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes[self.path])
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """The tests look at what came of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    codes["port"] = server.server_port
    yield codes
    server.shutdown()
    server.server_close()


def test_ray_refuses_or_is_open_or_away(answering: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the-secret-token")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # that would read it
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{answering['port']}")
    answering["/api/version"] = 200
    with pytest.raises(ValueError, match="runs what anybody sends; to turn its token on, start every node"):
        ray_job.Target().send(JOB)
    answering |= {"/api/version": 401, "/api/jobs/": 403}
    with pytest.raises(ValueError, match=r"refuses the job \(HTTP status 403\); check that the token") as error:
        ray_job.Target().send(JOB)
    assert "the-secret-token" not in str(error.value) + ray_job.Target().shown(JOB)
    answering["/api/jobs/tiny-01234567"] = 404
    assert ray_job.Target().is_over(JOB.id)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"cannot be reached \(.*refused\); check .* and the tunnel that leads there"):
        ray_job.Target().send(JOB)
    with pytest.raises(OSError, match="refused"):
        ray_job.Target().is_over(JOB.id)


@pytest.mark.parametrize(
    "address", ["http://10.0.0.1:8265", "http://head:8265", "http://0.0.0.0:8265", "10.0.0.1:8265"]
)
def test_a_token_is_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    with pytest.raises(ValueError, match="would have the token sent in the clear; make a tunnel"):
        ray_job.Target().send(JOB)


@pytest.mark.parametrize("address", ["https://ray.example", "http://localhost:8265/", "http://[::1]:8265"])
def test_a_tunnel_and_tls_are_taken(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
    assert ray_job.Target().shown(JOB).startswith(f"POST {address.rstrip('/')}/api/jobs/\n")


def test_without_a_token_nothing_is_sent(
    answering: dict[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{answering['port']}")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    answering["/api/version"] = 401
    with pytest.raises(ValueError, match="there is no Ray token in RAY_AUTH_TOKEN or "):
        ray_job.Target().send(JOB)
