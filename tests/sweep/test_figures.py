"""Figures of made-up trainings, panel by panel; and the commands that draw and tell of a small search of their own."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from mlflow import MlflowClient

from model.checkpoint import Checkpoint, write
from sweep.claims import Launch
from sweep.curves import Sheet, limits, sheets
from sweep.figures import FORMATS, draw, image
from sweep.hunt import Hunt
from sweep.mirror import default_uri
from sweep.points import keep_point, read_points
from sweep.record import SUGGESTION, TUNED, EpochRecord, StudyPlan, SweepRecord, TrialResult, WantedTrial
from sweep.search import Storage, Study
from sweep.search_cli import file_names
from sweep.search_fields import SearchFields
from sweep.store import TrialStore
from sweep.study_plots import read_study
from sweep.tracking import SUMMARY
from tests.here import sweep_here

LAYOUT = {"split_by": "dataset", "across": "setting"}
METHODS = ("LSTM-LM", "LSTM-VAE", "LSTM-VAE (L = 5)")
PNG = b"\x89PNG\r\n"
NLL = Callable[[WantedTrial, int], float]
"""Of a trial after an epoch."""


def sweep(
    datasets: Sequence[str] = ("PTB",), settings: Sequence[str] = ("Standard", "Inputless"), seeds: int = 2
) -> SweepRecord:
    trials = [
        WantedTrial(
            f"{dataset}/{setting}/{method}/{seed}", {"dataset": dataset, "setting": setting, "method": method}, seed, {}
        )
        for dataset in datasets
        for setting in settings
        for method in METHODS
        for seed in range(seeds)
    ]
    return SweepRecord("mine", {}, tuple(trials), LAYOUT)


def result(trial: WantedTrial, nlls: Sequence[float], latents: int = 1) -> TrialResult:
    """With a KL of a tenth of the NLL, and a KL weight that rises by a quarter an epoch."""
    history = tuple(
        EpochRecord(
            n,
            100.0 * n,
            30.0,
            min(1.0, n / 4),
            1.0,
            {},
            {"nelbo_paper": nll, "nll": nll, "rec": nll, "kl": nll / 10, "ppl": 2.0, "ppl_paper": 2.0},
            True,
        )
        for n, nll in enumerate(nlls, start=1)
    )
    cost = {"seconds": 30.0 * len(nlls)}
    corpus = {"title": "PTB", "content_hash": "0" * 64}
    best = history[-1].valid
    return TrialResult(
        1, trial.key, trial.config, corpus, 1, latents, 1, 1.0, best, best, history, cost, {}, 0.0, 1.0
    )  # fmt: skip


def falling(trial: WantedTrial, epoch: int) -> float:
    return 100.0 + 10 * METHODS.index(trial.labels["method"]) + 4 * trial.seed + 40 * math.exp(-epoch)


def results(record: SweepRecord, nll: NLL = falling, epochs: int = 6) -> dict[str, TrialResult]:
    return {
        trial.key: result(
            trial, [nll(trial, n) for n in range(1, epochs + 1)], 0 if trial.labels["method"] == "LSTM-LM" else 1
        )
        for trial in record.trials
    }


def only(found: list[Sheet]) -> Sheet:
    (sheet,) = found
    return sheet


def panels(sheet: Sheet) -> list[list[Axes]]:
    """Rows of panels of its figure."""
    axes, num = draw(sheet).axes, len(sheet.columns)
    assert len(axes) == 3 * num
    return [axes[row * num : (row + 1) * num] for row in range(3)]


def test_a_figure_a_dataset_a_column_a_setting_and_a_line_a_method() -> None:
    record = sweep(datasets=("PTB", "Yahoo"))
    found = sheets(record, results(record))
    assert [sheet.title for sheet in found] == ["PTB", "Yahoo"]
    figure = draw(found[0])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(METHODS)
    assert legend.get_title().get_text() == "method: mean and, as a band, sample standard deviation over 2 seeds"
    assert figure.get_suptitle() == "PTB"
    beta, kl, nll = panels(found[0])
    assert [panel.get_title() for panel in beta] == ["Standard", "Inputless"]
    labels = [row[0].get_ylabel().replace("\n", " ") for row in (beta, kl, nll)]
    assert labels == ["KL weight β", "validation KL [nats per sentence]", "validation NLL [nats per sentence]"]
    assert [panel.get_xlabel() for panel in nll] == ["epoch", "epoch"]
    assert [line.get_label() for line in nll[1].lines] == list(METHODS)
    assert [line.get_label() for line in kl[1].lines] == list(METHODS[1:])  # a language model has no latent variable
    assert [line.get_label() for line in beta[1].lines] == list(METHODS[1:])
    looks = {(line.get_color(), str(line._unscaled_dash_pattern), line.get_marker()) for line in nll[0].lines}
    assert len(looks) == 3
    assert kl[0].lines[0].get_color() == nll[0].lines[1].get_color()


def test_mean_and_deviation_over_seeds() -> None:
    sheet = only(sheets(sweep(), results(sweep())))
    _, _, nll = panels(sheet)
    line, band = nll[0].lines[1], nll[0].collections[1]
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert list(line.get_ydata()) == pytest.approx([112 + 40 * math.exp(-n) for n in range(1, 7)])
    low, _ = band.get_datalim(nll[0].transData).intervaly
    assert low == pytest.approx(112 + 40 * math.exp(-6) - math.sqrt(8))
    assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())
    single = sweep(seeds=1)
    sheet = only(sheets(single, results(single)))
    assert [list(panel.collections) for row in panels(sheet) for panel in row] == [[]] * 6
    assert draw(sheet).legends[0].get_title().get_text() == "method: one seed each"


def test_trainings_of_unequal_lengths() -> None:
    record = sweep(settings=("Standard",))
    done = results(record)
    vae = record.trials[2:4]
    done |= {vae[0].key: result(vae[0], [10.0, 20.0]), vae[1].key: result(vae[1], [30.0, 40.0, 50.0])}
    line = only(sheets(record, done)).columns[0].lines[1]
    assert line.curves["nll"].epochs == (1, 2, 3)
    assert line.curves["nll"].mean == (20.0, 30.0, 50.0)
    assert line.curves["nll"].std == (pytest.approx(math.sqrt(200)), pytest.approx(math.sqrt(200)), 0.0)
    assert line.curves["kl"].mean == pytest.approx((2.0, 3.0, 5.0))


def test_a_language_model_alone_has_blank_panels() -> None:
    record = sweep(settings=("Standard",))
    done = {key: each for key, each in results(record).items() if "LSTM-LM" in key}
    beta, kl, nll = panels(only(sheets(record, done)))
    for panel in (*beta, *kl):
        assert not panel.lines
        assert [text.get_text() for text in panel.texts] == ["no latent variable"]
    assert [line.get_label() for line in nll[0].lines] == ["LSTM-LM"]


def test_lines_of_another_axis() -> None:
    record = sweep(datasets=("PTB", "Yahoo"))
    sheet = sheets(record, results(record), "setting")[0]
    assert list(sheet.labels) == ["Standard", "Inputless"]
    assert [column.labels for column in sheet.columns] == [(method,) for method in METHODS]
    together = only(sheets(record, results(record), "dataset"))
    assert (together.title, list(together.labels)) == ("mine", ["PTB", "Yahoo"])
    assert together.columns[0].labels == ("Standard", "LSTM-LM")
    with pytest.raises(
        ValueError, match="unknown axis 'metod'; did you mean 'method'. known: dataset, method, setting$"
    ):
        sheets(record, {}, "metod")


def test_what_a_table_has_side_by_side_is_so_too_wherever_its_axis_stands() -> None:
    record = sweep()
    last = tuple(
        replace(trial, labels={axis: trial.labels[axis] for axis in ("dataset", "method", "setting")})
        for trial in record.trials
    )
    for each in (record, replace(record, trials=last)):
        sheet = only(sheets(each, results(each)))
        assert (sheet.axis, list(sheet.labels)) == ("method", list(METHODS))
        assert [column.labels for column in sheet.columns] == [("Standard",), ("Inputless",)]
    alone = tuple(replace(trial, labels={"setting": trial.labels["setting"]}) for trial in record.trials)
    assert only(sheets(replace(record, trials=alone), results(record))).axis == "setting"


def test_looks_stay_while_a_sweep_grows_and_what_is_tuned_is_left_out() -> None:
    record = sweep(settings=("Standard",))
    done = {key: each for key, each in results(record).items() if "L = 5" in key}
    tuned = replace(record.trials[0], key="t", labels={**record.trials[0].labels, TUNED: "tuned"})
    record = replace(record, trials=(*record.trials, tuned))
    assert only(sheets(record, done | {"t": result(tuned, [1.0])})).labels == {"LSTM-VAE (L = 5)": 2}
    assert sheets(record, {}) == []
    assert sheets(replace(record, trials=(tuned,)), {"t": result(tuned, [1.0])}) == []


def test_a_sweep_without_axes_or_with_the_one_that_splits() -> None:
    lone = WantedTrial("k", {}, 0, {})
    sheet = only(sheets(SweepRecord("mine", {}, (lone,), LAYOUT), {"k": result(lone, [3.0, 2.0])}))
    assert (sheet.title, sheet.axis, list(sheet.labels)) == ("mine", None, ["mine"])
    split = replace(lone, labels={"dataset": "PTB"})
    sheet = only(sheets(SweepRecord("mine", {}, (split,), LAYOUT), {"k": result(split, [3.0, 2.0])}))
    assert (sheet.title, sheet.axis, list(sheet.labels)) == ("PTB", None, ["mine"])
    assert draw(sheet).legends[0].get_title().get_text() == "one seed each"
    with pytest.raises(ValueError, match="no axis 'x': sweep 'mine' has none"):
        sheets(SweepRecord("mine", {}, (lone,), LAYOUT), {}, "x")


def test_what_diverged_does_not_squash_the_others() -> None:
    def diverging(trial: WantedTrial, epoch: int) -> float:
        return 1e7 * epoch if trial.key.endswith("LSTM-VAE/1") and epoch > 3 else falling(trial, epoch)

    record = sweep()
    plain, found = (limits(only(sheets(record, results(record, nll)))) for nll in (falling, diverging))
    assert found["nll"] == pytest.approx(plain["nll"], rel=0.05)
    assert found["kl"] == pytest.approx(plain["kl"], abs=1.5)
    low, high = plain["nll"]
    assert low < 100
    assert 120 < high < 135  # the first epoch is at 139
    assert limits(only(sheets(record, results(record, lambda trial, epoch: 7.0))))["nll"] == pytest.approx((6.65, 7.35))
    _, _, nll = panels(only(sheets(record, results(record, diverging))))
    assert nll[0].get_ylim() == found["nll"]


def test_same_bytes_whatever_the_host_has_set() -> None:
    record = sweep(settings=("Standard",), seeds=2)
    done = results(record)
    first = {form: image(draw(only(sheets(record, done))), form) for form in FORMATS}
    assert first["png"].startswith(PNG)
    assert b"<svg" in first["svg"]
    assert b"dc:date" not in first["svg"]
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other"}):
        mixed = dict(reversed(done.items()))
        assert {form: image(draw(only(sheets(record, mixed))), form) for form in FORMATS} == first


def test_labels_are_taken_as_they_are() -> None:
    labels = ["$x_", "_hidden", "$\\frac$"]
    trials = tuple(WantedTrial(label, {"method": label}, 0, {}) for label in labels)
    sheet = only(sheets(SweepRecord("$", {}, trials, {}), {trial.key: result(trial, [2.0, 1.0]) for trial in trials}))
    figure = draw(sheet)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels
    assert image(figure, "png").startswith(PNG)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["PTB", "Yahoo"], ["PTB", "Yahoo"]),
        (["PTB", "../../etc"], ["1", "2"]),
        (["a/b"], ["1"]),
        ([".."], ["1"]),
        (["ptb", "PTB"], ["1", "2"]),
        (["2", "a b"], ["1", "2"]),
        (["β"], ["1"]),
        (["x" * 300], ["1"]),
        (["ok\n"], ["1"]),
        ([], []),
    ],
)
def test_labels_become_names_only_where_they_are_fit(labels: list[str], expected: list[str]) -> None:
    assert file_names(labels) == expected


SEARCH: dict[str, Any] = {
    "space": {
        "update.learning_rate": {"float": [0.01, 10.0], "log": True},
        "schedule": {
            "choice": {
                "flat": {"kind": "constant", "weight": {"float": [0.2, 1.0]}},
                "rising": {"kind": "linear", "epochs": {"int": [1, 3]}},
            }
        },
    },
    "budget": 8,
    "sampler": "random",
    "pruner": {"kind": "percentile", "startup": 2},
}
STUDY = "0123456789abcdef"


class Searched:
    """A store with a search of eight suggestions, some of them pruned, and with the grid of one cell done."""

    def __init__(self, folder: Path):
        self.folder, self.store = folder, TrialStore(folder / "results")
        (folder / "results").mkdir()
        self.url = f"sqlite:///{folder / 'results' / 'optuna.db'}"
        grid = WantedTrial("a" * 64, {"method": "VAE"}, 0, {"data": {}})
        self._finish(grid, [30.0, 20.0])
        self.plan = StudyPlan(STUDY, grid.labels, {}, SEARCH["space"], "", grace=1, epochs=3)
        self.record = SweepRecord("tiny", {"search": SEARCH}, (grid,), {}, (self.plan,))
        self.store.record(self.record)
        study = Study(Storage(self.url), self.plan, "tiny", SearchFields.model_validate(SEARCH))
        hunt = Hunt(study, [], self._make, lambda point: keep_point(self.store, "tiny", STUDY, point))
        while hunt.has_next:
            for trial in hunt.next():
                self._train(hunt, trial, len(hunt.points) - 1)

    def _make(self, number: int, params: Mapping[str, Any]) -> tuple[WantedTrial, ...]:
        key = hashlib.sha256(f"{number}".encode()).hexdigest()
        config = {"learning_rate": params["update.learning_rate"]}
        return (WantedTrial(key, {"method": "VAE", SUGGESTION: f"suggestion {number}"}, 10_000, config),)

    def _train(self, hunt: Hunt, trial: WantedTrial, number: int) -> None:
        """Three epochs of half a minute, or one where the search has seen enough then."""
        end = 20 + abs(math.log10(float(trial.config["learning_rate"])))
        values = [end + 3 / epoch for epoch in (1, 2, 3)]
        hunt.epoch(number, 0, 1, values[0])
        hunt.epoch(number, 0, 2, values[1])
        if hunt.wants(number):
            hunt.ended(number, 0, values, values[-1])
            self._finish(trial, values)
        else:
            state = {"history": [asdict(record) for record in result(trial, values[:2]).history]}
            write(self.store.trial(trial.key).below("checkpoint"), Checkpoint(2, 0, {}, state))

    def _finish(self, trial: WantedTrial, values: Sequence[float]) -> None:
        self.store.trial(trial.key).publish("result.json", result(trial, values).to_json().encode())

    def sweep(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Standard output of a command, and its errors."""
        own = {"SWEEP_RESULTS": str(self.store.location)}
        done = sweep_here(*words, folder=self.folder, environment=own, code=code)
        return done.stdout, done.stderr

    def files(self) -> dict[str, bytes]:
        """Of the store: name to content."""
        top = self.folder / "results"
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return Searched(tmp_path_factory.mktemp("searched"))


@pytest.fixture
def searched(made: Searched) -> Iterator[Searched]:
    """The same for each test: what it has changed is put back."""
    before, top = made.files(), made.folder / "results"
    yield made
    for name in made.files().keys() - before.keys():
        (top / name).unlink()
    for name, content in before.items():
        (top / name).write_bytes(content)


CURVES = ["figures/curves-tiny.png", "figures/curves-tiny.svg"]
PLOTS = [f"figures/{STUDY}-{kind}.png" for kind in ("history", "importance", "slice")]


def test_figures_are_written_and_nothing_else_is_changed(searched: Searched) -> None:
    before = searched.files()
    out, errors = searched.sweep("figures", "tiny", "--no-tracking")
    assert out.splitlines() == [f"{searched.store.sweep('tiny')}/{name}" for name in CURVES + PLOTS]
    assert errors == ""
    after = searched.files()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {f"sweeps/tiny/{name}" for name in CURVES + PLOTS}
    assert all(content.startswith(PNG) for name, content in after.items() if name.endswith(".png"))
    plots = read_study(searched.url, "tiny", searched.plan).plots()
    assert {name: after[f"sweeps/tiny/{name}"] for name in PLOTS} == dict(zip(PLOTS, plots.values(), strict=True))
    _, errors = searched.sweep("figures", "tiny", "--lines", "x", code=2)
    assert "error: unknown axis 'x'; known: method" in errors


def test_figures_are_artifacts_of_the_sweeps_own_run(searched: Searched) -> None:
    searched.sweep("figures", "tiny")
    client = MlflowClient(default_uri(searched.store.location))
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags.get(SUMMARY) == "sweep"]
    kept = {artifact.path for artifact in client.list_artifacts(run.info.run_id, "figures")}
    assert kept == set(CURVES + PLOTS)
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["figures"]
    searched.sweep("sync", "tiny", "--tracking-uri", f"sqlite:///{searched.folder}/rebuilt.db")
    rebuilt = searched.folder / "results" / "artifacts"
    assert len(list(rebuilt.glob("*/artifacts/figures/curves-tiny.png"))) == 2


def test_curves_are_drawn_whatever_else_is_away(searched: Searched) -> None:
    elsewhere, mlflow = f"sqlite:///{searched.folder}/other.db", f"{searched.url}/nowhere.db"
    own = "figures", "tiny", "--search-storage", elsewhere
    out, errors = searched.sweep(*own, "--tracking-uri", mlflow)
    assert out.splitlines() == [f"{searched.store.sweep('tiny')}/{name}" for name in CURVES]
    first, second = errors.splitlines()
    assert first == f"warning: a search is not drawn: Optuna's storage {elsewhere} is not there"
    assert second.startswith(f"warning: MLflow at {mlflow} lacks the figures (")
    assert not (searched.folder / "other.db").exists()
    with Launch(searched.store.launches, "tiny") as launch:
        searched.store.lead("tiny", launch)
        out, errors = searched.sweep(*own)
    assert len(out.splitlines()) == 2
    assert "lacks the figures (sweep 'tiny' is being run by process" in errors


def test_how_a_search_stands(searched: Searched) -> None:
    points = read_points(searched.store, "tiny", STUDY)
    states = [point.outcome.state for point in points if point.outcome]
    values = {point.outcome.value: point for point in points if point.outcome and point.outcome.state == "complete"}
    best = values[min(value for value in values if value is not None)]
    (report,) = json.loads(searched.sweep("search", "tiny", "--json")[0])
    assert (report["cell"], report["told"], report["budget"]) == ("VAE", 8, 8)
    assert 2 <= report["complete"] == states.count("complete") < 8
    assert report["pruned"] == states.count("pruned") == 8 - report["complete"]
    assert (report["best"], report["params"]) == (best.number, dict(best.params))
    seconds = report["complete"] * 90 + report["pruned"] * 60
    assert report["hours"] == pytest.approx(seconds / 3600)
    assert sum(report["importance"].values()) == pytest.approx(1.0)
    assert {"update.learning_rate", "schedule"} <= report["importance"].keys()
    out, errors = searched.sweep("search", "tiny")
    assert f"VAE: 8 of 8 suggestions tried: {report['complete']} complete, {report['pruned']} pruned" in out
    assert f"best: no. {best.number}, validation strict NLL {report['value']:.2f}: update.learning_rate" in out
    assert "importance: " in out
    assert errors == ""


def test_a_search_without_its_storage_or_a_sweep_without_a_search(searched: Searched) -> None:
    out, errors = searched.sweep("search", "tiny", "--search-storage", f"sqlite:///{searched.folder}/other.db")
    assert "8 of 8 suggestions tried" in out
    assert "best: no. " in out
    assert "importance" not in out
    assert errors.startswith("warning: importance is not known: Optuna's storage sqlite:///")
    searched.store.record(replace(searched.record, studies=()))
    _, errors = searched.sweep("search", "tiny", code=2)
    assert errors == "error: sweep 'tiny' has no search; its spec has none under 'search:'\n"


def test_a_study_is_read_and_never_made(searched: Searched, tmp_path: Path) -> None:
    other = replace(searched.plan, id="f" * 16)
    with pytest.raises(ValueError, match="optuna.db has no study of VAE"):
        read_study(searched.url, "tiny", other)
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(ValueError, match="empty.db is there, but Optuna has put nothing into it"):
        read_study(f"sqlite:///{empty}", "tiny", searched.plan)
    assert empty.stat().st_size == 0
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database" * 100)
    with pytest.raises(ValueError, match="damaged.db cannot be read"):
        read_study(f"sqlite:///{damaged}", "tiny", searched.plan)
    with pytest.raises(ValueError, match=r"cannot be read") as told:
        read_study("postgresql+nothing://me:secret@localhost/x", "tiny", searched.plan)
    assert "secret" not in str(told.value)
    with pytest.raises(ValueError, match=r"'no-url' cannot be read|no-url cannot be read"):
        read_study("no-url", "tiny", searched.plan)


def test_too_little_to_say_what_mattered(tmp_path: Path) -> None:
    plan = StudyPlan(STUDY, {}, {}, SEARCH["space"], "", grace=1, epochs=3)
    url = f"sqlite:///{tmp_path / 'a b%20#?.db'}"
    study = Study(Storage(url), plan, "tiny", SearchFields.model_validate(SEARCH))
    assert (read_study(url, "tiny", plan).plots(), read_study(url, "tiny", plan).importances()) == ({}, {})
    hunt = Hunt(study, [], lambda number, params: (WantedTrial(str(number), {}, 0, {}),), lambda points: None)
    hunt.next()
    hunt.ended(0, 0, [2.0], 2.0)
    found = read_study(url, "tiny", plan)
    assert found.importances() == {}
    assert list(found.plots()) == ["history", "slice"]
