"""What a cluster says when it is asked for nothing with no token. Real ones are in `tests/faults/test_nodes.py`."""

import re
import sys
from pathlib import Path

import pytest

from sweep.ray_token import refuse_open


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("exit 0", "takes commands from everybody who can reach it; to turn its token on, start every node of it with"),
        ("echo rpc error >&2; echo no quorum >&2; exit 1", "does not say whether it asks for a token (no quorum); try"),
        ("exit 1", "does not say whether it asks for a token (no answer); try again"),
    ],
)
def test_a_cluster_that_does_not_refuse_is_refused(
    answer: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_ray(answer, tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=re.escape(f"the Ray cluster at 192.0.2.1:6379 {sentence}")):
        refuse_open("192.0.2.1:6379")
    refuse_open("127.0.0.1:6379")


def test_one_that_refuses_for_want_of_a_token_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = '[ "$RAY_AUTH_MODE" = disabled ] && [ -z "$RAY_AUTH_TOKEN" ]'
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    stand_in_for_ray(f"{without} && echo ray.exceptions.AuthenticationError: >&2; exit 1", tmp_path, monkeypatch)
    refuse_open("192.0.2.1:6379")


def stand_in_for_ray(answer: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
