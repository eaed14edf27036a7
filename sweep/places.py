"""From where the user says the results are to the files there: a folder, or a URI of anything fsspec knows."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from data.files import Files, LocalFiles


def files_at(location: str | Path) -> Files:
    """A path, `file://…`, or `s3://…`, `gs://…` and the like, with credentials from the environment.

    Raises ValueError when the scheme is unknown or its package is not installed, or for a `file://` of another machine.
    """
    folder = local_folder(location)
    if folder is not None:
        return LocalFiles(folder)
    # Seconds of imports, of packages that a folder does not need.
    from sweep.remote import RemoteFiles

    return RemoteFiles.at(str(location))


def local_folder(location: str | Path) -> Path | None:
    """The folder that a location is, absolute; None where it is no folder of this machine.

    Raises ValueError for a `file://` of another machine, which is a slash too few as a rule.
    """
    text = str(location)
    if text.startswith("file://"):
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(
                f"{text} is a file of a machine '{parts.netloc}'; write file:///{parts.netloc}{parts.path}"
            )
        return Path(unquote(parts.path)).absolute()
    return None if "://" in text else Path(text).absolute()
