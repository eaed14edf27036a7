"""Fixtures of the tests of one cell's search."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.search import Storage
from tests.sweep.hunting import KINDS, Found, Worlds, in_optuna, one_by_one


@pytest.fixture(scope="module")
def memory() -> Storage:
    """SQLite without a disk, for those who kill nobody."""
    return Storage("sqlite:///:memory:")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database in which only the tables are, which take the longest to make."""
    file = tmp_path_factory.mktemp("optuna") / "optuna.db"
    Storage(f"sqlite:///{file}").optuna.engine.dispose()
    return file


@pytest.fixture
def worlds(tmp_path: Path, memory: Storage, empty: Path) -> Worlds:
    return Worlds(tmp_path, memory, empty)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, memory: Storage, empty: Path) -> Callable[[str], Found]:
    """What the searches of `KINDS` come to when each suggestion is trained by itself and nothing happens."""
    worlds = Worlds(tmp_path_factory.mktemp("undisturbed"), memory, empty)
    found: dict[str, Found] = {}

    def of(kind: str) -> Found:
        if kind not in found:
            world = worlds(KINDS[kind])
            driver = world.finish(one_by_one)
            found[kind] = world.points, in_optuna(driver)
        return found[kind]

    return of
