"""The `search:` of a spec: its keys and types, its samplers and pruners, and the arguments that Optuna's take."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, field_validator, model_validator

FIRST_SEED = 10_000
"""Of a search whose seeds are given by their number: out of the way of the report's, which are counted from 0."""


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tpe(_Fields):
    """Tree-structured Parzen estimator. startup: suggestions at random before. candidates: of which it takes one.

    multivariate: of all fields together; group: of those that stand in one branch of a choice. constant_liar: what is
    under way counts as bad, so that nobody is sent to the same place.
    """

    kind: Literal["tpe"] = "tpe"
    startup: NonNegativeInt = 10
    candidates: PositiveInt = 24
    multivariate: bool = True
    group: bool = True
    constant_liar: Literal[True] = True

    optuna: ClassVar[str] = "TPESampler"
    counts_draws: ClassVar[bool] = False

    @model_validator(mode="after")
    def _groups_of_several(self) -> "Tpe":
        if self.group and not self.multivariate:
            raise ValueError("group: true is of multivariate: true; set both or none")
        return self

    def arguments(self) -> dict[str, Any]:
        return {
            "n_startup_trials": self.startup,
            "n_ei_candidates": self.candidates,
            "multivariate": self.multivariate,
            "group": self.group,
            "constant_liar": self.constant_liar,
        }


class Random(_Fields):
    """Each suggestion by itself, at random."""

    kind: Literal["random"] = "random"

    optuna: ClassVar[str] = "RandomSampler"
    counts_draws: ClassVar[bool] = False

    def arguments(self) -> dict[str, Any]:
        return {}


class Gp(_Fields):
    """Gaussian process. startup: suggestions drawn at random before. deterministic: the objective is without noise."""

    kind: Literal["gp"] = "gp"
    startup: NonNegativeInt = 10
    deterministic: bool = False

    optuna: ClassVar[str] = "GPSampler"
    counts_draws: ClassVar[bool] = False

    def arguments(self) -> dict[str, Any]:
        return {
            "n_startup_trials": self.startup,
            "deterministic_objective": self.deterministic,
            "warn_independent_sampling": False,
        }


class QuasiRandom(_Fields):
    """A sequence that fills the space evenly, whatever the results; at random before any suggestion is told."""

    kind: Literal["qmc"] = "qmc"
    sequence: Literal["sobol", "halton"] = "sobol"
    scramble: bool = True

    optuna: ClassVar[str] = "QMCSampler"
    # A place in the sequence, which Optuna keeps in the study instead of taking it from the number of the trial.
    counts_draws: ClassVar[bool] = True

    def arguments(self) -> dict[str, Any]:
        return {
            "qmc_type": self.sequence,
            "scramble": self.scramble,
            "warn_independent_sampling": False,
            "warn_asynchronous_seeding": False,
        }


class _Pruner(_Fields):
    def check(self, budget: int, at_once: int, seeds: int) -> None:
        """Raises ValueError when it could not prune anything."""
        if at_once >= budget:
            raise ValueError(
                f"pruner: with at_once {at_once} of a budget of {budget} no suggestion is compared with another; lower "
                f"at_once, or leave the pruner out"
            )


class _OverEpochs(_Pruner):
    """grace: epochs before any suggestion may be pruned; by default, and at least, the longest warm-up of the space."""

    grace: PositiveInt | None = None
    over_seeds: ClassVar[bool] = False


class Halving(_OverEpochs):
    """Successive halving: after `grace` epochs, then `factor` times as many and so on, the best 1/factor go on."""

    kind: Literal["halving"] = "halving"
    factor: int = Field(3, ge=2)

    optuna: ClassVar[str] = "SuccessiveHalvingPruner"

    def arguments(self, grace: int, epochs: int) -> dict[str, Any]:
        return {
            "min_resource": grace,
            "reduction_factor": self.factor,
            "min_early_stopping_rate": 0,
            "bootstrap_count": 0,
        }


class Hyperband(_OverEpochs):
    """Several successive halvings with longer and longer grace, each suggestion in one of them by its number."""

    kind: Literal["hyperband"] = "hyperband"
    factor: int = Field(3, ge=2)

    optuna: ClassVar[str] = "HyperbandPruner"

    def arguments(self, grace: int, epochs: int) -> dict[str, Any]:
        return {"min_resource": grace, "max_resource": epochs, "reduction_factor": self.factor, "bootstrap_count": 0}


class Percentile(_OverEpochs):
    """Go on only among the best `percentile` of the finished suggestions at the same epoch.

    startup: suggestions before any is pruned. interval: epochs between two looks. least: suggestions that must have
    come to an epoch for it to be judged.
    """

    kind: Literal["percentile"] = "percentile"
    percentile: float = Field(50.0, gt=0, lt=100)
    startup: NonNegativeInt = 5
    interval: PositiveInt = 1
    least: PositiveInt = 1

    optuna: ClassVar[str] = "PercentilePruner"

    def check(self, budget: int, at_once: int, seeds: int) -> None:
        super().check(budget, at_once, seeds)
        if self.startup + at_once > budget:
            raise ValueError(
                f"pruner: with startup {self.startup} and at_once {at_once} of a budget of {budget} nothing is ever "
                f"pruned; lower one of them"
            )

    def arguments(self, grace: int, epochs: int) -> dict[str, Any]:
        return {
            "percentile": self.percentile,
            "n_startup_trials": self.startup,
            "n_warmup_steps": grace,
            "interval_steps": self.interval,
            "n_min_trials": self.least,
        }


class Wilcoxon(_Pruner):
    """After each seed, a signed-rank test against the best suggestion on the same seeds; trained one after another.

    p: below which it is pruned. startup: seeds before the first test.
    """

    kind: Literal["wilcoxon"] = "wilcoxon"
    p: float = Field(0.1, gt=0, lt=1)
    startup: PositiveInt = 2

    optuna: ClassVar[str] = "WilcoxonPruner"
    over_seeds: ClassVar[bool] = True

    @property
    def grace(self) -> int | None:
        return None

    def check(self, budget: int, at_once: int, seeds: int) -> None:
        super().check(budget, at_once, seeds)
        # After the last seed there is nothing left to spare.
        if self.startup >= seeds or 0.5 ** (seeds - 1) >= self.p:
            raise ValueError(
                f"pruner: on {seeds} search_seeds a signed-rank test comes below p = {self.p:g}, after the first "
                f"{self.startup}, only when all are trained, or never; give more seeds, or another pruner"
            )

    def arguments(self, grace: int, epochs: int) -> dict[str, Any]:
        return {"p_threshold": self.p, "n_startup_steps": self.startup}


Sampler = Annotated[Tpe | Random | Gp | QuasiRandom, Field(discriminator="kind")]
Pruner = Annotated[Halving | Hyperband | Percentile | Wilcoxon, Field(discriminator="kind")]


class SearchFields(_Fields):
    """space: see space.py. budget: suggestions of a cell. objective: a validation metric at the best epoch, minimised.

    search_seeds: on which each suggestion is trained, their mean its value; or how many. at_once: suggestions of a cell
    that are under way together; the next is made from all those before them, so that a search makes the same ones
    whatever it runs on. top_k: suggestions of each cell that are trained in full on the report's seeds. cells: those
    that are searched, by axis and labels; all by default. grid: whether cells are also trained as they stand.
    """

    space: dict[str, Any] = Field(min_length=1)
    budget: int = Field(ge=1, le=10_000)
    objective: Literal["nll", "nelbo_paper", "rec", "ppl", "ppl_paper"] = "nll"
    sampler: Sampler = Tpe()
    search_seeds: PositiveInt | list[NonNegativeInt] = 1
    at_once: PositiveInt = 4
    pruner: Pruner | None = None
    top_k: PositiveInt = 1
    cells: dict[str, str | list[str]] = {}
    grid: bool = True

    @field_validator("sampler", "pruner", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _enough(self) -> "SearchFields":
        if self.top_k > self.budget:
            raise ValueError(f"top_k: {self.top_k} suggestions cannot be chosen of a budget of {self.budget}")
        if self.pruner is not None:
            self.pruner.check(self.budget, self.at_once, len(self.seeds))
        return self

    @property
    def seeds(self) -> list[int]:
        seeds = self.search_seeds
        return list(range(FIRST_SEED, FIRST_SEED + seeds)) if isinstance(seeds, int) else seeds
