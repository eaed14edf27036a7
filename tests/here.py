"""A command of `sweep` in the tests' own process, which saves seconds of imports: for those that start no Ray."""

import contextlib
import io
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest

from sweep.cli import main


def sweep_here(
    *arguments: str, folder: Path, environment: Mapping[str, str], code: int = 0
) -> subprocess.CompletedProcess[str]:
    """As if it were run in `folder`; fails when it ends with another exit code."""
    out, errors = io.StringIO(), io.StringIO()
    capture = contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), capture[0], capture[1]:
        # As in a process of its own, and not pytest's, which make errors of them all. What a dependency says of its own
        # internals is said once a process, so that it would stand in the output of whichever test came first.
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        for name, value in environment.items():
            patch.setenv(name, value)
        # What starts Ray needs a process of its own: Ray keeps to the settings with which a process first imports it,
        # which another test may have done.
        patch.setitem(sys.modules, "sweep.cluster", None)  # type: ignore[arg-type]
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sweep", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    # A command that has come to its end leaves with no code.
    done = subprocess.CompletedProcess(arguments, int(ended.value.code or 0), out.getvalue(), errors.getvalue())
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
