"""Where a store keeps its files: `Files`, the few things that a folder and an object store can both do, and a folder.

A name is relative, its parts joined by `/`. What is there was published whole: nobody ever reads half a file.
"""

import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PARTIAL = ".partial"
"""Suffix of a file that is being written. A writer that was killed leaves it; nobody reads it."""


def inside(name: str) -> str:
    """The name, which is relative, or '' for the root itself. Raises ValueError when it would lead out of there.

    Names come from records, which anybody who can write to the place can have written.
    """
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise ValueError(f"{name!r} would lead out of the place that it is in; a name there is relative, without '..'")
    return name


class Files(Protocol):
    """Blobs by name below one root. Every method raises OSError when the place cannot be reached or written.

    And ValueError for a name that would lead out of it.
    """

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError when there is no such file."""

    def publish(self, name: str, content: bytes) -> None:
        """Put a file in its place, whole or not at all; one that is there is replaced."""

    def create(self, name: str, content: bytes) -> bool:
        """The same where there is none; of several that try at once, one is told True and the others False."""

    def names(self, folder: str = "") -> set[str]:
        """Names of what is directly in a folder, files and folders; none where there is no folder."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of every file below a folder, however deep, by its name from that folder."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing happens where there is neither."""

    def free_bytes(self) -> int | None:
        """Room that is left; None where there is no telling."""

    def check_writable(self) -> None:
        """Raises OSError when nothing can be written here; leaves nothing behind."""

    def below(self, folder: str) -> "Files":
        """The same files as seen from one of their folders."""


@dataclass(frozen=True)
class LocalFiles:
    """Files of one folder of this machine, or of one that is mounted here."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def publish(self, name: str, content: bytes) -> None:
        partial = self._write_beside(name, content)
        try:
            os.replace(partial, self._path(name))
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self._make_lasting(name)

    def create(self, name: str, content: bytes) -> bool:
        partial = self._write_beside(name, content)
        try:
            # Unlike a file opened with O_EXCL, a link appears with its content.
            os.link(partial, self._path(name))
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        self._make_lasting(name)
        return True

    def names(self, folder: str = "") -> set[str]:
        try:
            return {name for name in os.listdir(self._path(folder)) if not name.endswith(PARTIAL)}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def sizes(self, folder: str = "") -> dict[str, int]:
        top = self._path(folder)
        found = {}
        for path, _, names in os.walk(top):
            for name in names:
                file = Path(path, name)
                try:
                    found[file.relative_to(top).as_posix()] = file.stat().st_size
                except FileNotFoundError:
                    continue  # gone since it was listed
        return found

    def remove(self, name: str) -> None:
        path = self._path(name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self._existing()).free

    def check_writable(self) -> None:
        with tempfile.TemporaryFile(dir=self._existing()):
            pass

    def below(self, folder: str) -> "LocalFiles":
        return LocalFiles(self._path(folder))

    def _path(self, name: str) -> Path:
        return self.root / inside(name)

    def _existing(self) -> Path:
        """The nearest folder that is there."""
        return next(each for each in (self.root, *self.root.parents) if each.exists())

    def _write_beside(self, name: str, content: bytes) -> Path:
        path = self._path(name)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return partial

    def _make_lasting(self, name: str) -> None:
        """Have the folder's new entry outlive a power cut, as its content does."""
        descriptor = os.open(self._path(name).parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
