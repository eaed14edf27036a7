"""The records of a trial and of a sweep: plain values, written once, read by tables and mirrors."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

from model.train import EpochRecord as EpochRecord

RECORD_VERSION = 1
"""Part of every trial key: raised when the meaning of a recorded number changes."""

State = Literal["done", "failed", "started", "missing"]


@dataclass(frozen=True)
class TrialResult:
    """The finished trial: metrics of its best epoch, the whole history, what it cost, and where it ran.

    `valid` and `test`, which is empty for a trial of a search, hold for the weights of `best_epoch`:
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
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "TrialResult":
        """Raises ValueError when the text is not what was written."""
        fields = unseal(text)
        history = tuple(EpochRecord(**record) for record in fields.pop("history"))
        return cls(history=history, **fields)


FailureKind = Literal["out-of-memory", "non-finite", "worker-lost", "config", "prerequisite", "error"]


@dataclass(frozen=True)
class TrialFailure:
    """A trial that stopped for a reason of its own.

    kind: `out-of-memory`, of the host or the GPU; `non-finite`, too many steps without a finite gradient;
    `worker-lost`, its process or its node is gone; `config`, what was asked for cannot be done;
    `prerequisite`, the trial that it starts from failed; or `error`.
    epoch: in which it was, from 1; 0 before the first. attempt: how often it was tried, from 1. timestamp: Unix
    seconds. log_tail: last lines of its log.
    """

    key: str
    kind: FailureKind
    message: str
    traceback: str
    epoch: int
    host: str
    timestamp: float
    attempt: int = 1
    log_tail: str = ""

    @property
    def fingerprint(self) -> str:
        """Equal for failures of one cause: their kind, the place in the code, and the message without its numbers."""
        places = re.findall(r'File "([^"]+)", line \d+, in (\S+)', self.traceback)
        place = " ".join(places[-1]) if places else ""
        message = re.sub(r"\d[\d.,e+-]*", "#", re.sub(r"\b[0-9a-f]{12,}\b", "#", self.message))
        return hashlib.sha256(f"{self.kind}\n{place}\n{message}".encode()).hexdigest()[:8]

    def to_json(self) -> str:
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "TrialFailure":
        """Raises ValueError when the text is not what was written."""
        return cls(**unseal(text))


@dataclass(frozen=True)
class WantedTrial:
    """One trial that a sweep asks for: its key, where it stands in the grid, and its seed.

    labels: axis name to label, in the order of the axes, e.g. {"dataset": "PTB", "setting": "Standard",
    "method": "LSTM-VAE (L = 5)"}. cell: the labels without the seed, as one line. after: key of the trial that has to
    be done before, since this one starts from its weights; none if empty.
    """

    key: str
    labels: Mapping[str, str]
    seed: int
    config: Mapping[str, Any]
    after: str = ""

    @property
    def cell(self) -> str:
        return " / ".join(self.labels.values())

    @property
    def name(self) -> str:
        return f"{self.cell} / seed {self.seed}"


START = "start"
"""In place of the axes, in the labels of a trial that another starts from: of which cell it is the start."""
TUNED = "tuned"
"""In the labels of a trial, beside the axes: that its settings come from a search, and which of the best they are."""
SUGGESTION = "suggestion"
"""In the labels of a search's trial, beside the axes: which of its suggestions it is of."""


@dataclass(frozen=True)
class StudyPlan:
    """The search of one cell. id: of all that its suggestions depend on but their number.

    document: the cell's trial document without a seed. space: as `parse_space` reads it, named choices written out.
    corpus: hash of its content. grace: epochs before anything may be pruned. epochs: of the longest training in the
    space.
    """

    id: str
    labels: Mapping[str, str]
    document: Mapping[str, Any]
    space: Mapping[str, Any]
    corpus: str
    grace: int
    epochs: int

    @property
    def cell(self) -> str:
        return " / ".join(self.labels.values())


@dataclass(frozen=True)
class Tuned:
    """What a search chose for one cell. labels: of the trials that report it. value: of the objective, in the search.

    number: of the suggestion, of `searched` ones, trained on `seeds` seeds each.
    """

    labels: Mapping[str, str]
    objective: str
    searched: int
    seeds: int
    number: int
    params: Mapping[str, Any]
    value: float


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as it was last launched: its name, the document that the user wrote, the grid, and the table's layout.

    Kept in the store beside the trials, so that `status` and `table` need neither the corpora nor the spec's file.
    table: `split_by`, the axis that has one table a label; `across`, the axis whose labels stand side by side.
    studies: its searches; their trials are not among `trials`, and those that report what they chose are.
    starts: trials that others of the sweep start from, and that stand in no table unless they are among `trials`, too.
    """

    name: str
    document: Mapping[str, Any]
    trials: tuple[WantedTrial, ...]
    table: Mapping[str, Any]
    studies: tuple[StudyPlan, ...] = ()
    tuned: tuple[Tuned, ...] = ()
    starts: tuple[WantedTrial, ...] = ()

    @cached_property
    def wanted(self) -> dict[str, WantedTrial]:
        """Trials by key, in the order of the grid; a trial that two cells share stands once."""
        wanted: dict[str, WantedTrial] = {}
        for trial in (*self.trials, *self.starts):
            wanted.setdefault(trial.key, trial)
        return wanted

    def find(self, prefix: str, others: Iterable[str] = ()) -> str:
        """The key that begins so, of a trial or of `others`. Raises ValueError when there is none, or more than one."""
        found = [key for key in dict.fromkeys([*self.wanted, *others]) if key.startswith(prefix)]
        if len(found) != 1:
            raise ValueError(
                f"key '{prefix}': {len(found)} trials of sweep '{self.name}' begin so; 'sweep status' has them"
            )
        return found[0]

    def to_json(self) -> str:
        # Not by `asdict`, which copies the configs of thousands of trials.
        lists = {
            name: [vars(each) for each in getattr(self, name)] for name in ("trials", "studies", "tuned", "starts")
        }
        return seal({field.name: lists.get(field.name, getattr(self, field.name)) for field in fields(self)})

    @classmethod
    def from_json(cls, text: str | bytes) -> "SweepRecord":
        """Raises ValueError when the text is not what was written."""
        fields = unseal(text)
        trials = tuple(WantedTrial(**trial) for trial in fields.pop("trials"))
        starts = tuple(WantedTrial(**trial) for trial in fields.pop("starts", ()))
        studies = tuple(StudyPlan(**study) for study in fields.pop("studies", ()))
        tuned = tuple(Tuned(**each) for each in fields.pop("tuned", ()))
        return cls(trials=trials, studies=studies, tuned=tuned, starts=starts, **fields)


SEAL = "sha256"
"""Of the rest of a record: a digit that was flipped on a disk must not become a number in a table."""


def seal(fields: Mapping[str, Any]) -> str:
    """A record as JSON text with the hash of its content."""
    return _indented({**fields, SEAL: _hash(fields)})


def unseal(text: str | bytes) -> dict[str, Any]:
    """The fields of a sealed record. Raises ValueError when they do not have its hash, or are none."""
    try:
        fields = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(fields, dict) or fields.pop(SEAL, None) != _hash(fields):
        raise ValueError("it does not have the hash of its content")
    return fields


_as_json = json.JSONEncoder(allow_nan=False).encode


def _indented(value: Any, margin: str = "\n") -> str:
    """As `json.dumps` has it with an indent of 1, which takes several times as long. Names are texts."""
    inner = f"{margin} "
    if isinstance(value, dict) and value:
        assert all(isinstance(name, str) for name in value), "JSON has no other names"
        lines = [f"{_as_json(name)}: {_indented(each, inner)}" for name, each in value.items()]
        return f"{{{inner}{f',{inner}'.join(lines)}{margin}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{inner}{f',{inner}'.join(_indented(each, inner) for each in value)}{margin}]"
    return _as_json(value)


def _hash(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
