"""A trial that is stopped anywhere and goes on in another process equals one that was not, in every number."""

import importlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from data.vocabulary import from_sentences
from sweep.claims import Launch
from sweep.config import TrialConfig, kinds
from sweep.outcome import Right, StoppedError
from sweep.store import TrialStore
from sweep.trial import run_trial
from sweep.verify import differences, numbers

COMMON = {
    "data": {"kind": "lines", "name": "tiny"},
    "schedule": {"kind": "linear", "epochs": 2},
    "train": {"epochs": 5, "batch_size": 4, "plateau": {"patience": 2}},
    "evaluate": {},
    "seed": 3,
}
STEPS = 6
"""Of an epoch: 24 sentences of three lengths, four a batch."""


RELOADING = {"patience": 4, "reload_on_decay": True, "reference": "since_decay", "max_decays": 4}


def can_train(update: str, model: str, fields: dict[str, int]) -> bool:
    """Whether an update takes an architecture."""
    built = importlib.import_module(f"model.variants.{model}").Config(**fields).build(from_sentences([["a"]], "<unk>"))
    try:
        importlib.import_module(f"model.updates.{update}").Config().build(built)
    except ValueError:
        return False
    return True


def documents() -> dict[str, dict[str, object]]:
    """Every architecture, averaged where it can be, under every update that can train it; Adam; and bfloat16."""
    found = {}
    for model in kinds("model"):
        fields = importlib.import_module(f"model.variants.{model}").Config.model_fields
        sizes = {"embedding_dim": 6, "hidden_dim": 9, "svi_steps": 2}
        small = {name: value for name, value in sizes.items() if name in fields}
        averaged = {"samples": 3, "average": True} if "average" in fields else {}
        for update in kinds("update"):
            if not can_train(update, model, small):
                continue
            fields = importlib.import_module(f"model.updates.{update}").Config.model_fields
            short = {"inner_steps": 5, "block": 2} if "inner_steps" in fields else {}
            document = {
                **COMMON,
                "model": {"kind": model, **small, **averaged},
                "update": {"kind": update, **short},
            }
            found[f"{model} under {update}"] = document
    first = next(iter(found.values()))
    adam = {"kind": "joint", "optimizer": "adam", "learning_rate": 0.05}
    found["adam"] = {**first, "update": adam, "train": {**COMMON["train"], "plateau": RELOADING}}  # type: ignore[dict-item]
    found["bf16"] = {**first, "train": {**COMMON["train"], "precision": "bf16"}}  # type: ignore[dict-item]
    return found


class AfterSteps(threading.Event):
    """Set once it was looked at so often: a trial looks once after each step."""

    def __init__(self, looks: int):
        super().__init__()
        self._left = looks

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def stop_after(document: dict[str, object], store: TrialStore, corpora: Path, steps: int) -> None:
    with Launch(store.launches, "") as launch, pytest.raises(StoppedError):
        run_trial(TrialConfig.parse(document), store, corpora, right=Right(launch.id, AfterSteps(steps)))


CONTINUE = """
import json, sys
from pathlib import Path
from sweep.config import TrialConfig
from sweep.store import TrialStore
from sweep.trial import run_trial
for document in json.loads(sys.argv[1]):
    run_trial(TrialConfig.parse(document), TrialStore(sys.argv[2]), Path(sys.argv[3]))
"""


def test_stopped_anywhere_and_continued_in_a_new_process(lines_corpus: Path, tmp_path: Path) -> None:
    store, random = TrialStore(tmp_path / "stopped"), Random(20)
    undisturbed, where = {}, {}
    for name, document in documents().items():
        whole = run_trial(TrialConfig.parse(document), TrialStore(tmp_path / "whole"), lines_corpus)
        undisturbed[name] = whole
        # Looks: one a step, and one at each checkpoint.
        steps = random.randrange(1, (STEPS + 1) * (len(whole.history) - 1))
        stop_after(document, store, lines_corpus, steps)
        where[name] = f"{name}, stopped after {store.progress(whole.key)['epoch']} epochs and {steps} looks"
    arguments = [json.dumps(list(documents().values())), str(store.location), str(lines_corpus)]
    done = subprocess.run([sys.executable, "-c", CONTINUE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, whole in undisturbed.items():
        continued = store.result(whole.key)
        assert list(differences(numbers(whole), numbers(continued))) == [], where[name]
        weights = [
            TrialStore(tmp_path / each).trial(whole.key).read("weights.safetensors") for each in ("whole", "stopped")
        ]
        assert weights[0] == weights[1], where[name]
        assert "continuing after epoch" in store.log(whole.key)


@pytest.mark.parametrize("update", kinds("update"))
def test_stopped_after_any_step(lines_corpus: Path, tmp_path: Path, update: str) -> None:
    under = next(document for name, document in documents().items() if name.endswith(f"under {update}"))
    document = {**under, "train": {"epochs": 3, "batch_size": 4}}
    whole = run_trial(TrialConfig.parse(document), TrialStore(tmp_path / "whole"), lines_corpus)
    places = set()
    for looks in range(2 * (STEPS + 1)):
        store = TrialStore(tmp_path / str(looks))
        stop_after(document, store, lines_corpus, looks)
        found = store.progress(whole.key)
        places.add((found["epoch"], found["step"]))
        assert numbers(run_trial(TrialConfig.parse(document), store, lines_corpus)) == numbers(whole)
    within = {(epoch, step) for epoch in (0, 1) for step in range(1, STEPS)}
    assert places == within | {(1, 0), (2, 0)}


def test_checkpoints_by_the_clock_change_no_number(lines_corpus: Path, tmp_path: Path) -> None:
    """`checkpoint_minutes` is no part of the key, and a checkpoint after every step leaves the numbers as they are."""
    document = next(iter(documents().values()))
    config = TrialConfig.parse(document)
    often = replace(config, train=config.train.model_copy(update={"checkpoint_minutes": 1e-9}))
    store = TrialStore(tmp_path / "often")
    seen: list[set[str]] = []
    result = run_trial(
        often, store, lines_corpus, on_epoch=lambda record: seen.append(names(store))
    )  # fmt: skip
    whole = run_trial(config, TrialStore(tmp_path / "whole"), lines_corpus)
    assert result.key == whole.key
    found = [
        difference
        for difference in differences(numbers(whole), numbers(result))
        if "checkpoint_minutes" not in difference
    ]
    assert found == []
    assert seen[0] == {"epoch-00001", f"epoch-00000-step-{STEPS - 1:07d}"}


def names(store: TrialStore) -> set[str]:
    [key] = store.files.names("trials")
    return store.trial(key).below("checkpoint").names()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(lines_corpus: Path, tmp_path: Path, damage: str) -> None:
    document = next(iter(documents().values()))
    whole = run_trial(TrialConfig.parse(document), TrialStore(tmp_path / "whole"), lines_corpus)
    store = TrialStore(tmp_path / "stopped")
    stop_after(document, store, lines_corpus, 2 * (STEPS + 1) - 1)
    folder = tmp_path / "stopped" / "trials" / whole.key / "checkpoint"
    older, newest = sorted(each.name for each in folder.iterdir())
    path = folder / newest / ("manifest.json" if damage in ("manifest", "empty") else "weights.safetensors")
    content = path.read_bytes()
    match damage:
        case "flip":
            path.write_bytes(content[:-3] + bytes([content[-3] ^ 4]) + content[-2:])
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "manifest":
            path.write_bytes(b"[1]")
        case "empty":
            path.write_bytes(b"")
        case "remove":
            path.unlink()
    assert numbers(run_trial(TrialConfig.parse(document), store, lines_corpus)) == numbers(whole)
    [warning] = [line for line in store.log(whole.key).splitlines() if line.startswith("damaged")]
    assert newest in warning
    assert f"using {older}" in warning


def test_what_is_newer_and_damaged_never_displaces_what_is_good(lines_corpus: Path, tmp_path: Path) -> None:
    """Two damaged ones, and a name that nobody wrote: the trial starts again, and keeps its own checkpoints."""
    document = next(iter(documents().values()))
    whole = run_trial(TrialConfig.parse(document), TrialStore(tmp_path / "whole"), lines_corpus)
    store = TrialStore(tmp_path / "stopped")
    stop_after(document, store, lines_corpus, 3 * (STEPS + 1))
    folder = tmp_path / "stopped" / "trials" / whole.key / "checkpoint"
    for each in folder.iterdir():
        (each / "state.json").write_bytes(b"{}")
    (folder / "epoch-99999").mkdir()
    (folder / "epoch-99999" / "manifest.json").write_text("{}")
    assert store.progress(whole.key) == {}, "a damaged state is shown"
    stop_after(document, store, lines_corpus, 2 * (STEPS + 1))
    assert {name for name in names(store) if "step" not in name} == {"epoch-00002"}
    assert store.progress(whole.key)["epoch"] == 2
    assert "no other, starting from the beginning" in store.log(whole.key)
    assert numbers(run_trial(TrialConfig.parse(document), store, lines_corpus)) == numbers(whole)
    assert "continuing after epoch 2" in store.log(whole.key)
