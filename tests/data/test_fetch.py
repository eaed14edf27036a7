"""Fetching over real HTTP and importing: all or nothing, and one clear sentence for what went wrong."""

import hashlib
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from data.corpora import lines, yahoo
from data.corpus import CorpusConfig, Text
from data.fetch import fetch, import_corpus
from data.text import PublishedFile

TEXTS = {"train": "a b a\nc <unk>\n", "valid": "b d\n", "test": "a c\n"}


class Remote(lines.Config):
    """A corpus whose publisher is the server of the test."""

    address: str
    wrong: str = ""  # a split with another sha256 than its file

    @property
    def published(self) -> tuple[PublishedFile, ...]:
        return tuple(
            PublishedFile(
                f"{split}.txt",
                "0" * 64 if split == self.wrong else hashlib.sha256(content.encode()).hexdigest(),
                f"{self.address}/x.{split}.txt",
            )
            for split, content in TEXTS.items()
        )


class Generated(CorpusConfig):
    @property
    def title(self) -> str:
        return "Grammar"

    @property
    def licence(self) -> str:
        return "Free."

    def fingerprint(self, root: Path) -> str:
        raise AssertionError

    def read(self, root: Path) -> Text:
        raise AssertionError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def write(folder: Path, prefix: str = "", **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in (files or TEXTS).items():
        (folder / f"{prefix}{stem}.txt").write_text(content)
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return write(tmp_path / "served", "x.")


@pytest.fixture
def address(served: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "corpora"


def nothing_in(root: Path) -> bool:
    return not root.exists() or not any(root.iterdir())


def test_fetch_publishes_the_whole_folder(address: str, root: Path) -> None:
    folder = fetch(Remote(name="far", address=address), root)
    assert list(root.iterdir()) == [folder] == [root / "far"]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {f"{s}.txt": t for s, t in TEXTS.items()}


def test_fetch_refuses_another_content_with_both_hashes(address: str, root: Path) -> None:
    got = hashlib.sha256(TEXTS["test"].encode()).hexdigest()
    with pytest.raises(ValueError, match=f"x.test.txt should have the sha256 {'0' * 64} but has {got}"):
        fetch(Remote(name="far", address=address, wrong="test"), root)
    assert nothing_in(root)


def test_fetch_of_a_file_that_is_gone(address: str, served: Path, root: Path) -> None:
    (served / "x.valid.txt").unlink()
    with pytest.raises(ValueError, match=r"x\.valid\.txt answers 404 .*; try again later.*sweep data import far DIR"):
        fetch(Remote(name="far", address=address), root)
    assert nothing_in(root)


def test_fetch_from_nobody(root: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot download http://127\.0\.0\.1:9/x\.train\.txt .*; try again later"):
        fetch(Remote(name="far", address="http://127.0.0.1:9"), root)
    assert nothing_in(root)


def test_fetch_from_a_silent_server_times_out(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ValueError, match="timed out"):
            fetch(Remote(name="far", address=address), root, timeout=0.1)
    assert nothing_in(root)


def test_fetch_replaces_only_when_forced(address: str, root: Path) -> None:
    old = write(root / "far", train="old\n")
    config = Remote(name="far", address=address)
    with pytest.raises(ValueError, match=r"corpus 'far' is already at .*; pass --force"):
        fetch(config, root)
    assert (old / "train.txt").read_text() == "old\n"
    with pytest.raises(ValueError, match="but has"):
        fetch(Remote(name="far", address=address, wrong="test"), root, force=True)
    assert (old / "train.txt").read_text() == "old\n"
    fetch(config, root, force=True)
    assert (old / "train.txt").read_text() == TEXTS["train"]
    assert list(root.iterdir()) == [old]


def test_forced_fetch_replaces_a_link_and_not_what_it_points_to(address: str, root: Path, tmp_path: Path) -> None:
    kept = write(tmp_path / "kept", train="old\n")
    root.mkdir()
    (root / "far").symlink_to(kept)
    fetch(Remote(name="far", address=address), root, force=True)
    assert not (root / "far").is_symlink()
    assert (kept / "train.txt").read_text() == "old\n"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (yahoo.Config(), r"'yahoo' cannot be downloaded by a program; .*He et al\. 2019.*sweep data import yahoo DIR"),
        (lines.Config(name="mine"), r"'mine' cannot be downloaded by a program; put .*sweep data import mine DIR"),
        (Generated(), r"'Grammar' is generated, so there is nothing to fetch"),
    ],
)
def test_fetch_where_there_is_nothing_to_download(root: Path, config: CorpusConfig, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        fetch(config, root)
    assert nothing_in(root)


def test_fetch_into_a_root_that_is_no_folder(address: str, root: Path) -> None:
    root.write_text("a file")
    with pytest.raises(ValueError, match=r"cannot write to .*; choose another corpora root"):
        fetch(Remote(name="far", address=address), root)


@pytest.mark.parametrize("prefix", ["", "mine.", "ptb."])
def test_import_takes_files_by_the_end_of_their_names(tmp_path: Path, root: Path, prefix: str) -> None:
    imported = import_corpus(lines.Config(name="mine"), write(tmp_path / "user", prefix), root)
    assert imported.folder == root / "mine"
    assert list(root.iterdir()) == [imported.folder]
    assert sorted(path.name for path in imported.folder.iterdir()) == ["test.txt", "train.txt", "valid.txt"]
    assert imported.facts["sentences"] == {"train": 2, "valid": 1, "test": 1}
    assert imported.remarks == ()


def test_import_takes_the_word_list(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "user", "yahoo.", **TEXTS, vocab="a\nb\n_UNK\n")
    imported = import_corpus(yahoo.Config(), source, root)
    assert (imported.folder / "vocab.txt").exists()
    assert imported.facts["vocabulary"] == 4
    assert [remark.split()[0] for remark in imported.remarks] == ["valid.txt", "test.txt", "vocab.txt"]
    assert all("is not the published file of corpus 'yahoo'" in remark for remark in imported.remarks)


def test_import_remarks_on_published_files_that_are_absent(tmp_path: Path, root: Path) -> None:
    imported = import_corpus(yahoo.Config(), write(tmp_path / "user"), root)
    assert imported.remarks[-1] == "vocab.txt is published with corpus 'yahoo' and was not imported"
    assert import_corpus(Remote(name="far", address=""), tmp_path / "user", root).remarks == ()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train": None}, r"'yahoo' needs train\.txt, and .*user has none; .*vae-lagging-encoder"),
        ({"test": ""}, r"user/test\.txt holds no words"),
        ({"test": TEXTS["train"]}, "test split of corpus 'Yahoo' equals its train split"),
        ({"valid": "caf\udce9\n"}, r"user/valid\.txt is not UTF-8"),
    ],
)
def test_import_refuses_files_that_break_a_rule(
    tmp_path: Path, root: Path, change: dict[str, str | None], sentence: str
) -> None:
    source = write(tmp_path / "user")
    for stem, content in change.items():
        path = source / f"{stem}.txt"
        path.unlink() if content is None else path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=sentence):
        import_corpus(yahoo.Config(), source, root)
    assert nothing_in(root)


def test_import_refuses_a_choice_of_files(tmp_path: Path, root: Path) -> None:
    source = write(write(tmp_path / "user", "a."), "b.")
    with pytest.raises(ValueError, match=r"one file for train\.txt, but has a\.train\.txt, b\.train\.txt; rename"):
        import_corpus(lines.Config(name="mine"), source, root)
    write(source)  # an exact name is no choice
    assert import_corpus(lines.Config(name="mine"), source, root).folder.is_dir()


def test_import_refuses_what_is_no_folder(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder; put"):
        import_corpus(lines.Config(name="mine"), tmp_path / "nowhere", root)


def test_import_replaces_only_when_forced(tmp_path: Path, root: Path) -> None:
    config, source = lines.Config(name="mine"), write(tmp_path / "user")
    folder = import_corpus(config, source, root).folder
    with pytest.raises(ValueError, match="already at"):
        import_corpus(config, source, root)
    write(source, train="new text\n")
    import_corpus(config, source, root, force=True)
    assert (folder / "train.txt").read_text() == "new text\n"
    import_corpus(config, folder, root, force=True)  # onto itself
    assert (folder / "train.txt").read_text() == "new text\n"
    assert list(root.iterdir()) == [folder]


def test_import_onto_a_full_disk_leaves_nothing(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ValueError, match=r"cannot put corpus 'mine' .*No space left on device.*; make room"):
        import_corpus(lines.Config(name="mine"), write(tmp_path / "user"), root)
    assert nothing_in(root)


def test_a_failed_fetch_does_not_leave_the_root_that_it_made(tmp_path: Path, address: str) -> None:
    root = tmp_path / "new" / "corpora"
    config = Remote(name="far", address=f"{address}/nowhere")
    with pytest.raises(ValueError, match="answers 404"):
        fetch(config, root)
    assert not root.exists()
