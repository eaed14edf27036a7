"""Whether a recorded trial comes out the same when it is trained again."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.config import TrialConfig, trial_key
from sweep.jobs import RESULT, WEIGHTS
from sweep.record import TrialResult
from sweep.store import TrialStore
from sweep.trial import run_trial

TIMES = ("cost", "environment", "started", "finished")
"""Fields of a result that differ from run to run."""


@dataclass(frozen=True)
class Verdict:
    """differences: of numbers, `path: recorded, again`. environment: of the two runs, the same way."""

    key: str
    differences: Sequence[str]
    environment: Sequence[str]


def verify(store: TrialStore, key: str, corpora: Path, device: str, threads: int) -> Verdict:
    """Train a done trial again, from its recorded config in a store of its own, and compare every number.

    Raises ValueError when it is not done, and TrialFailedError when it fails now.
    """
    if store.state(key) != "done":
        raise ValueError(f"trial {key[:12]} is {store.state(key)}, and only a done one can be compared")
    recorded = store.result(key)
    config = TrialConfig.parse(recorded.config)
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        elsewhere = TrialStore(folder)
        if config.prerequisite is not None:
            start = trial_key(config.prerequisite, recorded.corpus["content_hash"])
            for name in (WEIGHTS, RESULT):
                elsewhere.trial(start).publish(name, store.trial(start).read(name))
        again = run_trial(config, elsewhere, corpora, device=device, threads=threads, key=key)
    return Verdict(
        key,
        list(differences(numbers(recorded), numbers(again))),
        list(differences(recorded.environment, again.environment)),
    )


def numbers(result: TrialResult) -> dict[str, object]:
    """A result without what depends on the clock and the machine."""
    # Of what a config leaves out since it was written, the defaults.
    config = TrialConfig.parse(result.config).document()
    fields = json.loads(json.dumps({**asdict(result), "config": config}))
    for name in TIMES:
        del fields[name]
    for record in fields["history"]:
        del record["timestamp"], record["seconds"]
    return fields  # type: ignore[no-any-return]


def differences(one: object, other: object, path: str = "") -> Iterator[str]:
    """Where two plain values differ, e.g. `test.nll: 101.2, 101.3`."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            yield from differences(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        for index in range(max(len(one), len(other))):
            here, there = (value[index] if index < len(value) else None for value in (one, other))
            yield from differences(here, there, f"{path}[{index}]")
    elif one != other:
        yield f"{path}: {one}, {other}"
