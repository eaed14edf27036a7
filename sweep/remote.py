"""Files of an object store, through fsspec: S3 and what speaks its language, Google's, and this process's memory.

Credentials and endpoint come from the environment only (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …). There are no
folders: a folder is there as long as something is in it.
"""

import errno
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from fsspec.core import url_to_fs

from data.files import PARTIAL, inside

CONNECT_WITHIN, ANSWER_WITHIN = 5.0, 10.0
"""Seconds that a server of S3 has to take a connection, and to send its next byte."""
TRIES = 2
"""Of a request that a server of S3 does not answer; also of all of a file whose bytes stop coming."""
SLOWEST = 100_000.0
"""Bytes per second that a file is sent with, or it is given up."""

S3, BUCKETS, WHOLE = {"s3", "s3a"}, {"s3", "s3a", "gs", "gcs"}, {"s3", "s3a", "gs", "gcs", "memory"}
"""Schemes of S3; of stores with buckets; and of those known to put a file whole, and only where there is none."""

TOLD_APART: dict[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    TimeoutError: errno.ETIMEDOUT,
}
"""Kinds of errors that stay what they are, and their numbers; every other is an input/output error."""

DELETED_AT_ONCE = 1000
"""As many as S3 takes in one request."""

_memory = Lock()
"""Held while a file is created in memory, which looks first and puts then."""


@dataclass(frozen=True)
class RemoteFiles:
    """Files below a prefix of what fsspec calls a file system. root: the prefix in its terms. uri: in the user's.

    Errors of the place are OSErrors that name the URI. FileNotFoundError always means the file: a bucket that is not
    there is a plain OSError, lest a mistyped one look like an empty store.
    """

    system: Any = field(compare=False)
    root: str
    uri: str

    @staticmethod
    def at(uri: str) -> "RemoteFiles":
        """Connects to nothing yet.

        Raises ValueError when the URI has credentials in it or names no bucket, when its scheme is unknown, or when
        the package of its scheme is not installed.
        """
        scheme, _, rest = uri.partition("://")
        rest = rest.rstrip("/")
        # A secret may have a slash in it.
        if re.match(r"[^/]*@|[^/]*:.*@", rest):
            raise ValueError(
                f"a location has no credentials in it, but this one of {scheme}:// has an @; "
                "give them in the environment, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if scheme in BUCKETS and not rest.partition("/")[0]:
            raise ValueError(f"a location names a bucket, which {uri!r} does not: write {scheme}://bucket/folder")
        try:
            system, root = url_to_fs(f"{scheme}://{rest}", skip_instance_cache=True, **_options(scheme))
        except ImportError as error:
            missing = (getattr(error.__cause__, "name", None) or "what it asks for").partition(".")[0]
            raise ValueError(
                f"{uri}: {scheme}:// needs a package that is not installed: pip install {missing}"
            ) from error
        except ValueError as error:
            raise ValueError(f"{uri}: {scheme}:// is not known ({error}): use a folder, s3:// or gs://") from error
        if scheme not in S3:
            return RemoteFiles(system, root.rstrip("/"), f"{scheme}://{rest}")
        # It multiplies with the tries of botocore, which knows more of what is worth another.
        system.retries = TRIES
        return _S3Files(system, root.rstrip("/"), f"{scheme}://{rest}")

    def __str__(self) -> str:
        return self.uri

    def read(self, name: str) -> bytes:
        with self._reaching(name):
            content: bytes = self.system.cat_file(self._path(name))
        return content

    def publish(self, name: str, content: bytes) -> None:
        self._refuse_half_files()
        with self._reaching(name):
            self._put(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Whoever is told True was first. Nobody is where the answer was lost on its way and the request was repeated.

        Some servers tell everybody True: see `check_writable`.
        """
        self._refuse_half_files()
        with self._reaching(name), _memory if self.uri.startswith("memory://") else nullcontext():
            for left in reversed(range(TRIES)):
                try:
                    self._put(self._path(name), content, mode="create")
                    return True
                except OSError as error:
                    if isinstance(error, FileExistsError) or _code(error) in ("PreconditionFailed", "412"):
                        return False
                    # Somebody else was at it in this moment: S3 asks to try again.
                    if _code(error) != "ConditionalRequestConflict" or not left:
                        raise
        raise AssertionError("the last try returns or raises")

    def names(self, folder: str = "") -> set[str]:
        return {name for name in self._listed(folder, deep=False) if not name.endswith(PARTIAL)}

    def sizes(self, folder: str = "") -> dict[str, int]:
        return dict(self._listed(folder, deep=True))

    def remove(self, name: str) -> None:
        path = self._path(name)
        # Not `rm`, which takes a bracket or an asterisk in a name for a pattern.
        for each in [f"{path}/{each}" for each in self._listed(name, deep=True)] or [path]:
            with self._reaching(name), suppress(FileNotFoundError):
                self.system.rm_file(each)

    def free_bytes(self) -> int | None:
        return None

    def check_writable(self) -> None:
        """Raises OSError also where the server replaces a file that was to be put only where there is none."""
        name = f"{uuid.uuid4().hex}{PARTIAL}"
        try:
            created = [self.create(name, b"") for _ in range(2)]
        finally:
            with suppress(OSError):  # what went wrong before it says more
                self.remove(name)
        if created != [True, False]:
            raise OSError(
                errno.ENOTSUP,
                "its server does not know how to put a file only where there is none (If-None-Match), so that two "
                "launches could train one trial",
                self.uri,
            )

    def below(self, folder: str) -> "RemoteFiles":
        return replace(self, root=self._path(folder), uri=f"{self.uri}/{folder}")

    def _path(self, name: str) -> str:
        return f"{self.root}/{inside(name)}" if name else self.root

    def _listed(self, folder: str, deep: bool) -> Mapping[str, int]:
        """Bytes by name of what is below a folder: all files, or what is directly in it."""
        path = self._path(folder)
        with self._reaching(folder):
            self.system.invalidate_cache()
            try:
                found = self.system.find(path, detail=True).values() if deep else self.system.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        # Asked for what is in a file, a file system answers with that file.
        names = {each["name"].removeprefix(f"{path}/"): each["size"] or 0 for each in found if each["name"] != path}
        return {name: size for name, size in names.items() if name}

    def _put(self, path: str, content: bytes, **how: Any) -> None:
        self.system.pipe_file(path, content, **how)

    def _refuse_half_files(self) -> None:
        scheme = self.uri.partition("://")[0]
        if scheme not in WHOLE:
            raise OSError(
                errno.ENOTSUP,
                f"{scheme}:// is not known to put a file whole, and only where there is none, so that it can only be "
                "read; use a folder, s3:// or gs://",
                self.uri,
            )

    @contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Have what goes wrong at the place be an OSError that says where."""
        try:
            yield
        except Exception as error:
            # The packages have kinds of errors of their own; a plain TypeError or the like is a mistake in a program.
            if type(error).__module__ == "builtins" and not isinstance(error, OSError):
                raise
            kind = next((kind for kind in TOLD_APART if isinstance(error, kind)), OSError)
            if _code(error) == "NoSuchBucket":
                kind = OSError
            what = " ".join(str(error).split()) or "it takes too long"
            where = f"{self.uri}/{name}" if name else self.uri
            raise kind(TOLD_APART.get(kind, errno.EIO), what, where) from error


@dataclass(frozen=True)
class _S3Files(RemoteFiles):
    """With no request more than it takes: s3fs looks twice at a folder that is empty, and for what it removes."""

    def remove(self, name: str) -> None:
        bucket, key, _ = self.system.split_path(self._path(name))
        keys = [f"{key}/{each}".lstrip("/") for each in self._listed(name, deep=True)]
        with self._reaching(name):
            if not keys and key:
                self.system.call_s3("delete_object", Bucket=bucket, Key=key)
            for start in range(0, len(keys), DELETED_AT_ONCE):
                some = [{"Key": each} for each in keys[start : start + DELETED_AT_ONCE]]
                answer = self.system.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": some, "Quiet": True})
                for error in answer.get("Errors", ()):
                    kind = PermissionError if error["Code"] == "AccessDenied" else OSError
                    raise kind(f"{error['Key']} is still there: {error.get('Message') or error['Code']}")

    def _put(self, path: str, content: bytes, **how: Any) -> None:
        # No timeout of botocore's holds while aiohttp waits to be told to go on sending (Expect: 100-continue), or for
        # room to do it.
        within = TRIES * (CONNECT_WITHIN + ANSWER_WITHIN) + len(content) / SLOWEST
        super()._put(path, content, timeout=within, **how)

    def _listed(self, folder: str, deep: bool) -> Mapping[str, int]:
        bucket, key, _ = self.system.split_path(self._path(folder))
        prefix = f"{key}/" if key else ""
        request = {"Bucket": bucket, "Prefix": prefix} | ({} if deep else {"Delimiter": "/"})
        found: dict[str, int] = {}
        with self._reaching(folder):
            while True:
                page = self.system.call_s3("list_objects_v2", **request)
                found |= {each["Key"]: each["Size"] for each in page.get("Contents", ())}
                found |= {each["Prefix"].rstrip("/"): 0 for each in page.get("CommonPrefixes", ())}
                if not page.get("IsTruncated"):
                    break
                request["ContinuationToken"] = page["NextContinuationToken"]
        # What ends in a slash is what other programs put in place of an empty folder.
        return {name.removeprefix(prefix): size for name, size in found.items() if not name.endswith("/")}


def _options(scheme: str) -> Mapping[str, Any]:
    if scheme not in S3:
        return {}
    retries = {"mode": "standard", "total_max_attempts": TRIES}
    # With more than one connection for a file, s3fs asks for its size before it reads it.
    return {
        "max_concurrency": 1,
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": CONNECT_WITHIN, "read_timeout": ANSWER_WITHIN, "retries": retries},
    }


def _code(error: BaseException) -> str | None:
    """What a server of S3 calls an error, which s3fs keeps as the cause of its own."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if not isinstance(response, Mapping):
        return None
    code: str | None = response.get("Error", {}).get("Code")
    return code
