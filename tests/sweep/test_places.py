"""Where results are said to be, and what is no such place."""

from pathlib import Path

import pytest

from sweep.places import files_at, local_folder


@pytest.mark.parametrize("text", ["/a/b", "file:///a/b", "file://localhost/a/b"])
def test_a_folder_has_several_spellings(text: str) -> None:
    assert local_folder(text) == Path("/a/b")
    assert str(files_at(text)) == "/a/b"


def test_a_folder_of_another_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="is a file of a machine 'results'; write file:///results/mine"):
        files_at("file://results/mine")


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/results", "s3://secret@bucket", "gs://a:b/c@bucket"])
def test_a_place_with_credentials_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ValueError, match="has no credentials in it") as error:
        files_at(uri)
    assert "secret" not in str(error.value)
