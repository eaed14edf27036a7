"""TrialStore: the trials of a folder or bucket, and the only truth. State is derived from the files that are there.

<root>/trials/<key>/config.json       what the trial is
                    attempts/         who may write here: the newest attempt; see claims.py
                    checkpoint/       see model/checkpoint.py
                    weights.safetensors  the best epoch's, beside the result
                    log.txt           one line an epoch, and warnings
                    failure.json      why it stopped, or
                    result.json       what it found; written last, its existence means done
                    reading/          what was read from its latent space
                    evaluations/<id>/ what its weights were measured to be later, by the same rules; see jobs.py
<root>/probes/<key>/                  what trials of one shape take, by the same rules; see probe.py
<root>/sweeps/<name>/sweep.json       the sweep as last launched
                     drivers/         who may launch it: the newest driver
                     studies/         what its searches have suggested; see points.py
                     submissions/     how it ended where it was sent to; see submission.py
                     evaluation.json  how its trials were last evaluated
                     table.*          its tables
                     figures/         its figures
                     report.html      all of it as one page
<root>/studies/                       how Optuna's storage knows those searches
<root>/launches/                      processes that train here, while they live
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from data.files import Files
from sweep import claims
from sweep.claims import Launch, LaunchFacts
from sweep.evaluation import Evaluation, EvaluationSettings
from sweep.jobs import RESULT, WEIGHTS, Jobs, each
from sweep.places import files_at
from sweep.probe import Probe
from sweep.record import SweepRecord, TrialResult

FIGURES, REPORT = "figures", "report.html"
READING, EVALUATIONS, EVALUATION = "reading", "evaluations", "evaluation.json"


@dataclass(frozen=True)
class TrialStore(Jobs[TrialResult]):
    """The trainings. location: a path, or a URI; see places.py."""

    location: str | Path

    @cached_property
    def files(self) -> Files:
        return files_at(self.location)

    def trial(self, key: str) -> Files:
        return self.files.below(f"trials/{key}")

    def parse(self, text: bytes) -> TrialResult:
        return TrialResult.from_json(text)

    def brief_results(self, keys: Iterable[str]) -> dict[str, TrialResult]:
        """As `results`, but without the histories, which are most of them and stand in no table."""

        def read(key: str) -> TrialResult | None:
            result = self._read_result(key)
            return None if result is None else replace(result, history=())

        return {key: result for key, result in each(read, keys).items() if result is not None}

    def weights(self, key: str) -> dict[str, Tensor]:
        """The best epoch's of a done trial. Raises ValueError when they are not there or damaged, with the way out."""
        place = f"{self.trial(key)}/{WEIGHTS}"
        try:
            return load(self.trial(key).read(WEIGHTS))
        except (FileNotFoundError, IsADirectoryError, SafetensorError) as error:
            raise ValueError(f"{place} cannot be read ({error}); remove {RESULT} there to train it again") from None

    def readings(self, key: str) -> list[str]:
        """Names of the texts that were read from a trial's latent space, in its folder."""
        return [f"{READING}/{name}" for name in sorted(self.trial(key).names(READING))]

    def evaluations(self, settings: EvaluationSettings) -> "EvaluationStore":
        return EvaluationStore(self, settings.id)

    @property
    def probes(self) -> "ProbeStore":
        return ProbeStore(self.files)

    def sweep(self, name: str) -> Files:
        return self.files.below(f"sweeps/{name}")

    def driver(self, name: str) -> LaunchFacts | None:
        """The launch that drives a sweep now, if any."""
        return claims.holder(self.sweep(name).below("drivers"), self.launches)

    def lead(self, name: str, launch: Launch) -> None:
        """Become a sweep's only driver, until the launch ends. Raises ValueError when it has one that is alive."""
        try:
            launch.lease = claims.take(self.sweep(name).below("drivers"), launch.id, self.launches)
        except claims.TakenError as error:
            raise _driven(name, error.owner) from None

    def check_free(self, name: str) -> None:
        """Raises ValueError when a sweep has a driver that is alive."""
        if owner := self.driver(name):
            raise _driven(name, owner)

    def record(self, sweep: SweepRecord) -> None:
        """Keep a sweep as launched."""
        self.sweep(sweep.name).publish("sweep.json", sweep.to_json().encode())

    def is_recorded(self, name: str) -> bool:
        return "sweep.json" in self.sweep(name).names()

    def recorded(self, name: str) -> SweepRecord:
        """The sweep of that name as last launched. Raises ValueError when there is none, naming those there are."""
        known = sorted(self.files.names("sweeps"))
        if name not in known:
            there = f"known: {', '.join(known)}" if known else "there are none yet"
            raise ValueError(f"no sweep '{name}' was run in {self.location}; {there}")
        try:
            return SweepRecord.from_json(self.sweep(name).read("sweep.json"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            place = f"{self.sweep(name)}/sweep.json"
            raise ValueError(f"{place} is damaged ({error}); run the sweep's spec again, no trial is lost") from None

    def evaluated(self, name: str) -> EvaluationSettings | None:
        """How a sweep's trials were last evaluated; None when they never were."""
        try:
            return EvaluationSettings.model_validate_json(self.sweep(name).read(EVALUATION))
        except (FileNotFoundError, IsADirectoryError):
            return None
        except ValueError:
            place = f"{self.sweep(name)}/{EVALUATION}"
            raise ValueError(
                f"{place} does not say how trials were evaluated; remove it, and 'sweep evaluate {name}' writes it"
            ) from None

    def keep_settings(self, name: str, settings: EvaluationSettings) -> None:
        """Have tables and mirrors show what was measured so."""
        self.sweep(name).publish(EVALUATION, settings.model_dump_json().encode())

    def figures(self, name: str) -> list[str]:
        """Names of a sweep's figures in its folder, and of its report, as far as it has any."""
        report = [REPORT] if REPORT in self.sweep(name).names() else []
        return [*(f"{FIGURES}/{figure}" for figure in sorted(self.sweep(name).names(FIGURES))), *report]

    def all_recorded(self) -> list[SweepRecord]:
        return [self.recorded(name) for name in sorted(self.files.names("sweeps"))]

    def find(self, prefix: str) -> str:
        """The key that begins so. Raises ValueError when there is none, or more than one."""
        found = sorted(key for key in self.files.names("trials") if key.startswith(prefix))
        if len(found) == 1:
            return found[0]
        which = f"{len(found)} trials begin so: {', '.join(key[:12] for key in found[:5])}, …; give more of it"
        raise ValueError(f"key '{prefix}': {which if found else f'no trial of {self.location} begins so'}")

    def check_writable(self) -> None:
        """Raises ValueError when nothing can be written below the root; leaves nothing behind."""
        try:
            self.files.check_writable()
        except OSError as error:
            raise ValueError(
                f"results folder {self.location} cannot be written ({error.strerror or error}); "
                f"give another with --results"
            ) from None


@dataclass(frozen=True)
class EvaluationStore(Jobs[Evaluation]):
    """The evaluations of trials at some settings. id: of those."""

    store: TrialStore
    id: str

    @property
    def files(self) -> Files:
        return self.store.files

    def trial(self, key: str) -> Files:
        return self.store.trial(key).below(f"{EVALUATIONS}/{self.id}")

    def parse(self, text: bytes) -> Evaluation:
        return Evaluation.from_json(text)


@dataclass(frozen=True)
class ProbeStore(Jobs[Probe]):
    """The probes of shapes, by their keys. root: of the whole store."""

    root: Files

    @property
    def files(self) -> Files:
        return self.root

    def trial(self, key: str) -> Files:
        return self.files.below(f"probes/{key}")

    def parse(self, text: bytes) -> Probe:
        return Probe.from_json(text)


def _driven(name: str, owner: LaunchFacts) -> ValueError:
    return ValueError(f"sweep '{name}' is being run by {owner}; wait for it, or end it with 'sweep stop {name}'")
