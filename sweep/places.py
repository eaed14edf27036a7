"""From where the user says the results are to the files there: a folder, or a URI of anything fsspec knows."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from data.files import Files, LocalFiles


def files_at(location: str | Path) -> Files:
    """A path, `file://…`, or `s3://…`, `gs://…` and the like, with credentials from the environment.

    Raises ValueError when the scheme is unknown or its package is not installed.
    """
    text = str(location)
    if "://" not in text:
        return LocalFiles(Path(text).absolute())
    if text.startswith("file://"):
        return LocalFiles(Path(unquote(urlsplit(text).path)).absolute())
    # Seconds of imports, of packages that a folder does not need.
    from sweep.remote import RemoteFiles

    return RemoteFiles.at(text)


def is_remote(location: str | Path) -> bool:
    return "://" in str(location) and not str(location).startswith("file://")
