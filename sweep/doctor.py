"""What a sweep stands on, examined before it is run for weeks."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from sweep.forecast import bytes_to_come
from sweep.mirror import default_uri, redacted
from sweep.nodes import examine_nodes
from sweep.plan import make_plan
from sweep.ray_token import token_file
from sweep.resources import Resources
from sweep.spec import SweepSpec
from sweep.store import TrialStore


@dataclass(frozen=True)
class Finding:
    grade: Literal["good", "note", "wrong"]
    subject: str
    sentence: str


def examine(
    source: str | None, store: TrialStore, corpora: Path, tracking: str | None, address: str | None
) -> Sequence[Finding]:
    """All findings, in the order in which they should be mended. Raises ValueError when `source` is no valid spec."""
    findings = [_storage(store), *_disk(store, source, corpora), _mlflow(store, tracking), _token(), _gpu()]
    findings.append(Finding("good", "ray", f"version {version('ray')}"))
    if address is not None:
        findings += _cluster(store, address)
    return findings


def _storage(store: TrialStore) -> Finding:
    try:
        store.check_writable()
    except ValueError as error:
        return Finding("wrong", "storage", str(error))
    return Finding("good", "storage", f"{store.location} can be written")


def _disk(store: TrialStore, source: str | None, corpora: Path) -> Iterator[Finding]:
    free = store.files.free_bytes()
    if free is None:
        yield Finding("note", "disk", f"{store.location} does not say how much room it has")
        return
    has = f"{store.location} has {free / 2**30:.1f} GiB free"
    if source is None:
        yield Finding("note", "disk", f"{has}; name a sweep to compare with what it needs")
        return
    plan = make_plan(SweepSpec.load(source), corpora)
    need = bytes_to_come(plan, plan.missing(store.states(plan.record.wanted)), os.cpu_count() or 1)
    besides = ", besides what its searches leave" if plan.record.studies else ""
    grade: Literal["good", "wrong"] = "good" if need < free else "wrong"
    yield Finding(grade, "disk", f"{has}, and sweep '{source}' needs up to {need / 2**30:.2f} GiB more{besides}")


def _mlflow(store: TrialStore, tracking: str | None) -> Finding:
    from sweep.tracking import ask

    try:
        uri = tracking or default_uri(store.location)
    except ValueError as error:
        return Finding("note", "mlflow", str(error))
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return Finding("good", "mlflow", f"{uri} will be made by the first run")
    problem = ask(uri)
    if problem is None:
        return Finding("good", "mlflow", f"{redacted(uri)} answers")
    return Finding("wrong", "mlflow", f"{redacted(uri)} does not answer ({problem}); training would go on without it")


def _token() -> Finding:
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode != "token":
        return Finding(
            "wrong", "ray token", f"RAY_AUTH_MODE is {mode}: whoever reaches a node runs code on it; set token"
        )
    path = token_file()
    if "RAY_AUTH_TOKEN" in os.environ:
        return Finding("good", "ray token", "from RAY_AUTH_TOKEN")
    if not path.exists():
        return Finding(
            "good", "ray token", "none here: a local cluster gets one of its own, an existing one needs its own"
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Finding("wrong", "ray token", f"others can read {path}; chmod 600 {path}")
    return Finding("good", "ray token", f"from {path}")


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return Finding("note", "gpu", "none here; trials run on the CPU unless the cluster has one")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Finding("good", "gpu", f"{names}, CUDA {torch.version.cuda}")


def _cluster(store: TrialStore, address: str) -> Iterator[Finding]:
    from sweep.cluster import cluster

    try:
        with cluster(Resources(cpu=0.01, gpu=0.0), address):
            reports = examine_nodes(store)
    except ValueError as error:
        yield Finding("wrong", "cluster", str(error))
        return
    for report in reports:
        subject = f"node {report.host}"
        for problem in report.problems:
            yield Finding("wrong", subject, problem)
        if not report.problems:
            runs = f"Ray {report.facts['ray']}, PyTorch {report.facts['torch']}, {report.gpus} GPUs"
            yield Finding("good", subject, f"shares {store.files}, {runs}")
