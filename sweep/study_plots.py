"""Studies in Optuna's storage, looked at and never changed: Optuna's own plots, and which fields mattered."""

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from optuna.trial import TrialState
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from sweep.footnotes import OBJECTIVES
from sweep.mirror import redacted
from sweep.record import StudyPlan
from sweep.search import study_name

TABLES = {"studies", "trials", "version_info", "alembic_version"}
"""Optuna makes those that a storage lacks, which whoever only reads must not."""


@dataclass(frozen=True)
class StoredStudy:
    """What the storage had of a study when it was read. objective: what its values are, in words."""

    study: optuna.Study
    objective: str

    @property
    def num_complete(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    @property
    def _params(self) -> list[str]:
        """Of the complete suggestions, in an order of their own: Optuna's is that of a set, another in each process."""
        trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted({name for trial in trials for name in trial.params})

    def importances(self) -> dict[str, float]:
        """Share of each field in how good a suggestion is, the largest first; they add up to 1.

        By PED-ANOVA over the complete suggestions; empty with fewer than two, or when those do not let it be told.
        """
        if self.num_complete < 2:
            return {}
        try:
            with _quietly():
                found = optuna.importance.get_param_importances(self.study, params=self._params)
        except (ValueError, RuntimeError, ArithmeticError):
            return {}
        return dict(found) if all(map(math.isfinite, found.values())) else {}

    def plots(self) -> dict[str, bytes]:
        """PNG by name: `history`, `importance` and `slice`; those that there is enough for."""
        from optuna.visualization import matplotlib as drawn

        study, params = self.study, self._params
        words: dict[str, Any] = {"target_name": self.objective}
        plots: dict[str, Callable[[], Any]] = {}
        if self.num_complete:
            plots["history"] = partial(drawn.plot_optimization_history, study, **words)
            plots["slice"] = partial(drawn.plot_slice, study, params, **words)
        if self.importances():
            # Only with a target of its own does this plot take its name.
            target = attrgetter("value")
            plots["importance"] = partial(drawn.plot_param_importances, study, params=params, target=target, **words)
        return {name: _png(study.study_name, plot) for name, plot in sorted(plots.items())}


def read_study(url: str, sweep: str, plan: StudyPlan, mark: str = "") -> StoredStudy:
    """The study of a cell as it is now. Raises ValueError, without the address's password, when it cannot be read."""
    place = f"Optuna's storage {redacted(url)}"
    try:
        with _opened(url, place) as storage:
            stored = optuna.load_study(study_name=study_name(sweep, plan, mark), storage=storage)
            objective = OBJECTIVES.get(str(stored.user_attrs.get("objective")), "objective")
            trials = stored.get_trials(deepcopy=False)
    except KeyError:
        raise ValueError(f"{place} has no study of {plan.cell or sweep}, whose search has not begun there") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, RuntimeError) as error:
        text = " ".join(str(error.__cause__ or error).split()).replace(url, redacted(url))[:300]
        raise ValueError(f"{place} cannot be read ({text})") from None
    study = optuna.create_study(study_name=plan.cell or sweep, direction="minimize")
    study.add_trials(trials)
    return StoredStudy(study, f"validation {objective}")


@contextmanager
def _opened(url: str, place: str) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's storage at a URL, where there is one."""
    address = _read_only(url, place)
    engine = create_engine(address)
    try:
        if not set(inspect(engine).get_table_names()) >= TABLES:
            raise ValueError(f"{place} is there, but Optuna has put nothing into it")
    finally:
        engine.dispose()
    storage = optuna.storages.RDBStorage(address.render_as_string(hide_password=False), skip_table_creation=True)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _read_only(url: str, place: str) -> URL:
    """The same database; SQLite is told to make no file, and to write none."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or (address.database or "").startswith("file:"):
        return address
    path = Path(address.database or "")
    if not path.is_file():
        raise ValueError(f"{place} is not there")
    return address.set(database=f"file:{quote(str(path.absolute()))}", query={"mode": "ro", "uri": "true"})


def _png(title: str, plot: Callable[[], Any]) -> bytes:
    """What Optuna draws. It does so by way of pyplot, and changes its settings; nothing of that is left behind."""
    matplotlib.use("Agg")  # needs no display
    from matplotlib import pyplot

    content = io.BytesIO()
    with matplotlib.rc_context({"figure.figsize": (8, 5), "text.parse_math": False}), _quietly():
        plot()
        figure = pyplot.gcf()
        try:
            _thin_out(figure)
            figure.text(0.01, 1.0, title, va="bottom", weight="bold")
            figure.savefig(content, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None})
        finally:
            pyplot.close(figure)
    return content.getvalue()


def _thin_out(figure: Figure) -> None:
    """Have names of fields and the numbers of a narrow logarithmic axis not stand on each other."""
    for axes in figure.axes:
        axes.xaxis.label.set_fontsize("medium")
        if axes.get_xscale() == "log":
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings that these functions of Optuna are new, and that an axis has but one value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
