"""Getting a corpus's files into their folder: downloaded from their publishers, or imported from where a user has them.

Either way the folder appears under the corpora root by one rename, last, with files that were checked before.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

from data.corpus import SPLITS, CorpusConfig, encode
from data.text import WORD_LIST, FileCorpusConfig, PublishedFile, missing_split, read_files, sha256

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Imported:
    """Where an imported corpus lies now, its `Corpus.facts()`, and a sentence on each file unlike the published one."""

    folder: Path
    facts: Mapping[str, object]
    remarks: tuple[str, ...]


def fetch(config: CorpusConfig, root: Path, *, force: bool = False, timeout: float = 30) -> Path:
    """Download a corpus into its folder under `root`, which is returned.

    force: replace what is there. timeout: seconds that the other side may be silent.
    Raises ValueError, and leaves nothing behind, where that cannot be done.
    """
    corpus = _of_files(config)
    addresses = {file.name: file.url for file in corpus.published if file.url is not None}
    if not all(f"{split}.txt" in addresses for split in SPLITS):
        raise ValueError(f"corpus '{corpus.folder}' cannot be downloaded by a program; {corpus.how_to_get}")
    with _published_last(root / corpus.folder, force) as folder:
        for file in corpus.published:
            _download(corpus, file, folder / file.name, timeout)
    return root / corpus.folder


def import_corpus(config: CorpusConfig, source: Path, root: Path, *, force: bool = False) -> Imported:
    """Copy a user's files into the corpus's folder under `root`, once they pass every rule of the corpus.

    source: a folder with `train.txt`, `valid.txt`, `test.txt` and perhaps `vocab.txt`, or with one file that ends so
    for each, such as `ptb.train.txt`. force: replace what is there.
    Raises ValueError, and leaves nothing behind, where a file is missing or breaks a rule.
    """
    corpus = _of_files(config)
    files = _files_of_user(corpus, source)
    encoded = encode(corpus.title, read_files(corpus, files))
    with _published_last(root / corpus.folder, force) as folder:
        for stem, path in files.items():
            shutil.copyfile(path, folder / f"{stem}.txt")
        remarks = _differences(corpus, folder)
    return Imported(root / corpus.folder, encoded.facts(), remarks)


def _of_files(config: CorpusConfig) -> FileCorpusConfig:
    if not isinstance(config, FileCorpusConfig):
        raise ValueError(
            f"corpus '{config.title}' is generated, so there is nothing to fetch or import; use it as it is"
        )
    return config


@contextmanager
def _published_last(target: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `target` to fill, renamed to it when the body succeeds and removed when it fails."""
    if os.path.lexists(target) and not force:
        raise _already_there(target)
    staging = target.with_name(f".{target.name}.{uuid4().hex}")
    is_first = not target.parent.exists()
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"cannot write to {target.parent} ({error.strerror}); choose another corpora root") from error
    try:
        yield staging
        if os.path.lexists(target) and force:
            _replace(target, staging)
        else:
            staging.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
            raise _already_there(target) from error
        raise ValueError(
            f"cannot put corpus '{target.name}' into {target.parent} ({error}); "
            "make room there or choose another corpora root"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_first and not target.exists():
            with suppress(OSError):  # another process may be using it by now
                target.parent.rmdir()


def _already_there(target: Path) -> ValueError:
    return ValueError(f"corpus '{target.name}' is already at {target}; pass --force to replace it")


def _replace(target: Path, staging: Path) -> None:
    old = staging.with_name(f"{staging.name}.old")
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old)


def _download(corpus: FileCorpusConfig, file: PublishedFile, path: Path, timeout: float) -> None:
    """Write one file, or raise ValueError where it cannot be had or is not the file that its publisher gives out."""
    assert file.url is not None
    digest = hashlib.sha256()
    by_hand = f"try again later, or get the files elsewhere and run `sweep data import {corpus.folder} DIR`"
    try:
        with urlopen(file.url, timeout=timeout) as response, path.open("wb") as out:
            while chunk := response.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
    except HTTPError as error:
        error.close()
        raise ValueError(f"{file.url} answers {error.code} {error.reason}; {by_hand}") from None
    except (OSError, HTTPException) as error:
        raise ValueError(f"cannot download {file.url} ({error}); {by_hand}") from error
    if digest.hexdigest() != file.sha256:
        raise ValueError(
            f"{file.url} should have the sha256 {file.sha256} but has {digest.hexdigest()}, so it is not the file "
            f"that results are compared on; {by_hand}"
        )


def _files_of_user(corpus: FileCorpusConfig, source: Path) -> dict[str, Path]:
    if not source.is_dir():
        raise ValueError(f"{source} is not a folder; {corpus.how_to_get}")
    files = {stem: path for stem in (*SPLITS, WORD_LIST) if (path := _file_of_user(source, stem)) is not None}
    for split in SPLITS:
        if split not in files:
            raise missing_split(corpus, split, source)
    return files


def _file_of_user(source: Path, stem: str) -> Path | None:
    """`train.txt`, or else the only file whose name ends so."""
    exact = source / f"{stem}.txt"
    if exact.is_file():
        return exact
    found = sorted(path for path in source.glob(f"*{stem}.txt") if path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(
            f"{source} must have one file for {stem}.txt, but has {names}; rename the right one {stem}.txt"
        )
    return found[0] if found else None


def _differences(corpus: FileCorpusConfig, folder: Path) -> tuple[str, ...]:
    """One sentence for each file whose published content is known and is not this one's."""
    remarks = []
    for file in corpus.published:
        path = folder / file.name
        if not path.exists():
            remarks.append(f"{file.name} is published with corpus '{corpus.folder}' and was not imported")
        elif (got := sha256(path)) != file.sha256:
            remarks.append(
                f"{file.name} is not the published file of corpus '{corpus.folder}' (sha256 {got}, published "
                f"{file.sha256}), so results are not comparable with published ones"
            )
    return tuple(remarks)
