"""The encoded cache: equal to encoding anew, mapped, built once, rebuilt when damaged, and not needed."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data import cache
from data.corpora import lines
from data.corpus import SPLITS, Corpus, Text, encode

CONFIG = lines.Config(name="mine")
TEXT = {"train": "a b a\nc <unk>\n", "valid": "b é\n", "test": "a c\n"}

# Stands for any worker: waits for the starting gun, loads, and each time it reads the text leaves a mark.
WORKER = """
import sys, time
from pathlib import Path
from data import cache
from data.corpora import lines

class Config(lines.Config):
    def read(self, root):
        with (root / "builds").open("a") as log:
            log.write("built\\n")
        time.sleep(0.5)
        return super().read(root)

root, number = Path(sys.argv[1]), sys.argv[2]
(root / f"ready{number}").touch()
while not (root / "go").exists():
    time.sleep(0.005)
print(cache.load(Config(name="mine"), root).content_hash)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for split, content in TEXT.items():
        (folder / f"{split}.txt").write_text(content, encoding="utf-8")
    return tmp_path


def fresh(root: Path) -> Corpus:
    return encode(CONFIG.title, CONFIG.read(root))


def assert_same(got: Corpus, wanted: Corpus) -> None:
    assert got.facts() == wanted.facts()
    assert got.vocabulary == wanted.vocabulary
    for name in SPLITS:
        for part in ("tokens", "offsets"):
            ours, theirs = getattr(got.splits[name], part), getattr(wanted.splits[name], part)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def entries(root: Path) -> list[Path]:
    return [path for path in (root / ".encoded").iterdir() if path.is_dir()]


def test_first_and_later_loads_equal_encoding(root: Path) -> None:
    assert_same(cache.load(CONFIG, root), fresh(root))
    (entry,) = entries(root)
    built = entry.stat()
    assert_same(cache.load(CONFIG, root), fresh(root))
    assert (entry.stat().st_ino, entry.stat().st_mtime_ns) == (built.st_ino, built.st_mtime_ns)


def test_arrays_are_maps_that_cannot_be_written(root: Path) -> None:
    for corpus in (cache.load(CONFIG, root), cache.load(CONFIG, root)):
        for split in corpus.splits.values():
            for array in (split.tokens, split.offsets):
                assert isinstance(array.base, np.memmap)
                assert not array.flags.writeable


def test_changed_text_is_another_entry(root: Path) -> None:
    before = cache.load(CONFIG, root).content_hash
    (root / "mine/valid.txt").write_text("b b\n")
    assert cache.load(CONFIG, root).content_hash != before
    assert len(entries(root)) == 2


def test_processes_that_start_together_build_once(root: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(root)]
    workers = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(4)]
    deadline = time.monotonic() + 60
    while len(list(root.glob("ready*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    (root / "go").touch()
    hashes = [worker.communicate(timeout=60)[0].strip() for worker in workers]
    assert hashes == [fresh(root).content_hash] * 4
    assert (root / "builds").read_text() == "built\n"
    assert len(entries(root)) == 1


def _truncate(entry: Path) -> None:
    path = entry / "train.tokens.npy"
    path.write_bytes(path.read_bytes()[:-4])


def _change_manifest(entry: Path) -> None:
    path = entry / "corpus.json"
    path.write_text(path.read_text().replace('"a"', '"x"'))


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _change_manifest,
        lambda entry: (entry / "corpus.json").unlink(),
        lambda entry: (entry / "corpus.json").write_text("{"),
        lambda entry: (entry / "corpus.json").write_bytes(b"\xff\x00"),
        lambda entry: (entry / "test.offsets.npy").unlink(),
        lambda entry: (entry / "test.offsets.npy").write_bytes(bytes((entry / "test.offsets.npy").stat().st_size)),
    ],
)
def test_damaged_entry_is_rebuilt(root: Path, damage: Callable[[Path], object]) -> None:
    cache.load(CONFIG, root)
    (entry,) = entries(root)
    damage(entry)
    assert_same(cache.load(CONFIG, root), fresh(root))
    rebuilt = entry.stat().st_mtime_ns
    assert_same(cache.load(CONFIG, root), fresh(root))
    assert entry.stat().st_mtime_ns == rebuilt


def test_leftover_of_a_killed_builder_is_cleared(root: Path) -> None:
    cache.load(CONFIG, root)
    (entry,) = entries(root)
    entry.rename(entry.with_suffix(".building"))
    (entry.with_suffix(".building") / "corpus.json").unlink()
    assert_same(cache.load(CONFIG, root), fresh(root))
    assert entries(root) == [entry]


def test_root_that_cannot_be_written_works_without_cache(root: Path) -> None:
    (root / ".encoded").write_text("a file where a folder should be: mkdir fails, as on a read-only disk")
    with pytest.warns(UserWarning, match=r"cannot write the cache .* encodes corpus 'mine' for itself; make"):
        assert_same(cache.load(CONFIG, root), fresh(root))


def test_disk_that_fills_up_leaves_nothing_half_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.warns(UserWarning, match="No space left on device"):
            assert_same(cache.load(CONFIG, root), fresh(root))
    assert entries(root) == []
    assert_same(cache.load(CONFIG, root), fresh(root))
    assert len(entries(root)) == 1


def test_generated_corpus_needs_no_root(root: Path) -> None:
    class Generated(lines.Config):
        def fingerprint(self, _: Path) -> str:
            return "rule 1"

        def read(self, _: Path) -> Text:
            text = CONFIG.read(root)
            return Text(text.splits, text.vocabulary, {"test": 1 / 3})

    elsewhere = root / "not" / "there"
    first, second = (cache.load(Generated(name="made"), elsewhere) for _ in range(2))
    assert first.title == "made"
    assert first.source_nll == second.source_nll == {"test": 1 / 3}
    assert_same(second, first)


def test_missing_corpus_is_the_corpus_error_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs train\.txt"):
        cache.load(CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files of a machine that has no text."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_corpus_is_placed_where_its_text_is_not(root: Path, elsewhere: Path) -> None:
    there = cache.place({CONFIG: fresh(root)})
    assert elsewhere in there.parents
    wanted = fresh(root)
    shutil.rmtree(root / "mine")
    assert_same(got := cache.load(CONFIG, there), wanted)
    assert isinstance(got.splits["train"].tokens.base, np.memmap)
    with pytest.raises(ValueError, match="other"):
        cache.load(lines.Config(name="other"), there)


def test_a_corpus_is_placed_once_and_again_when_it_is_damaged(root: Path, elsewhere: Path) -> None:
    corpora = {CONFIG: fresh(root)}
    [manifest] = cache.place(corpora).rglob("corpus.json")
    before = manifest.stat()
    assert manifest in cache.place(corpora).rglob("corpus.json")
    assert manifest.stat().st_ino == before.st_ino
    _truncate(manifest.parent)
    assert_same(cache.load(CONFIG, cache.place(corpora)), fresh(root))


def test_changed_text_is_placed_beside(root: Path, elsewhere: Path) -> None:
    before = cache.place({CONFIG: fresh(root)})
    (root / "mine/valid.txt").write_text("b b\n")
    after = cache.place({CONFIG: fresh(root)})
    assert cache.load(CONFIG, before).content_hash != cache.load(CONFIG, after).content_hash


@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_corpora_are_not_placed_where_others_look_or_write(root: Path, elsewhere: Path, mode: int) -> None:
    folder = elsewhere / f"text-vae-sweep-{os.getuid()}"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PermissionError, match="others can get there"):
        cache.place({CONFIG: fresh(root)})
