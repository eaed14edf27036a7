"""run_trial: one training of one TrialConfig, from whatever the store has of it to its result; no Ray, no MLflow.

`python -m sweep.trial CONFIG.json` trains one on a machine that has only PyTorch, NumPy, pydantic and safetensors.
"""

import argparse
import json
import logging
import platform
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from data.cache import load
from data.corpus import Corpus
from model import checkpoint, host
from model.evaluate import evaluate
from model.plateau import Plateau
from model.precision import at_precision
from model.randomness import generator
from model.train import EpochRecord, Training, fit
from model.update import NonFiniteError
from sweep.config import TrialConfig, trial_key
from sweep.record import RECORD_VERSION, TrialFailure, TrialResult
from sweep.store import Attempt, SupersededError, TrialStore


class TrialFailedError(RuntimeError):
    """The trial stopped for a reason of its own, which the store has."""

    def __init__(self, failure: TrialFailure):
        super().__init__(f"trial {failure.key[:12]}: {failure.message}")
        self.failure = failure


def run_trial(
    config: TrialConfig,
    store: TrialStore,
    corpora: Path,
    *,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
) -> TrialResult:
    """Train a trial, or continue it from its newest whole checkpoint; if it is done, return its result.

    Raises TrialFailedError when it fails, its cause recorded, and SupersededError when another attempt took over.
    `on_epoch` is called after each epoch's checkpoint is on disk. Same config, same machine: same bits on CPU.
    Sets the number of threads, and how PyTorch uses the CPU, for the whole process.
    """
    host.set_up(threads)
    corpus = load(config.data, corpora)
    key = trial_key(config, corpus.content_hash)
    if store.state(key) == "done":
        return store.result(key)
    attempt = store.begin(key, config.document())
    started = time.time()
    training = None
    with _logged(attempt):
        try:
            training = prepare(config, corpus, device)
            _continue(training, attempt)
            _train(training, config, corpus, attempt, on_epoch)
            result = _result(key, config, corpus, training, started)
        except SupersededError:
            raise
        except Exception as error:
            failure = _failure(key, error, training.epoch + 1 if training else 0)
            attempt.fail(failure)
            attempt.log(f"failed: {failure.message}")
            raise TrialFailedError(failure) from error
        attempt.finish(result, training.best)
    return result


def prepare(config: TrialConfig, corpus: Corpus, device: str) -> Training:
    """The model with its parameters drawn, its update, and the plateau rule, before the first epoch."""
    model = config.model.build(corpus.vocabulary)
    # Drawn on the CPU whatever the device, so that a trial starts from the same weights everywhere.
    model.initialise(generator(config.seed, "parameters"))
    model.to(device)
    update = config.update.build(at_precision(model, config.train.precision))
    return Training(model, update, Plateau(config.train.plateau, config.schedule.warmup))


def _continue(training: Training, attempt: Attempt) -> None:
    saved = checkpoint.read_newest(attempt.checkpoints)
    if saved is not None:
        training.restore(saved)
        attempt.log(f"continuing after epoch {training.epoch}")


def _train(
    training: Training,
    config: TrialConfig,
    corpus: Corpus,
    attempt: Attempt,
    on_epoch: Callable[[EpochRecord], None],
) -> None:
    def keep(record: EpochRecord) -> None:
        attempt.check()
        checkpoint.write(attempt.checkpoints, training.checkpoint())
        attempt.log(describe(record))
        on_epoch(record)

    fit(training, corpus, config.schedule, config.train, config.evaluate, config.seed, keep)


def _result(key: str, config: TrialConfig, corpus: Corpus, training: Training, started: float) -> TrialResult:
    model, history = training.model, training.history
    model.load_state_dict(training.best)
    best = history[training.best_epoch - 1]
    test = evaluate(model, corpus.splits["test"], config.evaluate, config.seed, "test")
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
        environment=_environment(model),
        started=min(started, history[0].timestamp - history[0].seconds),
        finished=time.time(),
    )


def _environment(model: torch.nn.Module) -> dict[str, str]:
    device = next(model.parameters()).device
    return {
        "host": socket.gethostname(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "text-vae-sweep")},
    }


def _failure(key: str, error: BaseException, epoch: int) -> TrialFailure:
    if isinstance(error, NonFiniteError):
        kind = "non-finite"
    elif isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        kind = "out-of-memory"
    else:
        kind = "error"
    return TrialFailure(
        key=key,
        kind=kind,
        message=str(error) or type(error).__name__,
        traceback="".join(traceback.format_exception(error)),
        epoch=epoch,
        host=socket.gethostname(),
        timestamp=time.time(),
    )


def describe(record: EpochRecord) -> str:
    """An epoch as one line of a log."""
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.timestamp))
    valid = "  ".join(f"{name} {value:.3f}" for name, value in record.valid.items())
    best = "  best" if record.improved else ""
    return f"{clock}  epoch {record.epoch}  beta {record.beta:.3f}  lr {record.lr:g}  valid: {valid}{best}"


@contextmanager
def _logged(attempt: Attempt) -> Iterator[None]:
    """Warnings of the packages `model` and `data` go to the trial's own log while it runs."""
    handler = logging.FileHandler(attempt.folder / "log.txt")
    loggers = [logging.getLogger(name) for name in ("model", "data")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one trial from its config.json, without Ray or MLflow.")
    parser.add_argument("config", type=Path, help="a config.json of the store, or a document of the same form")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--threads", type=int, default=1, help="of this process; two trials of one do more than one of two"
    )
    parser.add_argument("--seed", type=int, help="in place of the config's")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads is at least 1, not {options.threads}")
    config = TrialConfig.parse(json.loads(options.config.read_text()))
    if options.seed is not None:
        config = replace(config, seed=options.seed)
    store = TrialStore(options.results)
    result = run_trial(
        config,
        store,
        options.corpora,
        device=options.device,
        threads=options.threads,
        on_epoch=lambda record: print(describe(record), flush=True),
    )
    print(result.to_json())


if __name__ == "__main__":
    main()
