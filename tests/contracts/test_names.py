"""Nothing but a plug-in's own file, `conf/` and the tests knows the name of a plug-in."""

import ast
from pathlib import Path

import pytest

from sweep import target
from sweep.config import PLUGIN_FOLDERS, kinds
from sweep.spec import START

ROOT = Path(__file__).parents[2]
PLUGINS = {"sweep/targets", *(package.replace(".", "/") for package in PLUGIN_FOLDERS.values())}
FILES = [
    path
    for room in ("data", "model", "sweep")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.parent.relative_to(ROOT).as_posix() not in PLUGINS
]
DEFAULTS = {value for value in START.values() if isinstance(value, str)}
"""What a spec that leaves a group out has in it: the only kinds that a file may name, and one does."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_name_of_a_kind_is_written_anywhere_else(path: Path) -> None:
    names = {name for group in ("model", "update", "objective") for name in kinds(group)} - DEFAULTS
    names |= {*target.names(), *(name.replace("-", "_") for name in target.names())}
    assert {"lstm_lm", "sa_vae", "aggressive", "iwae", "ray-job", "ray_job", "slurm"} <= names
    texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    assert not names & {text for text in texts if isinstance(text, str)}
