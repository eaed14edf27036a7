"""run_evaluation: the measurement of one done trial's best weights, from whatever the store has of it to its record."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from data.cache import load
from data.corpus import Corpus
from model import checkpoint, host
from model.checkpoint import Checkpoint
from model.columns import Columns
from model.core import TextModel
from model.measure import MI_BATCH, EvaluationSettings, Measured, measure
from sweep.config import TrialConfig
from sweep.environment import environment
from sweep.evaluation import Evaluation
from sweep.jobs import Attempt
from sweep.outcome import ConfigurationError, Right, StoppedError, guarded, logged
from sweep.record import TrialResult
from sweep.store import TrialStore

SAVED_SECONDS = 30.0
"""Between two checkpoints of a measurement."""


def run_evaluation(
    settings: EvaluationSettings,
    store: TrialStore,
    key: str,
    corpora: Path,
    *,
    device: str,
    threads: int,
    right: Right,
) -> Evaluation:
    """Measure a done trial, or go on where that was stopped; if it is measured already, return what was found.

    Trains nothing and changes nothing of the trial. Same weights, same settings, same machine: same bits on CPU.
    Raises as `run_trial`, and ValueError when the trial is not done.
    """
    host.set_up(threads)
    evaluations = store.evaluations(settings)
    if store.state(key) != "done":
        raise ValueError(f"trial {key[:12]} is {store.state(key)}, and only a done one can be evaluated")
    attempt = evaluations.begin_missing(key, settings.model_dump(), right.launch)
    if attempt is None:
        return evaluations.result(key)
    with guarded(attempt, lambda: 0), logged(attempt), host.own_stream(device):
        try:
            result = store.result(key)
            model, corpus = trained(store, result, corpora, device)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        return _Evaluating(settings, result, model, corpus, attempt, right.stop).run()


def trained(store: TrialStore, result: TrialResult, corpora: Path, device: str) -> tuple[TextModel, Corpus]:
    """The model of a done trial with its best weights, in evaluation mode, and the corpus that it was trained on.

    Raises ValueError when the corpus here is another, or the weights cannot be read.
    """
    config = TrialConfig.parse(result.config)
    corpus = load(config.data, corpora)
    if corpus.content_hash != result.corpus["content_hash"]:
        raise ValueError(
            f"trial {result.key[:12]} was trained on another version of corpus {corpus.title} than the one in "
            f"{corpora}; copy that one here, or train again"
        )
    model = config.model.build(corpus.vocabulary)
    try:
        model.load_state_dict(store.weights(result.key))
    except RuntimeError as error:
        raise ValueError(f"the weights of trial {result.key[:12]} are not of its model: {error}") from None
    return model.to(device).eval(), corpus


@dataclass
class _Evaluating:
    """One attempt at an evaluation, from the store to the store."""

    settings: EvaluationSettings
    result: TrialResult
    model: TextModel
    corpus: Corpus
    attempt: Attempt
    stop: threading.Event

    def run(self) -> Evaluation:
        self._began, self._before = time.monotonic(), 0.0
        self._saved = self._began
        self._measured = Measured()
        found = checkpoint.read_newest(self.attempt.checkpoints)
        if found is not None:
            self._restore(found)
        config = TrialConfig.parse(self.result.config)
        measures = measure(
            self.model, self.corpus, self.settings, config.seed, config.evaluate.tokens_at_once, self._measured,
            self._keep,
        )  # fmt: skip
        evaluation = Evaluation(
            key=self.result.key,
            settings={**self.settings.model_dump(), "mi_batch": MI_BATCH},
            latents_per_sentence=self.model.latents_per_sentence,
            correlation=tuple(measures.correlation),
            kl_by_dimension=tuple(measures.kl_by_dimension),
            valid=measures.valid,
            test=measures.test,
            cost={"seconds": self._seconds()},
            environment=environment(next(self.model.parameters()).device),
            finished=time.time(),
        )
        self.attempt.finish(evaluation)
        return evaluation

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def _keep(self) -> None:
        is_stopped = self.stop.is_set()
        if is_stopped or time.monotonic() - self._saved > SAVED_SECONDS:
            self.attempt.check()
            checkpoint.write(self.attempt.checkpoints, self._checkpoint())
            self._saved = time.monotonic()
        if is_stopped:
            raise StoppedError(
                f"the evaluation of trial {self.result.key[:12]} was asked to stop; the same command continues it"
            )

    def _checkpoint(self) -> Checkpoint:
        parts = self._measured.state()
        step = sum(int(columns["done"].sum()) for columns in parts.values())
        return Checkpoint(0, step, parts, {"seconds": self._seconds()})

    def _restore(self, found: Checkpoint) -> None:
        stages: Mapping[str, Mapping[str, Tensor]] = found.parts
        for name, state in stages.items():
            split = self.corpus.splits["valid" if name == "valid" else "test"]
            self._measured.stages[name] = Columns.of(split, state)
        self._before = float(found.state["seconds"])
        self.attempt.log(f"continuing after {found.step} sentences")
