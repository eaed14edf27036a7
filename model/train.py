"""Training of one model: the epoch loop, its settings, and the state that it continues from."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor

from data.batch import Batch, batches, num_batches
from data.corpus import Corpus
from model.checkpoint import Checkpoint
from model.core import TextModel
from model.evaluate import EvaluateConfig, evaluate, metrics
from model.plateau import Plateau, PlateauConfig, Verdict
from model.randomness import generator
from model.schedule import Schedule
from model.update import NonFiniteError, Update


class TrainConfig(BaseModel):
    """The protocol of training; the paper's by default.

    select: the validation metric whose lowest value chooses the epoch and drives the plateau rule. The paper's own
    number, the default, is exact or a bound for every system but averaged hidden states.
    reshuffle: draw the membership of batches anew each epoch; by default only their order changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: PositiveInt = 30
    batch_size: PositiveInt = 32
    reshuffle: bool = False
    select: Literal["nelbo_paper", "nll"] = "nelbo_paper"
    plateau: PlateauConfig = PlateauConfig()


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch measured. Losses and KL in nats per sentence, perplexities per predicted token.

    epoch: from 1. timestamp: Unix seconds at its end. seconds: its wall-clock, validation included.
    beta: KL weight at its last step. lr: learning rate during it. train, valid: metric name to value
    (`nll`, `nelbo_paper`, `rec`, `kl`, `ppl`, `ppl_paper`). improved: the best epoch so far.
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

    @property
    def epoch(self) -> int:
        return len(self.history)

    def keep_best(self) -> None:
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.best_epoch = self.epoch

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            self.epoch,
            {"weights": self.model.state_dict(), "best": self.best, "update": self.update.state_dict()},
            {
                "history": [asdict(record) for record in self.history],
                "plateau": self.plateau.state(),
                "best_epoch": self.best_epoch,
                "stopped": self.stopped,
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


def fit(
    training: Training,
    corpus: Corpus,
    schedule: Schedule,
    config: TrainConfig,
    evaluation: EvaluateConfig,
    seed: int,
    on_epoch: Callable[[EpochRecord], None],
) -> None:
    """Train until the last epoch or the plateau rule's stop, from wherever `training` is.

    `on_epoch` is called when an epoch's state is complete, so that a checkpoint taken there continues bit for bit.
    Raises NonFiniteError, naming epoch and batch, before a step that would spread it.
    """
    while training.epoch < config.epochs and not training.stopped:
        began = time.time()
        epoch, learning_rate = training.epoch + 1, training.update.learning_rate
        measured = _train_epoch(training, corpus, schedule, config, seed, epoch)
        valid = evaluate(training.model, corpus.splits["valid"], evaluation, seed, "valid")
        verdict = training.plateau.judge(epoch, valid[config.select])
        ended = time.time()
        beta = schedule(float(epoch))
        training.history.append(
            EpochRecord(epoch, ended, ended - began, beta, learning_rate, measured, valid, verdict.improved)
        )
        _obey(verdict, training, config)
        on_epoch(training.history[-1])


def _train_epoch(
    training: Training, corpus: Corpus, schedule: Schedule, config: TrainConfig, seed: int, epoch: int
) -> dict[str, float]:
    split, model = corpus.splits["train"], training.model
    device = next(model.parameters()).device
    source = generator(seed, f"train/epoch {epoch}", device)
    steps = num_batches(split, config.batch_size)
    totals = torch.zeros(4, dtype=torch.float64, device=device)
    model.train()
    order = batches(split, config.batch_size, seed, epoch, reshuffle=config.reshuffle)
    for number, batch in enumerate(order, start=1):
        beta = schedule(epoch - 1 + number / steps)
        try:
            bound = training.update.step(Batch(batch.tokens.to(device), batch.indices), beta, source)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} in epoch {epoch}, batch {number} of {steps}") from None
        totals += torch.stack([bound.strict, bound.paper, bound.rec, bound.kl]).double().sum(dim=1)
    return metrics(totals.tolist(), split.num_sentences, split.num_tokens)


def _obey(verdict: Verdict, training: Training, config: TrainConfig) -> None:
    if verdict.improved:
        training.keep_best()
    if verdict.decay:
        training.update.decay(config.plateau.factor)
    if verdict.reload:
        training.model.load_state_dict(training.best)
    training.stopped = verdict.stop
