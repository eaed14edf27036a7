"""A disk that fills up: no trial is started, none is lost, and the sweep goes on by itself when there is room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.claims import Launch
from sweep.config import TrialConfig
from sweep.outcome import NoRoomError, Right
from sweep.store import TrialStore
from sweep.trial import run_trial
from tests.faults.chaos import SMALL, Sweep, Undisturbed, ended, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk: run as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(2**16))
                file.flush()
        except OSError:
            return filler


def test_a_disk_that_is_full_and_then_read_only_pauses_the_sweep_twice(
    small_disk: Path, tmp_path: Path, chaos_corpora: Path, undisturbed: Undisturbed
) -> None:
    sweep = Sweep(tmp_path / "chaos", chaos_corpora, location=str(small_disk / "results"))
    with ended(sweep.start()) as process:
        wait_for(lambda: sweep.progress() > 2)
        filler = fill(small_disk)
        before = sweep.progress()
        wait_for(lambda: "none is started until there is room" in sweep.said() or process.poll() is not None)
        assert process.poll() is None, sweep.said()
        assert sweep.progress() >= before
        filler.unlink()
        wait_for(lambda: "has room again" in sweep.said() or process.poll() is not None)
        before = sweep.progress()
        wait_for(lambda: sweep.progress() > before or process.poll() is not None)
        wait_for(lambda: remount(small_disk, "ro"))  # not while somebody writes
        wait_for(lambda: "no trial is started until it can" in sweep.said() or process.poll() is not None)
        assert process.poll() is None, sweep.said()
        assert remount(small_disk, "rw")
        sweep.finish(process)
    assert sweep.said().count("has room again") == 2
    undisturbed.check(sweep)


def remount(folder: Path, how: str) -> bool:
    command = ["mount", "-o", f"remount,{how}", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_trial_without_room_keeps_its_last_checkpoint(small_disk: Path, lines_corpus: Path) -> None:
    config = TrialConfig.parse({**SMALL, "train": {"epochs": 4, "batch_size": 4}, "seed": 0})
    store, fillers = TrialStore(small_disk / "results"), []
    with Launch(store.launches, "") as launch, pytest.raises(NoRoomError):
        run_trial(
            config,
            store,
            lines_corpus,
            right=Right(launch.id, launch.stop),
            on_epoch=lambda record: fillers.append(fill(small_disk)) if record.epoch == 2 else None,
        )
    [key] = store.files.names("trials")
    assert store.state(key) == "started"
    assert store.progress(key)["epoch"] == 2
    fillers[0].unlink()
    assert len(run_trial(config, store, lines_corpus).history) == 4
