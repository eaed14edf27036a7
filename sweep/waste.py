"""What a store holds that is of no use any more."""

from collections.abc import Iterator
from dataclasses import dataclass

from data.files import PARTIAL
from sweep.claims import find
from sweep.jobs import ATTEMPTS, CHECKPOINT, RESULT
from sweep.points import searched
from sweep.store import EVALUATIONS, TrialStore


@dataclass(frozen=True)
class Waste:
    """A file or folder of the store that may go. size: in bytes."""

    name: str
    size: int
    why: str


def find_waste(store: TrialStore) -> list[Waste]:
    """Files that nobody needs: what was left of done trials, of dead processes, and of trials that no sweep asks for.

    Results and the weights beside them are never among them. Trials under way are left alone.
    Raises ValueError when a recorded sweep cannot be read, for then nobody knows what it asks for.
    """
    records = store.all_recorded()
    wanted = {key for record in records for key in record.wanted}
    # What a search has pruned may be suggested again, and goes on then.
    wanted |= {trial.key for record in records for _, trial in searched(store, record)}
    sizes = store.files.sizes()
    launches = {name for name in store.launches.names() if name.endswith(".json")}
    alive = {
        name for name in launches if (facts := find(store.launches, name.removesuffix(".json"))) and facts.is_alive
    }
    of_trial: dict[str, dict[str, int]] = {}
    waste = []
    for name, size in sizes.items():
        room, *rest = name.split("/")
        if room == "trials" and len(rest) > 1:
            of_trial.setdefault(rest[0], {})["/".join(rest[1:])] = size
        elif name.endswith(PARTIAL) and not alive:
            waste.append(Waste(name, size, "half written by a process that is gone"))
        elif room == "launches" and f"{rest[0].partition('.')[0]}.json" not in alive:
            waste.append(Waste(name, size, "of a launch that is gone"))
    for key, files in of_trial.items():
        if store.holder(key) is None:
            # Who evaluates it has no claim on the trial itself.
            own = {name: size for name, size in files.items() if not (alive and name.startswith(f"{EVALUATIONS}/"))}
            waste += _of_trial(key, own, is_wanted=key in wanted)
    return sorted(waste, key=lambda each: each.name)


def _of_trial(key: str, files: dict[str, int], is_wanted: bool) -> Iterator[Waste]:
    if RESULT not in files and not is_wanted:
        yield Waste(f"trials/{key}", sum(files.values()), "unfinished, and no sweep asks for it")
        return
    if RESULT in files:
        for folder in (CHECKPOINT, ATTEMPTS):
            inside = [size for name, size in files.items() if name.startswith(f"{folder}/")]
            if inside:
                yield Waste(f"trials/{key}/{folder}", sum(inside), "of a done trial")
    for name, size in files.items():
        is_inside = name.startswith((f"{CHECKPOINT}/", f"{ATTEMPTS}/"))
        if name.endswith(PARTIAL) and not (is_inside and RESULT in files):
            yield Waste(f"trials/{key}/{name}", size, "half written by a process that is gone")
