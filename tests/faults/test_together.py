"""Trials that share processes on Ray, of which one is killed: they end as if each had been alone and undisturbed."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.chaos import Sweep, Undisturbed, ended, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_process_of_several_is_killed(tmp_path: Path, chaos_corpora: Path, undisturbed: Undisturbed) -> None:
    """All eight run at once. All of its four that have not ended are lost, and each goes on from its checkpoint."""
    sweep = Sweep(tmp_path / "chaos", chaos_corpora)
    with ended(sweep.start("resources.together=4")) as process:
        wait_for(lambda: sweep.progress() > 4 and len(sweep.workers()) == 2)
        assert len(sweep.store.files.names("trials")) == 8
        os.kill(sweep.workers()[0], signal.SIGKILL)
        sweep.finish(process)
    assert 2 <= sweep.said().count("worker-lost") <= 4
    undisturbed.check(sweep)
