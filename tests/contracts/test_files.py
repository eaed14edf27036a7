"""What every place of files keeps, over a folder and a bucket of a real server; the memory's for what fsspec answers.

The races are of processes: an object store has nothing else that could put them in order.
"""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.files import PARTIAL, Files
from model import checkpoint
from model.checkpoint import Checkpoint
from sweep.places import files_at
from sweep.remote import RemoteFiles

AT_ONCE = 8


@pytest.fixture(params=["folder", "s3", "memory"])
def files(request: pytest.FixtureRequest, location: str, tmp_path: Path) -> Files:
    if request.param == "s3":  # a connection of one's own for every test takes its time
        connected: RemoteFiles = request.getfixturevalue("connected")
        return connected.below(tmp_path.name)
    return files_at(location)


@pytest.fixture
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place where nothing is yet."""
    kind = request.node.callspec.params.get("files") or request.node.callspec.params["kind"]
    if kind == "s3":
        return f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    return f"memory://{tmp_path.name}" if kind == "memory" else str(tmp_path / "store")


@pytest.fixture(scope="module")
def bucket(s3: Any) -> str:
    uri: str = s3.new_bucket()
    return uri


@pytest.fixture(scope="module")
def connected(bucket: str) -> RemoteFiles:
    return RemoteFiles.at(bucket)


places = pytest.mark.parametrize("kind", ["folder", "s3"])


def test_what_was_published_is_read_and_replaced(files: Files) -> None:
    files.publish("a/b.json", b"one")
    assert files.read("a/b.json") == b"one"
    files.publish("a/b.json", b"")
    assert files.read("a/b.json") == b""


def test_a_file_that_is_not_there_is_a_file_not_found(files: Files) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        files.read("nothing")
    files.publish("a/b", b"")
    with pytest.raises(FileNotFoundError):
        files.read("a/c")


@pytest.mark.parametrize("name", ["..", "../other", "a/../../other", "/etc/passwd", "a/..", "a\0b"])
def test_no_name_leads_out(files: Files, name: str) -> None:
    files.publish("a/b", b"")
    for ask in (files.read, files.names, files.sizes, files.remove, files.below):
        with pytest.raises(ValueError, match="would lead out of the place"):
            ask(name).names() if ask == files.below else ask(name)  # type: ignore[attr-defined]
    for put in (files.publish, files.create):
        with pytest.raises(ValueError, match="would lead out of the place"):
            put(name, b"")
    assert files.sizes() == {"a/b": 0}


def test_names_are_any_text(files: Files) -> None:
    names = {"two words", "Σ → ü.json", "a+b&c=d%20e", "sub/ünder [1]*?#x", "sub/ünder [1]*?#xy", "run=1,seed=2;'~"}
    for name in names:
        files.publish(name, name.encode())
        assert not files.create(name, b"other")
    assert files.create("sub/*", b"")
    assert set(files.sizes()) == {*names, "sub/*"}
    assert files.names("sub") == {"ünder [1]*?#x", "ünder [1]*?#xy", "*"}
    assert {name: files.read(name) for name in names} == {name: name.encode() for name in names}
    files.remove("sub/*")
    files.remove("sub/ünder [1]*?#x")
    assert set(files.sizes()) == names - {"sub/ünder [1]*?#x"}


def test_large_content_comes_back_whole(files: Files) -> None:
    content = os.urandom(20 * 2**20)
    files.publish("large", content)
    assert files.read("large") == content
    assert files.sizes() == {"large": len(content)}


def test_names_and_sizes(files: Files) -> None:
    assert files.names() == set()
    assert files.sizes("none") == {}
    for name in ("top", "a/1", "a/22", "a/b/c/333", "ab/4"):
        files.publish(name, name.rpartition("/")[2].encode())
    assert files.names() == {"top", "a", "ab"}
    assert files.names("a") == {"1", "22", "b"}
    assert files.names("a/b") == {"c"}
    assert files.sizes("a") == {"1": 1, "22": 2, "b/c/333": 3}
    assert files.sizes() == {"top": 3, "a/1": 1, "a/22": 2, "a/b/c/333": 3, "ab/4": 1}
    assert files.names("none") == files.names("a/none") == files.names("a/1") == set()
    assert files.sizes("none") == files.sizes("a/1") == {}


def test_what_is_listed_is_never_old(files: Files, location: str) -> None:
    """Although another client changes it."""
    other = files_at(location)
    for number in range(3):
        assert len(files.names("a")) == len(files.sizes("a")) == number
        other.publish(f"a/{number}", b"")
    other.remove("a")
    assert files.names() == files.names("a") == set()


def test_names_are_not_those_of_half_files(files: Files) -> None:
    files.publish("a/b", b"")
    files.publish(f"a/b.0{PARTIAL}", b"half")
    assert files.names("a") == {"b"}


def test_remove(files: Files) -> None:
    for name in ("a/1", "a/b/2", "ab/3", "abc"):
        files.publish(name, b"")
    for name in ("none", "a/none", "none/none"):
        files.remove(name)
    assert set(files.sizes()) == {"a/1", "a/b/2", "ab/3", "abc"}
    files.remove("abc")
    files.remove("a")
    files.remove("a")
    assert files.names() == {"ab"}


def test_below_is_the_same_files(files: Files, location: str) -> None:
    below = files.below("a").below("b/c")
    below.publish("d", b"content")
    assert files.read("a/b/c/d") == b"content"
    assert below.names() == {"d"}
    assert below.sizes() == {"d": 7}
    assert str(files) == location
    assert str(below) == f"{location}/a/b/c"
    below.remove("d")
    assert below.names() == set()


def test_room_is_bytes_or_not_known(files: Files) -> None:
    free = files.free_bytes()
    assert free is None or free > 0
    assert (free is None) == isinstance(files, RemoteFiles)


def test_a_check_leaves_nothing(files: Files) -> None:
    files.check_writable()
    assert files.names() == set()
    assert files.sizes() == {}


def test_of_several_threads_one_creates(files: Files) -> None:
    start = threading.Barrier(AT_ONCE)

    def create(number: int) -> bool:
        start.wait()
        return files.create("a/once", str(number).encode())

    with ThreadPoolExecutor(AT_ONCE) as pool:
        told = list(pool.map(create, range(AT_ONCE)))
    assert told.count(True) == 1
    assert files.read("a/once") == str(told.index(True)).encode()
    assert not files.create("a/once", b"later")


RACE = """
import multiprocessing, os, sys
from sweep.claims import Launch, TakenError, take
from sweep.places import files_at

location, action, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if "://" in location:
    import s3fs, sweep.remote  # once, before the forks
barrier = multiprocessing.Barrier(count)

def create(number, files):
    files.names()  # the connection is there
    barrier.wait()
    return [number, files.create("race/once", str(number).encode())]

def claim(number, files):
    launches = files.below("launches")
    with Launch(launches, "tiny") as launch:
        barrier.wait()
        try:
            outcome = take(files.below("claims"), launch.id, launches).holds()
        except TakenError:
            outcome = False
        barrier.wait()
    return [number, outcome]

def republish(number, files):
    for _ in range(1000):
        for letter in b"ab":
            files.publish("changing", bytes([letter]) * 2**20)

def run(number):
    outcome = globals()[action](number, files_at(location))
    os.write(1, f"{outcome}\\n".encode())  # of a piece, unlike print

forks = [multiprocessing.get_context("fork").Process(target=run, args=(number,)) for number in range(count)]
for fork in forks:
    fork.start()
for fork in forks:
    fork.join()
"""


def race(location: str, action: str) -> dict[int, bool]:
    command = [sys.executable, "-c", RACE, location, action, str(AT_ONCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    outcomes = dict(json.loads(line.lower()) for line in done.stdout.splitlines())
    assert sorted(outcomes) == list(range(AT_ONCE)), done.stderr
    return outcomes


@places
def test_of_several_processes_one_creates(kind: str, location: str) -> None:
    told = race(location, "create")
    assert sum(told.values()) == 1
    assert told[int(files_at(location).read("race/once"))]


@places
def test_of_several_launches_one_takes(kind: str, location: str) -> None:
    assert sum(race(location, "claim").values()) == 1
    assert files_at(location).names("launches") == set()


@places
def test_nobody_reads_half_a_file(kind: str, location: str) -> None:
    files, versions = files_at(location), (b"a" * 2**20, b"b" * 2**20)
    files.publish("changing", versions[0])
    writer = subprocess.Popen([sys.executable, "-c", RACE, location, "republish", "1"], start_new_session=True)
    seen = set()
    try:
        deadline = time.monotonic() + 30
        changes, last = 0, versions[0]
        while changes < 10 and time.monotonic() < deadline:
            content = files.read("changing")
            assert content in versions
            seen.add(content)
            changes, last = changes + (content != last), content
        assert len(seen) == 2
    finally:
        os.killpg(writer.pid, 9)
        writer.wait()


def some(epoch: int, step: int = 0) -> Checkpoint:
    weights = {"w": torch.full((3, 5), epoch + step / 100)}
    return Checkpoint(epoch, step, {"weights": weights, "best": weights}, {"seed": epoch})


def flip(files: Files, name: str) -> None:
    content = files.read(name)
    files.publish(name, content[:-1] + bytes([content[-1] ^ 1]))


def truncate(files: Files, name: str) -> None:
    files.publish(name, files.read(name)[:-1])


def lose(files: Files, name: str) -> None:
    files.remove(name)


@pytest.mark.parametrize(
    ("damage", "file"),
    [
        (flip, "weights.safetensors"),
        (truncate, "best.safetensors"),
        (lose, "state.json"),
        (truncate, "manifest.json"),
        (lose, "manifest.json"),
    ],
)
def test_of_checkpoints_the_newest_whole_one_is_read(
    files: Files, damage: Callable[[Files, str], None], file: str
) -> None:
    assert checkpoint.read_newest(files) is None
    for each in (some(1), some(2), some(2, 50)):
        checkpoint.write(files, each)
    assert files.names() == {"epoch-00002", "epoch-00002-step-0000050"}
    newest = checkpoint.read_newest(files)
    assert newest is not None
    assert (newest.epoch, newest.step, newest.state) == (2, 50, {"seed": 2})
    assert torch.equal(newest.parts["best"]["w"], torch.full((3, 5), 2.5))
    damage(files, f"epoch-00002-step-0000050/{file}")
    before = checkpoint.read_newest(files)
    assert before is not None
    assert (before.epoch, before.step) == (2, 0)
    checkpoint.write(files, some(2, 50))
    again = checkpoint.read_newest(files)
    assert again is not None
    assert again.step == 50


# From here on, what only an object store has.


@pytest.fixture(scope="module")
def at(connected: RemoteFiles) -> Callable[[str], RemoteFiles]:
    """Other files by the same connection."""
    return lambda uri: replace(connected, root=uri.removeprefix("s3://"), uri=uri)


def operations(files: Files) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: files.read("a"),
        "publish": lambda: files.publish("a", b"1"),
        "create": lambda: files.create("a", b"1"),
        "names": files.names,
        "sizes": files.sizes,
        "remove": lambda: files.remove("a"),
        "check_writable": files.check_writable,
    }


REQUESTS: dict[str, tuple[Callable[[RemoteFiles], object], str]] = {
    "read": (lambda files: files.read("a/1"), "GET"),
    "read of 20 MiB": (lambda files: files.read("large"), "GET"),
    "publish": (lambda files: files.publish("a/1", b""), "PUT"),
    "publish of 20 MiB": (lambda files: files.publish("large", bytes(20 * 2**20)), "PUT"),
    "create": (lambda files: files.create("a/2", b""), "PUT"),
    "create of what is there": (lambda files: files.create("a/1", b""), "PUT"),
    "names": (lambda files: files.names(), "LIST"),
    "names of none": (lambda files: files.names("none/none"), "LIST"),
    "names of a file": (lambda files: files.names("a/1"), "LIST"),
    "names of a page and one": (lambda files: files.names("many"), "LIST LIST"),
    "sizes": (lambda files: files.sizes(), "LIST LIST"),
    "sizes of none": (lambda files: files.sizes("none"), "LIST"),
    "remove of a file": (lambda files: files.remove("a/1"), "LIST DELETE"),
    "remove of none": (lambda files: files.remove("none"), "LIST DELETE"),
    "remove of a folder": (lambda files: files.remove("a"), "LIST POST"),
    "check_writable": (lambda files: files.check_writable(), "PUT PUT LIST DELETE"),
    "below": (lambda files: files.below("a"), ""),
    "free_bytes": (lambda files: files.free_bytes(), ""),
}
"""Of one call each."""


@pytest.fixture(scope="module")
def filled(s3: Any, at: Callable[[str], RemoteFiles]) -> RemoteFiles:
    """A page of files in a folder, and one more."""
    files = at(f"{s3.new_bucket()}/filled")
    for number in range(s3.page + 1):
        files.publish(f"many/{number}", b"1")
    return files


def told(requests: list[str]) -> str:
    return " ".join("LIST" if "list-type=2" in each else each.partition(" ")[0] for each in requests)


@pytest.mark.parametrize("call", REQUESTS)
def test_no_request_more_than_it_takes(s3: Any, filled: RemoteFiles, call: str) -> None:
    filled.remove("a/2")
    filled.publish("a/1", b"")
    filled.publish("large", bytes(20 * 2**20) if "20 MiB" in call else b"")
    s3.requests()
    REQUESTS[call][0](filled)
    assert told(s3.requests()) == REQUESTS[call][1]


def test_more_than_one_request_takes_is_listed_and_removed(s3: Any, filled: RemoteFiles, monkeypatch: Any) -> None:
    monkeypatch.setattr("sweep.remote.DELETED_AT_ONCE", 4)
    names = {str(number) for number in range(s3.page + 1)}
    for name in names:
        filled.publish(f"all/{name}", b"1")
    assert filled.names("all") == names
    assert filled.sizes("all") == dict.fromkeys(names, 1)
    s3.requests()
    filled.remove("all")
    assert told(s3.requests()) == "LIST LIST POST POST POST"
    assert filled.names("all") == set()


def test_a_bucket_may_be_the_whole_store(s3: Any) -> None:
    files = RemoteFiles.at(s3.new_bucket() + "/")
    files.publish("a/b", b"1")
    assert files.names() == {"a"}
    assert files.sizes() == {"a/b": 1}
    for _ in range(2):
        files.remove("")
        assert files.sizes() == {}


def test_other_programs_folders_are_no_files(connected: RemoteFiles) -> None:
    remote = connected.below("marked")
    bucket, key, _ = remote.system.split_path(remote.root)
    for folder in ("", "empty/", "a/"):
        remote.system.call_s3("put_object", Bucket=bucket, Key=f"{key}/{folder}")
    remote.publish("a/b", b"")
    assert remote.names() == {"a", "empty"}
    assert set(remote.sizes()) == {"a/b"}


def test_what_is_denied_is_a_permission_error_that_says_where(s3: Any, at: Callable[[str], RemoteFiles]) -> None:
    files = at(f"{s3.new_bucket('denied')}/folder")
    for operation in operations(files).values():
        with pytest.raises(PermissionError, match="s3://denied-.*/folder"):
            operation()


def test_a_bucket_that_is_not_there_is_no_empty_store(s3: Any, at: Callable[[str], RemoteFiles]) -> None:
    for operation in operations(at("s3://mistyped/folder")).values():
        with pytest.raises(OSError, match="s3://mistyped/folder") as caught:
            operation()
        assert not isinstance(caught.value, FileNotFoundError)


def test_an_error_says_what_and_where_as_one_of_a_folder_does(files: Files) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.read("a/b")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.strerror
    assert caught.value.filename in (f"{files}/a/b", Path(f"{files}/a/b"))


def test_a_server_that_went_away_is_an_error_soon(new_server: Callable[[], Any], monkeypatch: Any) -> None:
    server = new_server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    files = RemoteFiles.at(f"{server.new_bucket()}/folder")
    files.publish("a", b"")
    server.stop()
    for name in ("read", "publish", "create", "names", "remove"):
        began = time.monotonic()
        with pytest.raises(OSError, match="s3://good-"):
            operations(files)[name]()
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("operation", ["publish", "names"])
def test_a_server_that_says_nothing_is_an_error_soon(s3: Any, monkeypatch: Any, operation: str) -> None:
    monkeypatch.setattr("sweep.remote.CONNECT_WITHIN", 0.5)
    monkeypatch.setattr("sweep.remote.ANSWER_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        files = RemoteFiles.at("s3://bucket/folder")
        began = time.monotonic()
        with pytest.raises(OSError, match="s3://bucket/folder"):
            operations(files)[operation]()
        assert time.monotonic() - began < 8


def test_a_file_that_breaks_off_is_asked_for_again(s3: Any, at: Callable[[str], RemoteFiles]) -> None:
    files = at(s3.new_bucket("broken"))
    files.publish("a", b"content")
    assert files.read("a") == b"content"


def test_a_conflict_is_tried_again(s3: Any, at: Callable[[str], RemoteFiles]) -> None:
    files = at(s3.new_bucket("busy"))
    assert files.create("a", b"1")
    assert not files.create("a", b"2")
    assert files.read("a") == b"1"


def test_a_server_that_would_tell_two_true_is_refused(s3: Any, at: Callable[[str], RemoteFiles]) -> None:
    files = at(s3.new_bucket("careless"))
    with pytest.raises(OSError, match="If-None-Match"):
        files.check_writable()
    assert files.sizes() == {}


def test_the_environment_says_who_one_is(s3: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(OSError, match="credentials"):
        RemoteFiles.at("s3://bucket/folder").read("a")


@pytest.mark.parametrize(
    "uri",
    ["s3://AKIAX:secret@bucket/folder", "s3://AKIAX:sec/ret@bucket", "s3://secret@bucket", "gs://x:secret@bucket"],
)
def test_credentials_in_a_location_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ValueError, match="environment") as caught:
        RemoteFiles.at(uri)
    for part in ("secret", "AKIAX", "ret@"):
        assert part not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://", "s3:///folder", "gs://"])
def test_a_location_names_a_bucket(uri: str) -> None:
    with pytest.raises(ValueError, match="bucket/folder"):
        RemoteFiles.at(uri)


@pytest.mark.parametrize("uri", ["s4://bucket/folder", "simplecache::s4://bucket"])
def test_an_unknown_scheme_is_one_sentence(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is not known.*use a folder, s3:// or gs://"):
        RemoteFiles.at(uri)


def test_a_missing_package_is_one_sentence(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match="pip install s3fs"):
        RemoteFiles.at("s3://bucket/folder")


def test_where_half_a_file_could_be_seen_nothing_is_written(tmp_path: Path) -> None:
    files = RemoteFiles.at(f"local://{tmp_path}")
    (tmp_path / "a").write_bytes(b"1")
    assert files.read("a") == b"1"
    assert files.names() == {"a"}
    for operation in ("publish", "create", "check_writable"):
        with pytest.raises(OSError, match="only be read"):
            operations(files)[operation]()
