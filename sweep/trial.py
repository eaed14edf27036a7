"""run_trial: one training of one TrialConfig, from whatever the store has of it to its result; no Ray, no MLflow.

`python -m sweep.trial CONFIG.json` trains one on a machine that has only PyTorch, NumPy, pydantic and safetensors.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from data.cache import load
from data.corpus import Corpus
from model import checkpoint, host
from model.core import TextModel
from model.evaluate import evaluate
from model.plateau import Plateau
from model.precision import at_precision
from model.randomness import generator
from model.start import StartsFromTrained
from model.train import EpochRecord, Training, course_of, fit
from model.update import NonFiniteError
from sweep.claims import Launch
from sweep.config import TrialConfig, trial_key
from sweep.environment import environment
from sweep.jobs import Attempt
from sweep.outcome import ConfigurationError, Right, StoppedError, guarded, logged
from sweep.record import RECORD_VERSION, TrialResult
from sweep.store import TrialStore


def run_trial(
    config: TrialConfig,
    store: TrialStore,
    corpora: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    graphs: bool = True,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    right: Right | None = None,
    key: str | None = None,
) -> TrialResult:
    """Train a trial, or continue it from its newest whole checkpoint; if it is done, return its result.

    `on_epoch` is called after each epoch's checkpoint is in the store; SystemExit from it stops the trial. Same config,
    same machine: same bits on CPU.
    Sets the number of threads, and how PyTorch uses the CPU, for the whole process. graphs: as `fit`.
    right: by default that of a launch of its own. key: the trial's, if the caller knows it; a corpus that has changed
    or is missing is then a failure of that trial.
    Raises TrialFailedError when it fails, its cause recorded; TakenError when another launch trains it;
    SupersededError when another attempt took over; StoppedError and NoRoomError as they say; OSError when the store
    cannot be reached, which is no failure of the trial.
    """
    if right is None:
        with Launch(store.launches, "") as own:
            return run_trial(
                config, store, corpora, device=device, threads=threads, graphs=graphs, on_epoch=on_epoch,
                right=Right(own.id, own.stop), key=key,
            )  # fmt: skip
    host.set_up(threads)
    try:
        corpus = load(config.data, corpora)
    except ValueError as error:
        if key is None:
            raise
        with guarded(store.begin(key, config.document(), right.launch), lambda: 0):
            raise ConfigurationError(str(error)) from error
    found = trial_key(config, corpus.content_hash)
    if store.state(found) == "done":
        return store.result(found)
    attempt = store.begin(key or found, config.document(), right.launch)
    if store.state(attempt.key) == "done":  # since it was looked at: whoever had it gave it up by finishing
        attempt.withdraw()
        return store.result(attempt.key)
    trial = _Trial(config, corpus, device, graphs, store, attempt, on_epoch, right.stop)
    with guarded(attempt, lambda: trial.epoch), logged(attempt), host.own_stream(device):
        if found != attempt.key:
            raise ConfigurationError(
                f"corpus {corpus.title} here is not the one that was planned with; plan again, or copy it"
            )
        return trial.run()


@dataclass
class _Trial:
    """One attempt at a trial, from the store to the store."""

    config: TrialConfig
    corpus: Corpus
    device: str
    graphs: bool
    store: TrialStore
    attempt: Attempt
    on_epoch: Callable[[EpochRecord], None]
    stop: threading.Event
    training: Training | None = None
    saved: float = 0.0

    @property
    def epoch(self) -> int:
        return self.training.epoch + 1 if self.training else 0

    def run(self) -> TrialResult:
        started = time.time()
        found = checkpoint.read_newest(self.attempt.checkpoints)
        try:
            training = self.training = prepare(self.config, self.corpus, self.device)
            if found is None:
                start(training.model, self.config, self.corpus, self.store)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        if found is not None:
            training.restore(found)
            within = f", step {found.step} of the next" if found.step else ""
            self.attempt.log(f"continuing after epoch {training.epoch}{within}")
        self.saved = time.monotonic()
        config = self.config
        fit(
            training, self.corpus, config.schedule, config.objective, config.train, config.evaluate, config.seed,
            self._keep, self._is_due, graphs=self.graphs,
        )  # fmt: skip
        result = _result(self.attempt.key, config, self.corpus, training, started)
        self.attempt.finish(result, training.best)
        return result

    def _is_due(self) -> bool:
        return self.stop.is_set() or time.monotonic() - self.saved > self.config.train.checkpoint_minutes * 60

    def _keep(self, record: EpochRecord | None) -> None:
        assert self.training is not None
        self.attempt.check()
        checkpoint.write(self.attempt.checkpoints, self.training.checkpoint())
        self.saved = time.monotonic()
        if record is not None:
            self.attempt.log(describe(record))
            self.on_epoch(record)
        if self.stop.is_set():
            raise StoppedError(f"trial {self.attempt.key[:12]} was asked to stop; the same command continues it")


def prepare(config: TrialConfig, corpus: Corpus, device: str) -> Training:
    """The model with its parameters drawn, its update, and the plateau rule, before the first epoch."""
    model = config.model.build(corpus.vocabulary)
    config.objective.check(model)
    config.train.check(model)
    config.start.check(model)
    # Drawn on the CPU whatever the device, so that a trial starts from the same weights everywhere.
    model.initialise(generator(config.seed, "parameters"))
    model.to(device)
    update = config.update.build(at_precision(model, config.train.precision))
    return Training(
        model, update, Plateau(config.train.plateau, config.schedule.warmup(course_of(corpus, config.train)))
    )


def start(model: TextModel, config: TrialConfig, corpus: Corpus, store: TrialStore) -> None:
    """Have a model take over what it starts from, if anything. Raises ValueError when that is not there, or no use."""
    prerequisite = config.prerequisite
    if prerequisite is None:
        return
    assert isinstance(model, StartsFromTrained)
    key = trial_key(prerequisite, corpus.content_hash)
    if (state := store.state(key)) != "done":
        raise ValueError(f"it starts from the weights of trial {key[:12]}, which is {state}; train that one first")
    model.start_from(store.weights(key))


def _result(key: str, config: TrialConfig, corpus: Corpus, training: Training, started: float) -> TrialResult:
    model, history = training.model, training.history
    model.load_state_dict(training.best)
    best = history[training.best_epoch - 1]
    evaluation, splits = config.evaluate, corpus.splits
    test = evaluate(model, splits["test"], evaluation, config.seed, "test") if evaluation.test else {}
    odd = [name for name, value in test.items() if not math.isfinite(value)]
    if odd:
        raise NonFiniteError(
            f"{', '.join(odd)} of the test split are not finite at epoch {best.epoch}, the best on validation; "
            "lower the learning rate"
        )
    seconds = sum(record.seconds for record in history)
    return TrialResult(
        version=RECORD_VERSION,
        key=key,
        config=config.document(),
        corpus=corpus.facts(),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        latents_per_sentence=model.latents_per_sentence,
        best_epoch=best.epoch,
        beta_at_best=best.beta,
        valid=best.valid,
        test=test,
        history=tuple(history),
        cost={
            "seconds": seconds,
            "epochs": len(history),
            "train_tokens_per_second": corpus.splits["train"].num_tokens * len(history) / seconds,
        },
        environment=environment(next(model.parameters()).device),
        started=min(started, history[0].timestamp - history[0].seconds),
        finished=time.time(),
    )


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def describe(record: EpochRecord) -> str:
    """An epoch as one line of a log."""
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.timestamp))
    valid = "  ".join(f"{name} {value:.3f}" for name, value in record.valid.items())
    best = "  best" if record.improved else ""
    return f"{clock}  epoch {record.epoch}  beta {record.beta:.3f}  lr {record.lr:g}  valid: {valid}{best}"


if __name__ == "__main__":
    from sweep.alone import main

    main()
