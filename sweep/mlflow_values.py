"""A sweep's records as MLflow's flat values: params, tags and metrics by name. Pure, and without MLflow."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from sweep.evaluation import Evaluation
from sweep.record import EpochRecord, TrialResult, WantedTrial

MEASURED = ("nll", "nelbo_paper", "rec", "kl", "ppl", "ppl_paper")
LATER = ("nelbo_strict", "nelbo_exch", "nelbo_l1", "iw_strict", "iw_exch", "iw_l1", "mi", "active_units")
"""Of what an evaluation measures, that which has a chart of its own."""
LATER_PREFIX = "measured/"
EVERY_EPOCH = "beta"


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """In this order, since MLflow's page that compares runs begins with the first; of training, all that it says."""
    return {
        **_measured("valid", record.valid),
        **_measured("train", record.train),
        **{f"train/{name}": value for name, value in record.train.items()},
        EVERY_EPOCH: record.beta,
        "lr": record.lr,
    }


def final_metrics(result: TrialResult) -> dict[str, float]:
    """`best/…`, validation at the best epoch, since MLflow shows a metric's last value; and test at that epoch."""
    return {
        **_measured("best", result.valid),
        **metrics_of_test(result),
        "cost/seconds": result.cost["seconds"],
        "cost/parameters": result.parameters,
    }


def measured_metrics(evaluation: Evaluation) -> dict[str, float]:
    """What was measured after the training, apart from the training's own numbers, which had other draws.

    What is not finite is not a number: MLflow has no infinity.
    """
    valid = {f"valid_{name}": value for name, value in evaluation.valid.items()}
    found = {**valid, **evaluation.test}
    return {f"{LATER_PREFIX}{name}": value if math.isfinite(value) else math.nan for name, value in found.items()}


def _measured(split: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": metrics[name] for name in MEASURED if name in metrics}


def labels(trial: WantedTrial) -> dict[str, str]:
    """Where a trial stands in the grid."""
    axes = {tag_name(axis): label for axis, label in trial.labels.items()}
    return {**axes, "cell": trial.cell, "seed": str(trial.seed)}


def tag_name(axis: str) -> str:
    """A character that MLflow allows in no name becomes an underscore."""
    return re.sub(r"[^\w/.\- :]", "_", axis)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A document with dotted names: {"model": {"kind": "vae"}} -> {"model.kind": "vae"}; all but text as JSON."""
    values = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            values.update(flat(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return values


def summaries(trials: Iterable[WantedTrial], *found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """By cell, of its trials that the first of `found` has: mean, sample standard deviation (from two on) and n.

    found: metrics by trial key, each with names of its own. What not all of those trials have is left out: a mean over
    some of the seeds is of something else.
    """
    cells: dict[str, list[dict[str, float]]] = defaultdict(list)
    for trial in trials:
        if trial.key in found[0]:
            each = [metrics.get(trial.key, {}) for metrics in found]
            cells[trial.cell].append({name: value for some in each for name, value in some.items()})
    return {cell: _summary(each) for cell, each in cells.items()}


def _summary(trials: Sequence[Mapping[str, float]]) -> dict[str, float]:
    summary = {"n": float(len(trials))}
    for name in dict.fromkeys(name for trial in trials for name in trial):
        if all(name in trial for trial in trials):
            column = [trial[name] for trial in trials]
            is_sound = all(map(math.isfinite, column))
            summary[f"{name}_mean"] = fmean(column) if is_sound else math.nan
            if len(column) > 1:
                summary[f"{name}_std"] = stdev(column) if is_sound else math.nan
    return summary


def metrics_of_test(result: TrialResult) -> dict[str, float]:
    return _measured("test", result.test)
