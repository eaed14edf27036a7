"""Encoded corpora on disk: read and encoded once, then mapped into memory by every process that trains on them.

`<root>/.encoded/<key>/` holds two `.npy` files a split and `corpus.json`. The key hashes the corpus's fingerprint, so
changed text gets a new folder. A folder is published by one rename and never changed after; deleting it is safe.

A machine that has no text is given the arrays: `place` puts them below a root of their own, from which `load`
gives them.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from data.corpus import FORMAT, SPLITS, Corpus, CorpusConfig, Split, encode
from data.vocabulary import Vocabulary

LAYOUT = "encoded-1"
"""Part of every key: raised when the files change their layout."""


class _Manifest(BaseModel):
    """What is not an array, and the size in bytes of each file that is."""

    content_hash: str
    words: tuple[str, ...]
    source_nll: dict[str, float]
    sizes: dict[str, int]

    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class _Sealed(BaseModel):
    sha256: str
    manifest: _Manifest


def load(config: CorpusConfig, root: Path) -> Corpus:
    """The encoded corpus, its arrays mapped read-only from the cache, built first where that is missing or damaged.

    Of processes that start together one builds and the others wait. Where the cache cannot be written the corpus is
    encoded in memory, with a warning. Raises ValueError where the corpus is missing or breaks a rule.
    """
    if placed := _open(config.title, _placed(config, root)):
        return placed
    folder = root / ".encoded" / _key(config, root)
    if cached := _open(config.title, folder):
        return cached
    try:
        lock = _lock(folder)
    except OSError as error:
        _warn(config.title, folder, error)
        return encode(config.title, config.read(root))
    with lock:
        # Another process may have built it while this one waited.
        return _open(config.title, folder) or _build(config, root, folder)


def place(corpora: Mapping[CorpusConfig, Corpus]) -> Path:
    """A root from which `load` gives these corpora, on a machine's own disk: one for all of a user's processes there.

    The first of them writes it and the others wait. Raises OSError where that cannot be written, or is not this user's.
    """
    found = [(_placed(config, Path()).name, corpus.content_hash) for config, corpus in corpora.items()]
    # Named by what is in it, so that nothing there is ever out of date.
    root = _own_folder() / _digest(sorted(found))
    with _lock(root):
        for config, corpus in corpora.items():
            folder = _placed(config, root)
            if _open(config.title, folder) is None:
                _publish(corpus, folder)
    return root


def _own_folder() -> Path:
    """For this user's files of this project alone: what is loaded from there is trusted."""
    folder = Path(tempfile.gettempdir(), f"text-vae-sweep-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise PermissionError(
            f"{folder} is for corpora that this user's trials read, and others can get there; remove it, or set TMPDIR "
            f"to another folder"
        )
    return folder


def _placed(config: CorpusConfig, root: Path) -> Path:
    return root / ".placed" / _digest([LAYOUT, FORMAT, type(config).__module__, config.model_dump(mode="json")])


def _key(config: CorpusConfig, root: Path) -> str:
    return _digest([LAYOUT, FORMAT, type(config).__module__, config.fingerprint(root)])


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _open(title: str, folder: Path) -> Corpus | None:
    """The corpus in a cache folder, or None where it is missing, half written or damaged."""
    try:
        sealed = _Sealed.model_validate_json((folder / "corpus.json").read_bytes())
        manifest = sealed.manifest
        if manifest.sha256() != sealed.sha256:
            return None
        if any((folder / name).stat().st_size != size for name, size in manifest.sizes.items()):
            return None
        splits = {name: _map_split(folder, name) for name in SPLITS}
    except (OSError, ValueError):
        return None
    if any(split.num_tokens != len(split.tokens) for split in splits.values()):
        return None
    return Corpus(title, Vocabulary(manifest.words), splits, manifest.content_hash, manifest.source_nll)


def _arrays(folder: Path, split: str) -> tuple[Path, Path]:
    return folder / f"{split}.tokens.npy", folder / f"{split}.offsets.npy"


def _map_split(folder: Path, name: str) -> Split:
    tokens, offsets = _arrays(folder, name)
    return Split(_map(tokens), _map(offsets))


def _map(path: Path) -> npt.NDArray[Any]:
    # A plain view of the map: indexing np.memmap itself runs its slow Python hooks on every batch.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _lock(folder: Path) -> TextIO:
    """The right to build one cache folder, held until it is closed; the system takes it from a process that dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = folder.with_suffix(".lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        lock.close()
        raise
    return lock


def _build(config: CorpusConfig, root: Path, folder: Path) -> Corpus:
    """Encode and publish; for the holder of the lock."""
    corpus = encode(config.title, config.read(root))
    try:
        _publish(corpus, folder)
    except OSError as error:
        _warn(config.title, folder, error)
        return corpus
    return _open(config.title, folder) or corpus


def _publish(corpus: Corpus, folder: Path) -> None:
    """For the holder of the lock."""
    building = folder.with_suffix(".building")
    try:
        for leftover in (building, folder):  # of a killed process, or damaged
            if leftover.exists():
                shutil.rmtree(leftover)
        _write(corpus, building)
        building.rename(folder)
    except OSError:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _write(corpus: Corpus, folder: Path) -> None:
    folder.mkdir(parents=True)
    sizes = {}
    for name in SPLITS:
        split = corpus.splits[name]
        tokens, offsets = _arrays(folder, name)
        sizes[tokens.name] = _save(tokens, split.tokens)
        sizes[offsets.name] = _save(offsets, split.offsets)
    manifest = _Manifest(
        content_hash=corpus.content_hash,
        words=corpus.vocabulary.words,
        source_nll=dict(corpus.source_nll),
        sizes=sizes,
    )
    sealed = _Sealed(sha256=manifest.sha256(), manifest=manifest)
    (folder / "corpus.json").write_text(sealed.model_dump_json(), encoding="utf-8")


def _save(path: Path, array: npt.NDArray[Any]) -> int:
    """Bytes of the file that was written."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())  # or a power cut may leave a file of the right size full of zeros
        return file.tell()


def _warn(title: str, folder: Path, error: OSError) -> None:
    warnings.warn(
        f"cannot write the cache {folder} ({error.strerror}), so each process encodes corpus '{title}' for itself; "
        "make the corpora root writable",
        stacklevel=3,
    )
