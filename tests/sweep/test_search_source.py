"""A sweep's searches as the queue sees them, with real plans, stores and Optuna, and without training."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from sweep.config import TrialConfig
from sweep.plan import Plan, make_plan, plan_again
from sweep.points import read_points
from sweep.search_source import Search
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial

SPEC = """
name: twice
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 4, hidden_dim: 5}
  train: {epochs: 3, batch_size: 8}
axes:
  method:
    LSTM-LM: {model: lstm_lm, schedule: constant}
    VAE: {model: {kind: lstm_vae, latent_dim: 2}}
    wide VAE: {model: {kind: lstm_vae, latent_dim: 3}}
search:
  space: {model.latent_dim: {int: [1, 8]}}
  budget: 6
  at_once: 2
  cells: {method: [VAE, wide VAE]}
seeds: 2
"""


@pytest.fixture
def plan(tmp_path: Path, lines_corpus: Path) -> Plan:
    (tmp_path / "twice.yaml").write_text(SPEC)
    return make_plan(SweepSpec.load(str(tmp_path / "twice.yaml")), lines_corpus)


def open_search(plan: Plan, folder: Path, url: str) -> Search:
    return Search(plan, TrialStore(folder), url, None, print)


def names(search: Search, calls: int) -> list[str]:
    return [trial.name for _ in range(calls) for trial in search.more()]


def test_cells_take_turns_and_each_has_no_more_under_way_than_it_may(plan: Plan, tmp_path: Path) -> None:
    search = open_search(plan, tmp_path / "a", f"sqlite:///{tmp_path / 'optuna.db'}")
    expected = [f"{cell} / suggestion {number} / seed 10000" for number in range(2) for cell in ("VAE", "wide VAE")]
    assert names(search, 10) == expected
    assert not search.is_over


def test_a_search_trains_without_the_test_split_and_reports_with_it(plan: Plan, tmp_path: Path) -> None:
    search = open_search(plan, tmp_path / "a", f"sqlite:///{tmp_path / 'optuna.db'}")
    [trial] = search.more()
    assert trial.config["evaluate"]["test"] is False
    assert all(trial.config["evaluate"]["test"] is True for trial in plan.record.trials)


def test_what_was_left_under_way_comes_first_in_the_next_launch(plan: Plan, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    first = names(open_search(plan, tmp_path / "a", url), 3)
    assert sorted(names(open_search(plan, tmp_path / "a", url), 10)) == sorted(
        [*first, "wide VAE / suggestion 1 / seed 10000"]
    )


def test_another_corpus_is_another_search(plan: Plan, lines_corpus: Path) -> None:
    record = replace(plan.record, trials=())
    assert plan_again(record, lines_corpus).record == record
    with (lines_corpus / "tiny" / "train.txt").open("a") as file:
        file.write("w1 w2\n")
    with pytest.raises(
        ValueError, match="the search of VAE was begun on another corpus than this 'tiny'; run the sweep"
    ):
        plan_again(record, lines_corpus)


def test_stores_that_share_a_database_do_not_touch_each_others_studies(plan: Plan, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for name in ("a", "b"):
        assert len(names(open_search(plan, tmp_path / name, url), 10)) == 4
    sizes = {each.study_name: each.n_trials for each in optuna.get_all_study_summaries(url)}
    assert list(sizes.values()) == [2, 2, 2, 2]


def test_a_search_whose_points_were_removed_begins_anew(plan: Plan, tmp_path: Path) -> None:
    url, store = f"sqlite:///{tmp_path / 'optuna.db'}", TrialStore(tmp_path / "a")
    before = names(open_search(plan, tmp_path / "a", url), 10)
    store.sweep("twice").remove(f"studies/{plan.record.studies[0].id}")
    assert sorted(names(open_search(plan, tmp_path / "a", url), 10)) == sorted(before)
    assert sorted(each.n_trials for each in optuna.get_all_study_summaries(url)) == [2, 2, 2]


def test_a_damaged_suggestion_is_named_and_when_it_is_removed_made_again(plan: Plan, tmp_path: Path) -> None:
    url, store, study = f"sqlite:///{tmp_path / 'optuna.db'}", TrialStore(tmp_path / "a"), plan.record.studies[0].id
    names(open_search(plan, tmp_path / "a", url), 10)
    before, first = read_points(store, "twice", study), f"studies/{study}/00000.json"
    store.sweep("twice").publish(first, store.sweep("twice").read(first).replace(b"suggestion 0", b"suggestion 7"))
    with pytest.raises(ValueError, match=r"00000\.json is damaged \(it does not have .*; remove it, and the search"):
        open_search(plan, tmp_path / "a", url)
    store.sweep("twice").remove(first)
    names(open_search(plan, tmp_path / "a", url), 10)
    assert read_points(store, "twice", study) == before


def test_a_storage_that_goes_away_holds_up_the_search_and_nothing_else(
    plan: Plan, tmp_path: Path, lines_corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost: what was trained meanwhile is taken from the store when Optuna's database is back."""
    monkeypatch.setattr("sweep.search_source.PAUSE", 0.0)
    store, database = TrialStore(tmp_path / "a"), tmp_path / "optuna.db"
    search = open_search(plan, tmp_path / "a", f"sqlite:///{database}")
    trials = [trial for _ in range(4) for trial in search.more()]
    whole = database.read_bytes()
    database.write_bytes(b"no database any more")
    for trial in trials:
        config = TrialConfig.parse(trial.config)
        result = run_trial(config, store, lines_corpus, on_epoch=lambda each, trial=trial: search.epoch(trial, each))  # type: ignore[misc]
        search.finished(trial, result)
    assert search.more() == search.more() == []
    assert not search.is_over
    database.write_bytes(whole)
    again = [trial for _ in range(4) for trial in search.more()]
    assert sorted(trial.name for trial in again) == sorted(trial.name for trial in trials)
    for trial in again:
        search.finished(trial, store.result(trial.key))
    assert [trial.labels["suggestion"] for _ in range(9) for trial in search.more()] == ["suggestion 2"] * 2 + [
        "suggestion 3"
    ] * 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[0].endswith(": no suggestion is made until that is mended")
    assert said[1] == "the search goes on"


def test_a_storage_that_cannot_be_reached_is_said_without_its_password(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"Optuna's storage sqlite:///.*absent.* could not be used") as error:
        open_search(plan, tmp_path / "a", f"sqlite:///{tmp_path / 'absent' / 'optuna.db'}")
    assert "Traceback" not in str(error.value)
    # Which of the two is a matter of whether that driver is installed.
    with pytest.raises((ValueError, OSError), match="could not be used|cannot be opened") as other:
        open_search(plan, tmp_path / "a", "postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(other.value)
    with pytest.raises(ValueError, match="--search-storage nonsense cannot be opened .*; give the URL of a database"):
        open_search(plan, tmp_path / "a", "nonsense")
