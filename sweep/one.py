"""One trial of a sweep, chosen by its labels, trained in this process."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sweep.alone import train_alone
from sweep.record import EpochRecord, TrialResult
from sweep.spec import Cell, SweepSpec
from sweep.store import TrialStore
from sweep.trial import default_device, describe


def train_one(
    source: str,
    words: Sequence[str],
    seed: int | None,
    store: TrialStore,
    corpora: Path,
    device: str | None,
    threads: int,
    quiet: bool,
) -> TrialResult:
    """Train the one trial that labels choose. `words` that are no label of the sweep are overrides.

    Raises ValueError when they choose no cell or several, and TrialFailedError when the trial fails.
    """
    known = {label for labels in SweepSpec.load(source).fields.axes.values() for label in labels}
    labels = [word for word in words if word in known]
    spec = SweepSpec.load(source, [word for word in words if word not in known])
    cell = _choose(spec, labels)
    config = spec.trial_config(cell, spec.seeds[0] if seed is None else seed)
    store.check_writable()

    def show(record: EpochRecord) -> None:
        if not quiet:
            sys.stderr.write(describe(record) + "\n")

    where = corpora, device or default_device(), threads
    for each in filter(None, (config.prerequisite, config)):
        result = train_alone(each, store, *where, show, graphs=spec.fields.resources.graphs)
    return result


def _choose(spec: SweepSpec, labels: Sequence[str]) -> Cell:
    chosen = [cell for cell in spec.cells() if set(labels) <= set(cell.labels.values())]
    if len(chosen) != 1:
        cells = "; ".join(" ".join(f"'{label}'" for label in cell.labels.values()) for cell in chosen or spec.cells())
        raise ValueError(
            f"labels {list(labels)} choose {len(chosen)} cells of {spec.fields.name}; choose one of: {cells}"
        )
    return chosen[0]
