"""Training of one model: the epoch loop, its settings, and the state that it continues from."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from data.batch import num_batches
from data.corpus import Corpus
from model.checkpoint import Checkpoint
from model.core import LatentModel, TextModel
from model.evaluate import EvaluateConfig, evaluate
from model.objective import Objective
from model.plateau import Plateau, PlateauConfig, Verdict
from model.precision import Precision, products
from model.repeated import Repeated
from model.schedule import Course, Schedule
from model.steps import OneByOne, Partial, Steps, Syllabus
from model.update import NonFiniteError, Update


class TrainConfig(BaseModel):
    """The protocol of training; the paper's by default.

    precision: of the training steps; parameters and evaluation are float32 in any case.
    max_skipped_steps: in an epoch, steps whose gradient was not finite; with more, or none left, the trial has failed.
    select: the validation metric whose lowest value chooses the epoch and drives the plateau rule. The paper's own
    number, the default, is exact or a bound for every system but averaged hidden states; `nll` is the strict bound, and
    `nelbo_charged` has the KL that training charges where `model.average_kl` says so.
    reshuffle: draw the membership of batches anew each epoch; by default only their order changes.
    checkpoint_minutes: of training after which a checkpoint is taken within an epoch too. It changes no number, and so
    is no part of a trial's key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = Field(30, json_schema_extra={"in_shape": False})
    batch_size: PositiveInt = 32
    reshuffle: bool = Field(False, json_schema_extra={"in_shape": False})
    precision: Precision = "fp32"
    max_skipped_steps: NonNegativeInt = Field(0, json_schema_extra={"in_shape": False})
    select: Literal["nelbo_paper", "nll", "nelbo_charged"] = Field("nelbo_paper", json_schema_extra={"in_shape": False})
    plateau: PlateauConfig = Field(PlateauConfig(), json_schema_extra={"in_shape": False})
    checkpoint_minutes: PositiveFloat = Field(15.0, json_schema_extra={"in_key": False, "in_shape": False})

    def check(self, model: TextModel) -> None:
        """Raises ValueError when a model has not what its training is to be judged by, or cannot be rounded."""
        if self.precision == "bf16" and model.single_alone is not None:
            raise ValueError(f"{model.single_alone} vanish in bfloat16; give train.precision: fp32, or leave it out")
        if self.select == "nelbo_charged" and not (isinstance(model, LatentModel) and model.charge.is_apart):
            raise ValueError(
                "select: nelbo_charged is of models that are charged another KL than the paper's, and this one is not; "
                "give select: nelbo_paper, or model.average_kl: strict or exch"
            )


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch measured. Losses and KL in nats per sentence, perplexities per predicted token.

    epoch: from 1. timestamp: Unix seconds at its end. seconds: its wall-clock, validation included.
    beta: KL weight at its last step. lr: learning rate during it. train, valid: metric name to value
    (`nll`, `nelbo_paper`, `rec`, `kl`, `ppl`, `ppl_paper`); of training also `largest_kl`, the largest mean KL of a
    batch, `clipped_steps` and `skipped_steps`, whose gradient was scaled down or not finite, and what the update says
    of the epoch. improved: the best epoch so far.
    """

    epoch: int
    timestamp: float
    seconds: float
    beta: float
    lr: float
    train: Mapping[str, float]
    valid: Mapping[str, float]
    improved: bool


@dataclass
class Training:
    """One model in training: everything that `fit` changes, and so everything that a checkpoint holds."""

    model: TextModel
    update: Update
    plateau: Plateau
    history: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    stopped: bool = False
    partial: Partial | None = None

    @property
    def epoch(self) -> int:
        return len(self.history)

    def keep_best(self) -> None:
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.best_epoch = self.epoch

    def checkpoint(self) -> Checkpoint:
        partial = self.partial
        within = {**partial.tally, "generator": partial.generator} if partial else {}
        return Checkpoint(
            self.epoch,
            partial.step if partial else 0,
            {
                "weights": self.model.state_dict(),
                "best": self.best,
                "update": self.update.state_dict(),
                "epoch": within,
            },
            {
                "history": [asdict(record) for record in self.history],
                "plateau": self.plateau.state(),
                "best_epoch": self.best_epoch,
                "stopped": self.stopped,
                "seconds": partial.seconds if partial else 0.0,
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        state: Mapping[str, Any] = checkpoint.state
        self.model.load_state_dict(dict(checkpoint.parts["weights"]))
        device = next(self.model.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in checkpoint.parts["best"].items()}
        self.update.load_state_dict(checkpoint.parts["update"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.plateau.restore(state["plateau"])
        self.best_epoch, self.stopped = state["best_epoch"], state["stopped"]
        tally = dict(checkpoint.parts["epoch"])
        within = checkpoint.step > 0
        self.partial = Partial(checkpoint.step, state["seconds"], tally, tally.pop("generator")) if within else None


def fit(
    training: Training,
    corpus: Corpus,
    schedule: Schedule,
    objective: Objective,
    config: TrainConfig,
    evaluation: EvaluateConfig,
    seed: int,
    keep: Callable[[EpochRecord | None], None],
    is_due: Callable[[], bool] = lambda: False,
    *,
    graphs: bool = True,
) -> None:
    """Train until the last epoch or the plateau rule's stop, from wherever `training` is.

    `keep` is called whenever a checkpoint taken there continues bit for bit: with the record of an epoch at its end,
    and with None after a step for which `is_due` gave True. What it raises ends the training.
    graphs: as `steps_of`.
    Raises NonFiniteError at the end of an epoch with too many steps whose gradient was not finite, or that comes to a
    number which is not.
    """
    syllabus = syllabus_of(corpus, schedule, objective, config, seed)
    course, steps = syllabus.course, steps_of(training.model, training.update, syllabus, graphs=graphs)
    while training.epoch < config.epochs and not training.stopped:
        epoch, learning_rate = training.epoch + 1, training.update.learning_rate
        began = time.time() - (training.partial.seconds if training.partial else 0.0)
        measured = _train_epoch(training, steps, course, config, began, keep, is_due)
        with products("fp32", next(training.model.parameters()).device):
            found = training.update.end_epoch(training.model, corpus.splits["valid"], seed)
        valid = evaluate(training.model, corpus.splits["valid"], evaluation, seed, "valid")
        measured = {**measured, **found}
        _check_finite(epoch, {"train": measured, "valid": valid})
        verdict = training.plateau.judge(epoch, valid[config.select], learning_rate)
        ended = time.time()
        beta = schedule(float(epoch), course)
        training.partial = None
        training.history.append(
            EpochRecord(epoch, ended, ended - began, beta, learning_rate, measured, valid, verdict.improved)
        )
        _obey(verdict, training, config)
        keep(training.history[-1])


def syllabus_of(corpus: Corpus, schedule: Schedule, objective: Objective, config: TrainConfig, seed: int) -> Syllabus:
    """What `fit` takes its steps on."""
    return Syllabus(
        corpus.splits["train"],
        config.batch_size,
        config.reshuffle,
        config.precision,
        seed,
        objective,
        schedule,
        course_of(corpus, config),
    )


def steps_of(model: TextModel, update: Update, syllabus: Syllabus, *, graphs: bool = True) -> Steps:
    """On a GPU as one launch each, with `graphs`, where model and update allow it; else one kernel after the other."""
    is_repeatable = model.is_repeatable and update.is_repeatable
    on_gpu = next(model.parameters()).device.type == "cuda"
    return (Repeated if on_gpu and graphs and is_repeatable else OneByOne)(model, update, syllabus)


def course_of(corpus: Corpus, config: TrainConfig) -> Course:
    """How long a training on a corpus is."""
    return Course(config.epochs, num_batches(corpus.splits["train"], config.batch_size))


def _train_epoch(
    training: Training,
    steps: Steps,
    course: Course,
    config: TrainConfig,
    began: float,
    keep: Callable[[None], None],
    is_due: Callable[[], bool],
) -> dict[str, float]:
    epoch = training.epoch + 1
    training.model.train()
    for number in steps.take(epoch, training.partial):
        if is_due() and number < course.steps:
            state = steps.tally.state(), steps.source.get_state()
            training.partial = Partial(number, time.time() - began, *state)
            keep(None)
    tally, total = steps.tally, course.steps
    if tally.skipped.item() > min(config.max_skipped_steps, total - 1):
        raise NonFiniteError(
            f"in epoch {epoch}, {int(tally.skipped)} of {total} steps had a loss or gradient that is not finite, "
            f"the first in batch {int(tally.first_skipped)}; lower the learning rate, or raise train.max_skipped_steps"
        )
    return tally.metrics()


def _check_finite(epoch: int, found: Mapping[str, Mapping[str, float]]) -> None:
    odd = [f"{split} {name}" for split, of in found.items() for name, value in of.items() if not math.isfinite(value)]
    if odd:
        raise NonFiniteError(f"after epoch {epoch}, {', '.join(odd)} are not finite; lower the learning rate")


def _obey(verdict: Verdict, training: Training, config: TrainConfig) -> None:
    if verdict.improved:
        training.keep_best()
    if verdict.decay:
        training.update.decay(config.plateau.factor)
    if verdict.reload:
        training.model.load_state_dict(training.best)
        training.update.restart()
    training.stopped = verdict.stop
