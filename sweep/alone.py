"""One trial in a process of its own: `python -m sweep.trial CONFIG.json`, and what `sweep trial` shares with it."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.ending import ended_in_good_order
from sweep.exits import INTERRUPTED, told
from sweep.outcome import Right
from sweep.record import EpochRecord, TrialResult
from sweep.store import TrialStore
from sweep.trial import default_device, describe, run_trial

GRACE_SECONDS = 60.0


def train_alone(
    config: TrialConfig,
    store: TrialStore,
    corpora: Path,
    device: str,
    threads: int,
    on_epoch: Callable[[EpochRecord], None],
    *,
    graphs: bool = True,
) -> TrialResult:
    """Train one trial in this process; Ctrl-C and SIGTERM have it leave a checkpoint first. Raises as `run_trial`."""

    def say(sentence: str) -> None:
        sys.stderr.write(sentence + "\n")

    this = Launch(store.launches, "")
    with this, ended_in_good_order(this, GRACE_SECONDS, say, lambda: os._exit(INTERRUPTED)):
        right = Right(this.id, this.stop)
        return run_trial(
            config, store, corpora, device=device, threads=threads, graphs=graphs, on_epoch=on_epoch, right=right
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one trial from its config.json, without Ray or MLflow.")
    parser.add_argument("config", type=Path, help="a config.json of the store, or a document of the same form")
    parser.add_argument("--results", default="results", help="a folder, or a URI such as s3://bucket/results")
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--device", default=default_device())
    parser.add_argument(
        "--threads", type=int, default=1, help="of this process; two trials of one do more than one of two"
    )
    parser.add_argument("--no-graphs", action="store_true", help="launch the kernels of a GPU one by one")
    parser.add_argument("--seed", type=int, help="in place of the config's")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads is at least 1, not {options.threads}")
    with told():
        config = _read(options.config)
        if options.seed is not None:
            config = replace(config, seed=options.seed)
        store = TrialStore(options.results)
        store.check_writable()
        where = options.corpora, options.device, options.threads
        result = train_alone(config, store, *where, _print, graphs=not options.no_graphs)
        print(result.to_json())


def _read(path: Path) -> TrialConfig:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no config that can be read ({error}); give a config.json of a store") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path} holds no groups of settings; give a config.json of a store")
    return TrialConfig.parse(document)


def _print(record: EpochRecord) -> None:
    print(describe(record), flush=True)
