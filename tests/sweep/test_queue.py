"""Which trials a plan wants, which of them are missing, in which order they are handed out, and which again."""

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from data.files import LocalFiles
from model import checkpoint
from model.checkpoint import Checkpoint
from sweep import queue as queue_module
from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.document import Document, parse
from sweep.outcome import Right
from sweep.plan import Plan, count_states, make_plan
from sweep.queue import LONGEST_BACKOFF, PAUSE, TrialQueue
from sweep.record import EpochRecord, FailureKind, TrialFailure, TrialResult, WantedTrial
from sweep.roles import Nothing
from sweep.spec import RetryPolicy, SweepSpec
from sweep.store import TrialStore
from sweep.trial import run_trial

DOCUMENT = """
name: toy
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 5, hidden_dim: 7}
  train: {epochs: 1, batch_size: 4}
axes:
  method:
    LM: {model: lstm_lm}
    VAE: {model: {kind: lstm_vae, samples: 5}}
    VAE again: {model: {kind: lstm_vae, samples: 5}}
seeds: 2
"""


def plan_of(corpora: Path, *overrides: str) -> tuple[SweepSpec, Plan]:
    spec = SweepSpec.of(Document("toy.yaml", parse(DOCUMENT)), overrides)
    return spec, make_plan(spec, corpora)


def test_trials_that_cells_share_are_wanted_once(lines_corpus: Path) -> None:
    _, plan = plan_of(lines_corpus)
    assert len(plan.record.trials) == 6
    assert len(plan.record.wanted) == 4


def test_what_is_done_is_not_missing(lines_corpus: Path, tmp_path: Path) -> None:
    spec, plan = plan_of(lines_corpus)
    store = TrialStore(tmp_path / "results")
    assert plan.expected_seconds(store) is None
    run_trial(spec.trial_config(spec.cells()[0], 1), store, lines_corpus)
    states = store.states(plan.record.wanted)
    assert [trial.name for trial in plan.missing(states)] == ["VAE / seed 0", "VAE / seed 1", "LM / seed 0"]
    assert count_states(states) == {"done": 1, "failed": 0, "started": 0, "missing": 3}
    assert plan.expected_seconds(store)


def test_a_bigger_plan_keeps_the_keys_of_the_smaller(lines_corpus: Path) -> None:
    _, small = plan_of(lines_corpus)
    _, big = plan_of(lines_corpus, "seeds=3")
    assert set(small.record.wanted) < set(big.record.wanted)
    assert len(big.record.wanted) == 6


def test_other_text_is_another_trial(lines_corpus: Path) -> None:
    _, before = plan_of(lines_corpus)
    (lines_corpus / "tiny" / "test.txt").write_text("w1 w2\n")
    _, after = plan_of(lines_corpus)
    assert not set(before.record.wanted) & set(after.record.wanted)


def test_a_missing_corpus_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus 'tiny' needs train\.txt, .* run `sweep data import tiny DIR`"):
        plan_of(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_planning_allocates_no_parameters(lines_corpus: Path) -> None:
    before = torch.get_rng_state()
    _, plan = plan_of(lines_corpus, "model.hidden_dim=30000")
    assert min(plan.costs.values()) > 1e9
    assert torch.equal(torch.get_rng_state(), before)


@dataclass
class Clock:
    """Stands for the module `time` where the queue looks at it: nobody waits for a back-off."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()


@dataclass
class Notes:
    """An observer that keeps lists. back: trials whose worker left them, whatever was told of them then."""

    told: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)

    def started(self, trial: WantedTrial) -> None:
        self.told.append(f"started {trial.name}")

    def epoch(self, trial: WantedTrial, record: EpochRecord) -> None:
        self.told.append(f"epoch {record.epoch} of {trial.name}")

    def finished(self, trial: WantedTrial, result: TrialResult) -> None:
        assert result.key == trial.key
        self.told.append(f"finished {trial.name}")

    def failed(self, trial: WantedTrial, failure: TrialFailure) -> None:
        assert failure.key == trial.key
        self.told.append(f"failed {trial.name}: {failure.kind}")

    def returned(self, trial: WantedTrial) -> None:
        self.back.append(trial.name)

    def pruned(self, trial: WantedTrial) -> None:
        self.told.append(f"pruned {trial.name}")

    def said(self, sentence: str) -> None:
        self.told.append(sentence)


@dataclass
class Place:
    """A store with a plan's trials, a launch of ours and one of somebody else, both alive."""

    corpora: Path
    store: TrialStore
    trials: list[WantedTrial]
    ours: Launch
    theirs: Launch
    clock: Clock
    notes: Notes = field(default_factory=Notes)

    def queue(self, policy: RetryPolicy | None = None, trials: int = 4, need: int = 0) -> TrialQueue:
        needs = dict.fromkeys((trial.key for trial in self.trials), need).__getitem__
        return TrialQueue(self.trials[:trials], self.store, policy or RetryPolicy(), [self.notes], self.ours.id, needs)

    def train(self, trial: WantedTrial, launch: Launch) -> None:
        self.store.trial(trial.key).remove("checkpoint")  # that of `save` has no tensors
        config = TrialConfig.parse(trial.config)
        run_trial(config, self.store, self.corpora, right=Right(launch.id, launch.stop), key=trial.key)

    def save(self, trial: WantedTrial, launch: Launch, epoch: int, step: int = 0) -> None:
        """As a worker does that is in the middle of a trial."""
        attempt = self.store.begin(trial.key, trial.config, launch.id)
        checkpoint.write(attempt.checkpoints, Checkpoint(epoch, step, {}, {}))

    def fail(self, trial: WantedTrial, launch: Launch, kind: FailureKind) -> None:
        attempt = self.store.begin(trial.key, trial.config, launch.id)
        attempt.fail(TrialFailure(trial.key, kind, "it broke", "trace", 1, "here", 1000.0, attempt.number))


@pytest.fixture
def place(lines_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    _, plan = plan_of(lines_corpus)
    store, clock = TrialStore(tmp_path / "results"), Clock()
    monkeypatch.setattr(queue_module, "time", clock)
    with Launch(store.launches, "toy") as ours, Launch(store.launches, "other") as theirs:
        trials = plan.missing(store.states(plan.record.wanted))
        yield Place(lines_corpus, store, trials, ours, theirs, clock)


def handed_out(queue: TrialQueue) -> list[tuple[str, bool]]:
    """All that the queue has to give now: name, and whether alone."""
    found = []
    while (turn := queue.next()) is not None:
        found.append((turn[0].name, turn[1]))
    return found


def test_longest_first_and_each_once(place: Place) -> None:
    queue = place.queue()
    names = ["VAE / seed 0", "VAE / seed 1", "LM / seed 0", "LM / seed 1"]
    assert handed_out(queue) == [(name, False) for name in names]
    assert queue.next() is None
    assert not queue.is_over
    for trial in place.trials:
        place.train(trial, place.ours)
        queue.ended(trial.key)
    assert queue.next() is None
    assert queue.is_over
    assert place.notes.told == [f"finished {name}" for name in names]
    assert place.notes.back == names


def test_others_are_handed_out_beside_one_in_their_order_as_long_as_they_fit(place: Place) -> None:
    queue, asked = place.queue(), []

    def fits(trial: WantedTrial) -> bool:
        asked.append(trial.name)
        return trial.name.startswith("VAE")

    assert queue.next() == (place.trials[0], False)
    assert queue.next_beside(place.trials[0], fits) == place.trials[1]
    assert queue.next_beside(place.trials[0], fits) is None
    assert asked == ["VAE / seed 1", "LM / seed 0"]
    assert handed_out(queue) == [("LM / seed 0", False), ("LM / seed 1", False)]  # none has lost its place
    assert queue.next_beside(place.trials[0], fits) is None


def test_what_is_to_be_alone_or_was_suggested_is_handed_out_beside_none(place: Place) -> None:
    queue = place.queue(trials=2)
    first, other = (trial for trial, _ in (queue.next(), queue.next()))  # type: ignore[misc]
    place.fail(first, place.ours, "out-of-memory")
    queue.ended(first.key)
    assert queue.next_beside(other, lambda trial: True) is None
    assert queue.next() == (first, True)

    class Search(Nothing):
        left: ClassVar = [other]

        def more(self) -> list[WantedTrial]:
            return [self.left.pop()] if self.left else []

    needs = dict.fromkeys((trial.key for trial in place.trials), 0).__getitem__
    searching = TrialQueue(place.trials[2:4], place.store, RetryPolicy(), [], place.ours.id, needs, Search())
    assert searching.next() == (other, False)
    assert searching.next_beside(other, lambda trial: True) is None
    assert searching.next() == (place.trials[2], False)
    Search.left.append(first)
    # Whatever a search has to say is asked for at the next turn.
    assert searching.next_beside(place.trials[2], lambda trial: True) == place.trials[3]
    assert searching.next() == (first, False)


def test_what_another_launch_finished_is_told_and_not_handed_out(place: Place) -> None:
    queue = place.queue()
    place.train(place.trials[0], place.theirs)
    assert [name for name, _ in handed_out(queue)] == ["VAE / seed 1", "LM / seed 0", "LM / seed 1"]
    assert place.notes.told == ["finished VAE / seed 0"]
    assert place.notes.back == []


def test_what_another_launch_failed_is_told_but_an_older_failure_is_tried_again(place: Place) -> None:
    place.fail(place.trials[0], place.theirs, "error")
    queue = place.queue(trials=2)
    place.fail(place.trials[1], place.theirs, "error")
    assert handed_out(queue) == [("VAE / seed 0", False)]
    assert place.notes.told == ["failed VAE / seed 1: error"]


def test_what_another_living_launch_trains_waits_until_that_is_gone(place: Place) -> None:
    queue = place.queue(trials=2)
    with Launch(place.store.launches, "third") as third:
        place.save(place.trials[0], third, epoch=1)
        assert handed_out(queue) == [("VAE / seed 1", False)]
        for _ in range(3):
            assert queue.next() is None
            assert not queue.is_over
            place.clock.now += PAUSE
    assert handed_out(queue) == [("VAE / seed 0", False)]
    assert place.notes.told == []


def test_what_another_launch_took_first_waits_until_it_is_done(place: Place) -> None:
    """It was begun between our look at it and our worker's: that leaves without a trace."""
    queue = place.queue(trials=1)
    assert handed_out(queue) == [("VAE / seed 0", False)]
    place.save(place.trials[0], place.theirs, epoch=1)
    queue.ended(place.trials[0].key)
    assert (place.notes.back, place.notes.told) == (["VAE / seed 0"], [])
    place.clock.now += PAUSE
    assert queue.next() is None
    place.train(place.trials[0], place.theirs)
    place.clock.now += PAUSE
    assert queue.next() is None
    assert queue.is_over
    assert place.notes.told == ["finished VAE / seed 0"]


def test_a_lost_worker_is_replaced_at_once_and_after_a_back_off_without_progress(place: Place) -> None:
    queue, trial = place.queue(RetryPolicy(backoff_seconds=10.0), trials=1), place.trials[0]

    def lose() -> None:
        assert handed_out(queue) == [(trial.name, False)]
        queue.lost(trial.key, "worker-lost", "a long story\nthe node died", "node7")
        failure = place.store.failure(trial.key)
        assert (failure.kind, failure.message, failure.host) == ("worker-lost", "the node died", "node7")

    lose()
    assert place.notes.back == [trial.name]
    assert place.notes.told == [f"{trial.name}: worker-lost: the node died; tried again now"]
    for wait in (10.0, 20.0, 40.0):
        lose()
        assert place.notes.told[-1].endswith(f"; tried again in {wait:.0f} s")
        place.clock.now += wait - 0.1
        for _ in range(2):
            assert queue.next() is None
            assert not queue.is_over
        place.clock.now += 0.1
    # A checkpoint further on is progress, be it of the same epoch: the count begins anew.
    for step in (1, 2):
        place.save(trial, place.ours, epoch=0, step=step)
        lose()
        assert place.notes.told[-1].endswith("; tried again now")
    for _ in range(20):
        lose()
        place.clock.now += LONGEST_BACKOFF
    assert place.notes.told[-1].endswith(f"; tried again in {LONGEST_BACKOFF:.0f} s")
    assert not any(told.startswith("failed") for told in place.notes.told)
    place.train(trial, place.ours)
    assert queue.next() is None
    assert queue.is_over


@pytest.mark.parametrize("most", [0, 2])
def test_a_limit_to_lost_workers_is_kept(place: Place, most: int) -> None:
    queue, trial = place.queue(RetryPolicy(worker_lost=most), trials=1), place.trials[0]
    for _ in range(most + 1):
        assert handed_out(queue) == [(trial.name, False)]
        queue.lost(trial.key, "worker-lost", "", "node7")
        place.clock.now += LONGEST_BACKOFF
    assert queue.next() is None
    assert queue.is_over
    assert place.notes.told[-1] == f"failed {trial.name}: worker-lost"
    assert len(place.notes.told) == most + 1
    assert place.store.state(trial.key) == "failed"


@pytest.mark.parametrize("is_killed", [False, True])
def test_out_of_memory_is_tried_once_more_alone(place: Place, is_killed: bool) -> None:
    queue, trial = place.queue(trials=1), place.trials[0]
    for is_alone in (False, True):
        assert handed_out(queue) == [(trial.name, is_alone)]
        if is_killed:
            queue.lost(trial.key, "out-of-memory", "the host had none left", "node7")
        else:
            place.fail(trial, place.ours, "out-of-memory")
            queue.ended(trial.key)
    assert queue.next() is None
    assert queue.is_over
    assert place.notes.told[0].endswith("; tried again alone now")
    assert place.notes.told[1:] == [f"failed {trial.name}: out-of-memory"]


@pytest.mark.parametrize("kind", ["non-finite", "config", "error"])
def test_what_would_fail_again_is_not_tried_again(place: Place, kind: FailureKind) -> None:
    queue, trial = place.queue(trials=1), place.trials[0]
    assert handed_out(queue) == [(trial.name, False)]
    place.fail(trial, place.ours, kind)
    queue.ended(trial.key)
    place.clock.now += LONGEST_BACKOFF
    assert queue.next() is None
    assert queue.is_over
    assert place.notes.told == [f"failed {trial.name}: {kind}"]


def test_a_trial_of_a_lost_worker_that_another_launch_has_already_is_left_to_it(place: Place) -> None:
    queue, trial = place.queue(trials=1), place.trials[0]
    assert handed_out(queue) == [(trial.name, False)]
    place.save(trial, place.theirs, epoch=1)
    queue.lost(trial.key, "worker-lost", "the node died", "node7")
    place.clock.now += PAUSE
    assert queue.next() is None
    assert place.store.state(trial.key) == "started"
    place.train(trial, place.theirs)
    place.clock.now += PAUSE
    assert queue.next() is None
    assert queue.is_over
    assert place.notes.told[-1] == f"finished {trial.name}"


def test_a_store_that_is_away_delays_and_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = place.queue()
    first = queue.next()
    assert first is not None

    def away(files: LocalFiles, folder: str = "") -> set[str]:
        raise OSError(errno.EIO, "the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "names", away)
        assert queue.next() is None
        queue.ended(first[0].key)
        place.clock.now += PAUSE
        assert queue.next() is None
    assert "the network is down" in place.notes.told[0]
    assert queue.next() is None
    place.clock.now += PAUSE
    assert len(handed_out(queue)) == 4


def test_nothing_starts_on_a_full_disk_until_there_is_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = place.queue()
    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "free_bytes", lambda files: 2**20)
        for _ in range(3):
            assert queue.next() is None
            place.clock.now += PAUSE
    assert len(handed_out(queue)) == 4
    full, room = place.notes.told
    assert "has 1 MiB free of the 16 that a trial needs" in full
    assert room.endswith("has room again")


def test_room_is_what_the_trial_itself_will_need(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first checkpoint that does not fit would cost an epoch each time; what a trial has there already counts."""
    monkeypatch.setattr(LocalFiles, "free_bytes", lambda files: 100 * 2**20)
    queue = place.queue(need=90 * 2**20, trials=1)
    assert queue.next() is None
    [full] = place.notes.told
    assert "has 100 MiB free of the 106 that a trial needs" in full
    place.store.trial(place.trials[0].key).publish("checkpoint/large", bytes(10 * 2**20))
    place.clock.now += PAUSE
    assert len(handed_out(queue)) == 1


def test_one_trial_that_never_fits_is_said_once_and_holds_up_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalFiles, "free_bytes", lambda files: 100 * 2**20)
    queue = place.queue()
    large = place.trials[0].key
    usual = queue._needs
    queue._needs = lambda key: 2**40 if key == large else usual(key)
    assert len(handed_out(queue)) == 3
    for _ in range(3):
        place.clock.now += PAUSE
        assert queue.next() is None
    [full] = place.notes.told
    assert "has 100 MiB free of the 1048592 that a trial needs" in full


def test_a_failure_of_before_is_not_told_when_nobody_tried_again(place: Place) -> None:
    """As when the launch was asked to stop after the trial was handed out and before its worker began."""
    trial = place.trials[0]
    place.fail(trial, place.theirs, "non-finite")
    queue = place.queue(trials=1)
    assert handed_out(queue) == [(trial.name, False)]
    queue.ended(trial.key)
    assert place.notes.told == []
    place.clock.now += PAUSE
    assert handed_out(queue) == [(trial.name, False)]
    place.fail(trial, place.ours, "non-finite")
    queue.ended(trial.key)
    assert place.notes.told == [f"failed {trial.name}: non-finite"]
    assert queue.is_over


def test_a_worker_that_was_lost_after_its_last_word_has_finished(place: Place) -> None:
    queue = place.queue(trials=1)
    trial = place.trials[0]
    assert handed_out(queue) == [(trial.name, False)]
    place.train(trial, place.ours)
    queue.lost(trial.key, "worker-lost", "gone", "there")
    assert place.notes.told == [f"finished {trial.name}"]
    assert "failure.json" not in place.store.trial(trial.key).names()
