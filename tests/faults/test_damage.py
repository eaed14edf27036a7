"""200 stores that were damaged at random: each ends in a correct table or one clear sentence, and loses no more."""

import contextlib
import io
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from sweep.cli import main
from sweep.config import TrialConfig
from sweep.outcome import TrialFailedError
from sweep.plan import make_plan
from sweep.record import SweepRecord, TrialResult
from sweep.render import render
from sweep.spec import SweepSpec
from sweep.store import TrialStore
from sweep.table import comparison_tables
from sweep.trial import run_trial
from sweep.verify import numbers

STORES = 200
SPEC = """
name: tiny
base:
  data: {kind: lines, name: tiny}
  model: {embedding_dim: 6, hidden_dim: 8}
  train: {epochs: 2, batch_size: 8}
axes:
  method:
    LSTM-LM: {model: lstm_lm}
    LSTM-VAE: {model: {kind: lstm_vae, latent_dim: 3}}
    broken: {model: lstm_lm, update: {kind: joint, learning_rate: 3.0e+38, clip: 1.0e+38}}
seeds: 2
"""


@dataclass(frozen=True)
class Whole:
    """An undamaged store with two done trials of each system, two failed ones, and one that is under way."""

    folder: Path
    corpora: Path
    record: SweepRecord
    results: dict[str, TrialResult]

    def path(self, key: str) -> Path:
        return self.folder / "trials" / key / "result.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    corpora = folder / "corpora"
    (corpora / "tiny").mkdir(parents=True)
    for name, count in {"train": 24, "valid": 4, "test": 5}.items():
        text = "\n".join(" ".join(f"w{(i * j) % 7}" for j in range(1, 3 + i % 3)) for i in range(count)) + "\n"
        (corpora / "tiny" / f"{name}.txt").write_text(text)
    (folder / "tiny.yaml").write_text(SPEC)
    plan = make_plan(SweepSpec.load(str(folder / "tiny.yaml")), corpora)
    store = TrialStore(folder / "results")
    store.record(plan.record)
    for trial in plan.record.trials:
        with contextlib.suppress(TrialFailedError):
            run_trial(TrialConfig.parse(trial.config), store, corpora, key=trial.key)
    results = store.results(plan.record.wanted)
    assert len(results) == 4
    # One more that was killed after its first epoch.
    config = {**plan.record.trials[0].config, "seed": 7}

    def kill(record: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(TrialConfig.parse(config), store, corpora, on_epoch=kill)
    return Whole(folder / "results", corpora, plan.record, results)


def damage(folder: Path, random: Random) -> list[str]:
    """Damage one to three files; what was done."""
    done = []
    for _ in range(random.randint(1, 3)):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        # Those that matter most come most often.
        file = random.choice([path for path in files if path.suffix == ".json"] if random.random() < 0.8 else files)
        how = random.choice(DAMAGES)
        how(file, files, random)
        done.append(f"{how.__name__} {file.relative_to(folder)}")
    return done


def truncate(file: Path, files: list[Path], random: Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: random.randrange(len(content) + 1)])


def flip(file: Path, files: list[Path], random: Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(random.randint(1, 3) if content else 0):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def delete(file: Path, files: list[Path], random: Random) -> None:
    file.unlink()


def duplicate(file: Path, files: list[Path], random: Random) -> None:
    """Another file of that name, as by a sync tool that mixed two folders up; or a copy under another name."""
    others = [path for path in files if path.name == file.name and path != file]
    if others:
        shutil.copy(random.choice(others), file)
    else:
        shutil.copy(file, file.with_name(f"{file.name} (copy)"))


def empty(file: Path, files: list[Path], random: Random) -> None:
    file.write_bytes(b"")


def foreign(file: Path, files: list[Path], random: Random) -> None:
    (file.parent / random.choice(["core", ".DS_Store", "epoch-99999", "00000099.json", "notes é.txt"])).write_bytes(
        b"\xff\0"
    )


def half_write(file: Path, files: list[Path], random: Random) -> None:
    content = file.read_bytes()
    file.with_name(f"{file.name}.0123.partial").write_bytes(content[: len(content) // 2])


def replace_by_folder(file: Path, files: list[Path], random: Random) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = [truncate, flip, delete, duplicate, empty, foreign, half_write, replace_by_folder]


def sweep(*arguments: str) -> tuple[int, str, str]:
    """A command, in this process: exit code, standard output, standard error."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        patch.setattr(sys, "argv", ["sweep", *arguments])
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
    assert isinstance(code, int)
    return code, out.getvalue(), errors.getvalue()


def intact(whole: Whole, folder: Path) -> Iterator[str]:
    """Keys whose result is as it was."""
    for key in whole.results:
        path = folder / whole.path(key).relative_to(whole.folder)
        if path.is_file() and path.read_bytes() == whole.path(key).read_bytes():
            yield key


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_damaged_store_ends_in_a_correct_table_or_a_sentence(whole: Whole, tmp_path: Path) -> None:
    tables = sentences = trained = 0
    for number in range(STORES):
        random = Random(number)
        folder = tmp_path / f"store{number}"
        shutil.copytree(whole.folder, folder)
        what = f"store {number}: {damage(folder, random)}"
        kept = set(intact(whole, folder))
        for command in (["table", "tiny"], ["status", "tiny"], ["failures", "tiny"], ["gc"], ["table", "tiny"]):
            code, out, errors = sweep(*command, "--results", str(folder))
            assert "Traceback" not in errors, what
            if code:
                assert code == 2, (what, errors)
                assert len(errors.splitlines()) == 1, (what, errors)
                assert errors.startswith("error: "), (what, errors)
                sentences += 1
            elif command[0] == "table":
                states = TrialStore(folder).states(whole.record.wanted)
                failed = [key for key, state in states.items() if state == "failed"]
                expected = comparison_tables(whole.record, {key: whole.results[key] for key in kept}, failed=failed)
                assert out == render(expected, "text").rstrip("\n") + "\n", what
                tables += 1
            assert set(intact(whole, folder)) == kept, what
        trained += train_again(whole, folder, kept, what)
        shutil.rmtree(folder)
    assert tables + sentences > STORES
    assert min(tables, sentences) > STORES / 4, (tables, sentences)
    assert trained, "no damage was one that training mends"


def train_again(whole: Whole, folder: Path, kept: set[str], what: str) -> int:
    """Train what is missing now; how many were trained. A damaged result is left for its owner to look at."""
    store, trained = TrialStore(folder), 0
    for key, result in whole.results.items():
        complaint, again, state = "", None, store.state(key)
        try:
            again = run_trial(TrialConfig.parse(result.config), store, whole.corpora, key=key)
        except (ValueError, OSError) as error:
            complaint = str(error)
        if again is None:
            assert key not in kept, what
            assert len(complaint.splitlines()) == 1, what
            continue
        assert numbers(again) == numbers(result), what
        trained += state != "done"
    return trained
