"""The records of a trial and of a sweep: plain values, written once, read by tables and mirrors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from model.train import EpochRecord as EpochRecord

RECORD_VERSION = 1
"""Part of every trial key: raised when the meaning of a recorded number changes."""

State = Literal["done", "failed", "started", "missing"]


@dataclass(frozen=True)
class TrialResult:
    """The finished trial: metrics of its best epoch, the whole history, what it cost, and where it ran.

    `valid` and `test` hold, for the weights of `best_epoch`:
    `nll` — a strict upper bound on, or for a language model exactly, −log p(x), nats per sentence, `</s>` counted;
    `nelbo_paper` — reconstruction plus *one* KL term, what the paper calls −ELBO: equal to `nll` except for
    averaged hidden states with L > 1, where it bounds nothing; `rec`, `kl` — its two terms;
    `ppl`, `ppl_paper` — exp(total / predicted tokens) of `nll` and `nelbo_paper`.
    corpus: `Corpus.facts()`. cost: `seconds`, `epochs`, `train_tokens_per_second`. started, finished: Unix seconds.
    """

    version: int
    key: str
    config: Mapping[str, Any]
    corpus: Mapping[str, Any]
    parameters: int
    latents_per_sentence: int
    best_epoch: int
    beta_at_best: float
    valid: Mapping[str, float]
    test: Mapping[str, float]
    history: tuple[EpochRecord, ...]
    cost: Mapping[str, float]
    environment: Mapping[str, str]
    started: float
    finished: float

    @property
    def is_bound(self) -> bool:
        """Whether `nelbo_paper` is a bound on −log p(x): not so when several latents are charged one KL."""
        return self.latents_per_sentence <= 1

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "TrialResult":
        fields = json.loads(text)
        history = tuple(EpochRecord(**record) for record in fields.pop("history"))
        return cls(history=history, **fields)


@dataclass(frozen=True)
class TrialFailure:
    """A trial that stopped for a reason of its own. kind: `non-finite`, `out-of-memory`, `config` or `error`."""

    key: str
    kind: str
    message: str
    traceback: str
    epoch: int
    host: str
    timestamp: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "TrialFailure":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WantedTrial:
    """One trial that a sweep asks for: its key, where it stands in the grid, and its seed.

    labels: axis name to label, in the order of the axes, e.g. {"dataset": "PTB", "setting": "Standard",
    "method": "LSTM-VAE (L = 5)"}. cell: the labels without the seed, as one line.
    """

    key: str
    labels: Mapping[str, str]
    seed: int
    config: Mapping[str, Any]

    @property
    def cell(self) -> str:
        return " / ".join(self.labels.values())

    @property
    def name(self) -> str:
        return f"{self.cell} / seed {self.seed}"


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as it was last launched: its name, the document that the user wrote, the grid, and the table's layout.

    Kept in the store beside the trials, so that `status` and `table` need neither the corpora nor the spec's file.
    table: `split_by`, the axis that has one table a label; `across`, the axis whose labels stand side by side.
    """

    name: str
    document: Mapping[str, Any]
    trials: tuple[WantedTrial, ...]
    table: Mapping[str, Any]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "SweepRecord":
        fields = json.loads(text)
        trials = tuple(WantedTrial(**trial) for trial in fields.pop("trials"))
        return cls(trials=trials, **fields)
