"""What the report is made of: figures' data, diagnostics, cost and words, by numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from sweep.formats.html import Entry
from sweep.measures import Trial, chosen_form
from sweep.record import SweepRecord, WantedTrial
from sweep.relations import ladders, panels, places, planes, spectra
from sweep.report_diagnostics import diagnostics
from sweep.report_figures import MARKERS, draw_ladders, draw_plane, draw_spectra
from sweep.report_tables import cost, duration, environment
from sweep.report_words import commits, missing, standing, when
from tests.sweep.small_report import (
    EVIL,
    METHODS,
    evaluations,
    line,
    metrics_of,
    results,
    sweep,
)


def test_panels_are_of_the_sweep_and_methods_keep_their_places() -> None:
    record = sweep()
    assert [panel.title for panel in panels(record)] == ["Toy, Standard", "Toy, Inputless"]
    assert list(panels(record)[0].methods) == list(METHODS)
    assert places(record) == {method: place for place, method in enumerate(METHODS)}
    lone = SweepRecord("alone", {}, (WantedTrial("k", {}, 0, {}),), {})
    assert [(panel.title, list(panel.methods)) for panel in panels(lone)] == [("alone", ["alone"])]


def test_rates_of_each_seed_and_those_that_diverged_apart() -> None:
    record = sweep()
    done = results(record)
    lost = record.trials[3]
    done[lost.key] = replace(done[lost.key], test=metrics_of(20.0, 1e3, 1))
    standard, inputless = planes(record, done)
    by_method = {rates.method: rates.points for rates in standard.rates}
    assert by_method["LSTM-LM"] == ((20.0, 0.0), (20.0, 0.0))
    assert by_method["LSTM-VAE"] == ((21.0, 2.0),)
    assert standard.beyond == ("LSTM-VAE, seed 1",)
    assert inputless.beyond == ()
    (axes,) = draw_plane(standard).axes
    points = [shape for shape in axes.lines if shape.get_marker() in MARKERS]
    assert [len(shape.get_xdata()) for shape in points] == [2, 1, 2, 2, 2]  # type: ignore[arg-type]
    assert len({shape.get_marker() for shape in points}) == 5
    assert axes.get_ylim()[1] < 4
    only_lm = sweep(methods=("LSTM-LM",))
    assert planes(only_lm, results(only_lm)) == []


def test_sums_are_the_same_along_a_line() -> None:
    record = sweep()
    (axes,) = draw_plane(planes(record, results(record))[0]).axes
    totals = [float(text.get_text()) for text in axes.texts]
    assert len(totals) >= 3
    for text, total in zip(axes.texts, totals, strict=True):
        x, y = text.get_position()
        assert x + y == pytest.approx(total, abs=0.1)


def test_a_spectrum_is_sorted_within_a_seed_and_then_averaged() -> None:
    record = sweep()
    found = evaluations(record)
    vae = record.trials[2:4]
    found[vae[0].key] = replace(found[vae[0].key], kl_by_dimension=(0.0, 3.0))
    found[vae[1].key] = replace(found[vae[1].key], kl_by_dimension=(1.0, 0.5))
    standard, _ = spectra(record, found)
    by_method = {each.method: (each.values, each.num_seeds) for each in standard.spectra}
    assert by_method["LSTM-VAE"] == ((2.0, 0.25), 2)
    assert "LSTM-LM" not in by_method
    assert by_method[EVIL][0] == pytest.approx((1.6875, 0.5625, 0.0, 0.0))
    (axes,) = draw_spectra(standard).axes
    assert [to_hex(shape.get_color()) for shape in axes.lines][:2] == ["#d55e00", "#009e73"]
    assert spectra(record, {}) == []


def test_ladders_begin_at_the_one_model_that_all_share() -> None:
    record = sweep()
    standard, _ = ladders(record, results(record), {})
    assert [ladder.label for ladder in standard.ladders] == ["plain", "averaged", "averaged, strict bound"]
    plain, averaged, strict = (ladder.rungs for ladder in standard.ladders)
    shared = tuple(math.exp((21 + kl) / 10) for kl in (2.0, 2.5))
    assert plain[1] == averaged[1] == strict[1] == pytest.approx(shared)
    assert plain[5] == pytest.approx(tuple(math.exp((22 + kl) / 10) for kl in (2.0, 2.5)))
    assert averaged[5] == pytest.approx(tuple(math.exp((23 + kl) / 10) for kl in (2.0, 2.5)))
    assert strict[5] == pytest.approx(tuple(math.exp((23 + 5 * kl) / 10) for kl in (2.0, 2.5)))
    (axes,) = draw_ladders(standard, {ladder.label: n for n, ladder in enumerate(standard.ladders)}).axes
    assert list(axes.get_xticks()) == [1, 5]
    assert len(axes.containers) == 3  # one line with bars each
    lone = sweep(methods=("LSTM-LM", "LSTM-VAE", "LSTM-VAE-AVG (L = 5)"))
    assert [ladder.kind for ladder in ladders(lone, results(lone), {})[0].ladders] == [
        "averaged",
        "averaged, strict bound",
    ]


def test_ladders_go_by_the_bound_that_tables_show() -> None:
    record = sweep()
    found = evaluations(record)
    standard, _ = ladders(record, results(record), found)
    cell = [trial for trial in record.trials if trial.labels["method"] == "LSTM-VAE-AVG (L = 5)"]
    own = [trial.key for trial in cell if trial.labels["setting"] == "Standard" and trial.key in results(record)]
    form = chosen_form([Trial(results(record)[key], found.get(key)) for key in own])
    expected = [found[key].test[f"ppl_{form}"] if key in found else results(record)[key].test["ppl"] for key in own]
    assert standard.ladders[2].rungs[5] == pytest.approx(tuple(expected))


def test_ladders_of_several_families_are_named() -> None:
    record = sweep(methods=("LSTM-VAE", "LSTM-VAE (L = 5)"), settings=("Standard",), seeds=1)
    trials = tuple(
        replace(trial, key=f"{schedule}{trial.key}", labels={**trial.labels, "schedule": schedule},
                config={**trial.config, "schedule": {"kind": schedule}})
        for schedule in ("linear", "cyclical")
        for trial in record.trials
    )  # fmt: skip
    record = replace(record, trials=trials)
    (found,) = ladders(record, results(record), {})
    assert [ladder.label for ladder in found.ladders] == ["linear, plain", "cyclical, plain"]


def test_diagnostics_are_means_over_seeds() -> None:
    record = sweep()
    use, bounds, weighted = diagnostics(panels(record), results(record), evaluations(record))
    assert [block.label for block in use.blocks] == ["Toy, Standard", "Toy, Inputless"]
    vae = line(use, "LSTM-VAE")
    assert (vae["KL"].text, vae["KL"].spread) == ("2.25", "0.35")
    assert vae["MI"].value == pytest.approx(0.9 * 2.25)
    assert vae["MI b32"].value == pytest.approx(0.8 * 2.25)
    assert (vae["AU"].text, vae["Jensen"].text, vae["n"].text) == ("2.0", "0.00", "2")
    assert line(use, "LSTM-VAE-AVG (L = 5)")["Jensen"].text == "0.25"
    assert [entry.text for entry in line(use, "LSTM-LM").values()] == ["20.00", *["–"] * 7, "2"]
    averaged = line(bounds, "LSTM-VAE-AVG (L = 5)")
    assert [averaged[name].value for name in ("NLL", "NLL ≤ joint", "NLL ≤ exch.", "NLL ≤ L = 1")] == pytest.approx(
        [25.25, 34.25, 29.75, 25.5]
    )
    assert weighted.groups == (("NLL ≤ joint", 3), ("NLL ≤ exch.", 3), ("NLL ≤ L = 1", 3), ("", 1))
    last = line(weighted, "LSTM-VAE-AVG (L = 5)", 1)
    assert [last[name].text for name in ("IW", "s.e.", "ESS")] == ["45.00", "0.20", "12.5"]
    assert last["s.e."].spread == ""


def test_diagnostics_of_some_of_it() -> None:
    record = sweep()
    some = {
        key: replace(each, test={name: value for name, value in each.test.items() if not name.startswith("iw_")})
        for key, each in list(evaluations(record).items())[:3]
    }
    first = record.trials[2].key
    some[first] = replace(some[first], test={**some[first].test, "nelbo_strict": math.nan})
    use, bounds = diagnostics(panels(record), results(record), some)
    assert line(use, "LSTM-VAE")["n"].text == "1/2"
    assert line(bounds, "LSTM-VAE")["NLL ≤ joint"] == Entry("NaN")
    assert all("IW" not in each.columns for each in (use, bounds))
    assert line(use, EVIL)["rec."].text == "–"
    assert diagnostics(panels(record), results(record), {}) == []


def test_cost_by_what_it_ran_on() -> None:
    record = sweep()
    done = results(record)
    fast = record.trials[0]
    other = {**done[fast.key].environment, "device": "Engine", "threads": "2", "host": "h2"}
    done[fast.key] = replace(done[fast.key], environment=other)
    found = cost(panels(record), done)
    assert found is not None
    assert [block.label for block in found.blocks] == ["Toy · Engine, 2 threads", "Toy · Abacus 9000, 1 thread"]
    assert [entry.text for entry in found.blocks[0].lines[0].entries] == ["1", "90 s", "90 s", "3", "1,000"]
    assert [entry.text for entry in line(found, "LSTM-VAE", 1).values()] == ["4", "6.0 min", "90 s", "3", "1,000"]
    facts = dict(environment(done.values()))
    assert facts["hosts"] == "2"
    assert facts["device"] == "Abacus 9000 (19 trials); Engine (1 trial)"
    assert facts["torch"] == "2.13.0"
    durations = [duration(seconds) for seconds in (0.4, 99, 100, 5940, 36e5)]
    assert durations == ["0 s", "99 s", "1.7 min", "99.0 min", "1,000.0 h"]
    assert (cost(panels(record), {}), environment([])) == (None, [])


def test_when_and_by_which_code() -> None:
    record = sweep(seeds=1, methods=("LSTM-LM", "LSTM-VAE"), settings=("Standard",))
    first, second = results(record).values()
    dirty = replace(second, environment={**second.environment, "dirty": "yes"}, finished=90_000.0)
    assert commits([first]) == ["f" * 12]
    assert commits([first, first, dirty]) == [
        f"{'f' * 12} (2 trials)",
        f"{'f' * 12}, with changes that were not committed (1 trial)",
    ]
    assert commits([replace(first, environment={})]) == ["an unknown commit"]
    assert when([first, dirty]) == "1970-01-01 00:00 to 1970-01-02 01:00 UTC"
    assert when([]) == ""


def test_what_is_missing_in_words() -> None:
    record = sweep(seeds=3, methods=("LSTM-LM", "LSTM-VAE"), settings=("Standard",))
    states = dict.fromkeys(record.wanted, "done")
    assert missing(panels(record), states) == []  # type: ignore[arg-type]
    assert standing(record, states) == "all 6 trials done"  # type: ignore[arg-type]
    keys = list(record.wanted)
    states |= {keys[0]: "missing", keys[2]: "failed", keys[3]: "started", keys[4]: "started", keys[5]: "started"}
    assert missing(panels(record), states) == [  # type: ignore[arg-type]
        "Toy, Standard, LSTM-LM: 2 of 3 seeds missing (seed 2 failed; seed 0 not begun yet).",
        "Toy, Standard, LSTM-VAE: no seed is done (seeds 0, 1, 2 not at its end yet).",
    ]
