"""Before a training: what trials of each shape take, measured where nobody has yet, so that they can be packed."""

from collections.abc import Iterable

from rich.console import Console

from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.groups import ShareOf
from sweep.plan import Plan
from sweep.probe import Probe, probe_key
from sweep.progress import Progress
from sweep.queue import TrialQueue
from sweep.record import StudyPlan, WantedTrial
from sweep.resources import Cluster
from sweep.store import TrialStore
from sweep.weight import weight_of

BYTES_NEEDED = 2**20
"""Of the store for a probe: its record."""


def learn(plan: Plan, store: TrialStore, device: str, shapes: Iterable[str]) -> None:
    """Have a plan know of those shapes what was measured on a kind of device."""
    by_key = {_key(shape, device, plan): shape for shape in shapes}
    plan.costs.learn({by_key[key]: probe for key, probe in store.probes.results(by_key).items()})


def probe_shapes(
    plan: Plan,
    missing: Iterable[WantedTrial],
    studies: Iterable[StudyPlan],
    store: TrialStore,
    where: Cluster,
    this: Launch,
    console: Console,
) -> None:
    """Probe each shape of trials and of searched cells that was not probed on the cluster's kind of device.

    Then have the plan know of all. One that fails costs nothing but its knowledge: its trials run as unmeasured ones.
    """
    from sweep.launch import launch
    from sweep.work import probe

    wanted = _wanted(plan, missing, studies, where.device)
    states = store.probes.states(trial.key for trial in wanted.values())
    left = [trial for trial in wanted.values() if states[trial.key] != "done"]
    if left:
        console.print(f"{len(left)} shapes of trial are measured first, a few steps of each")
        with Progress(left, {trial.key: 1.0 for trial in left}, console, _described, room="probes") as progress:
            queue = TrialQueue(left, store.probes, plan.fields.retry, [progress], this.id, lambda key: BYTES_NEEDED)
            launch(queue, store, plan.corpora, where, this, plan.fields.grace_seconds, probe, _by_itself(where))
    learn(plan, store, where.device, wanted)


def _by_itself(where: Cluster) -> ShareOf:
    """What is measured has nobody beside it in its process."""
    return lambda keys: where.unmeasured if len(keys) == 1 else None


def _wanted(
    plan: Plan, missing: Iterable[WantedTrial], studies: Iterable[StudyPlan], device: str
) -> dict[str, WantedTrial]:
    """The probe of each shape, by shape: as a job on the first trial that has it."""
    first = {plan.costs.weights[trial.key].shape: (trial.cell, trial.config) for trial in reversed(list(missing))}
    for study in studies:
        config = TrialConfig.parse({**study.document, "seed": 0})
        first.setdefault(weight_of(config, plan.corpora(config.data)).shape, (study.cell, config.document()))
    return {
        shape: WantedTrial(_key(shape, device, plan), {"probe": f"probe of {cell}"}, config["seed"], config)
        for shape, (cell, config) in first.items()
    }


def _key(shape: str, device: str, plan: Plan) -> str:
    resources = plan.fields.resources
    return probe_key(shape, device, resources.threads, resources.graphs)


def _described(probe: Probe) -> str:
    of_gpu = f", {probe.gpu_bytes / 2**20:.0f} MiB of the GPU's" if probe.gpu_bytes else ""
    return f"{probe.host_bytes / 2**20:.0f} MiB{of_gpu}, {probe.step_seconds * 1000:.0f} ms a step"
