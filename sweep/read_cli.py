"""The commands that read the latent space of a trained model: sample, interpolate, reconstruct."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from model import host
from model.beam import Beam
from model.decode import Decoding, Greedy, Sample
from sweep.additions import add
from sweep.config import explain, unknown
from sweep.mirror import default_uri
from sweep.options import (
    DEFAULT_CORPORA,
    DEFAULT_RESULTS,
    Corpora,
    Json,
    Key,
    NoTracking,
    Results,
    Tracking,
    say,
)
from sweep.points import searched
from sweep.reading import Reading, Speech, Trained, about, read_trained
from sweep.reconstruction import ORIGINS, reconstruct
from sweep.record import WantedTrial
from sweep.sampling import PRIORS, interpolate, sample_posterior, sample_prior
from sweep.store import READING, TrialStore
from sweep.trial import default_device

if TYPE_CHECKING:
    from sweep.tracking import Experiment

app = typer.Typer(rich_markup_mode="rich")
DECODINGS: Mapping[str, type[Decoding]] = {"greedy": Greedy, "sample": Sample, "beam": Beam}

How = Annotated[str, typer.Option("--decoding", help=f"One of {', '.join(DECODINGS)}.")]
Temperature = Annotated[float | None, typer.Option(help="Of sample: p^(1 / temperature); 1 by default.")]
TopK = Annotated[int | None, typer.Option(help="Of sample: the most probable words alone, so many.")]
TopP = Annotated[float | None, typer.Option(help="Of sample: of those the fewest that have this share.")]
Width = Annotated[int | None, typer.Option("--beam-width", help="Of beam; 5 by default.")]
Penalty = Annotated[
    float | None, typer.Option("--length-penalty", help="Of beam: log p / length^penalty; 0 by default.")
]
Longest = Annotated[int | None, typer.Option("--max-length", min=1, help="Predicted tokens; by default as in train.")]
Seed = Annotated[int, typer.Option(min=0, help="Of whatever is drawn.")]
SplitName = Annotated[str, typer.Option("--split", help="Where sentences come from: train, valid or test.")]
Out = Annotated[Path | None, typer.Option(help="A file for what is printed.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one by default.")]


@app.command("sample")
def sample_command(
    key: Key,
    num: Annotated[int, typer.Option(min=1, help="Sentences.")] = 10,
    origin: Annotated[str, typer.Option("--from", help="prior, posterior or its mean.")] = "prior",
    latents: Annotated[
        str | None, typer.Option(help=f"Of the prior, for averaged states: {', '.join(PRIORS)}; the first by default.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="For each sentence; not of the prior.")] = 1,
    how: Annotated[str | None, typer.Option("--decoding", help=f"One of {', '.join(DECODINGS)}.")] = None,
    temperature: Temperature = None, top_k: TopK = None, top_p: TopP = None, width: Width = None,
    penalty: Penalty = None, longest: Longest = None, seed: Seed = 0, split: SplitName = "test", out: Out = None,
    device: Device = None, results: Results = DEFAULT_RESULTS, corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None, no_tracking: NoTracking = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Sentences from a trained model. Example: [bold]sweep sample 3f0c --from posterior[/]

    Decoding is greedy by default; of a language model, for which that is always the same sentence, words are drawn.
    """
    if latents is not None and origin != "prior":
        raise ValueError(f"--latents is a way to draw from the prior, and this is --from {origin}; leave it out")
    given = Options(temperature, top_k, top_p, width, penalty)
    desk = Desk.open(key, results, corpora, device, tracking, no_tracking, out, as_json)
    default = "greedy" if desk.trained.model.latents_per_sentence else "sample"
    speech = Speech(given.decoding(how or default), longest, seed)
    if origin == "prior":
        desk.keep(sample_prior(desk.trained, latents or next(iter(PRIORS)), num, speech))
        return
    desk.keep(sample_posterior(desk.trained, origin, split, num, draws, speech))


@app.command("interpolate")
def interpolate_command(
    key: Key,
    first: Annotated[str, typer.Argument(help="A sentence, its words between spaces.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    steps: Annotated[int, typer.Option(min=2, help="Sentences along the way, both ends among them.")] = 7,
    how: How = "greedy", temperature: Temperature = None, top_k: TopK = None, top_p: TopP = None, width: Width = None,
    penalty: Penalty = None, longest: Longest = None, seed: Seed = 0, out: Out = None,
    device: Device = None, results: Results = DEFAULT_RESULTS, corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None, no_tracking: NoTracking = False, as_json: Json = False,
) -> None:  # fmt: skip
    """The way between two sentences in the latent space. [bold]sweep interpolate 3f0c "a cat sleeps" "we left"[/]"""
    speech = Speech(Options(temperature, top_k, top_p, width, penalty).decoding(how), longest, seed)
    desk = Desk.open(key, results, corpora, device, tracking, no_tracking, out, as_json)
    desk.keep(interpolate(desk.trained, (first, second), steps, speech))


@app.command("reconstruct")
def reconstruct_command(
    key: Key,
    origin: Annotated[str, typer.Option("--from", help=f"Of the posterior: {', '.join(ORIGINS)}.")] = "sample",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many sentences, the first.")] = None,
    how: How = "greedy", temperature: Temperature = None, top_k: TopK = None, top_p: TopP = None, width: Width = None,
    penalty: Penalty = None, longest: Longest = None, seed: Seed = 0, split: SplitName = "test", out: Out = None,
    device: Device = None, results: Results = DEFAULT_RESULTS, corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None, no_tracking: NoTracking = False, as_json: Json = False,
) -> None:  # fmt: skip
    """How much of sentences comes back from their latents. Example: [bold]sweep reconstruct 3f0c --from mean[/]"""
    speech = Speech(Options(temperature, top_k, top_p, width, penalty).decoding(how), longest, seed)
    desk = Desk.open(key, results, corpora, device, tracking, no_tracking, out, as_json)
    desk.keep(reconstruct(desk.trained, origin, split, limit, speech))


@dataclass(frozen=True)
class Options:
    """Of ways to decode, as given on the command line; None for what was not."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beam_width: int | None = None
    length_penalty: float | None = None

    def decoding(self, name: str) -> Decoding:
        """Raises ValueError for a name that is not known, an option of another way, or a value that it cannot have."""
        if name not in DECODINGS:
            raise ValueError(unknown("way of decoding", name, DECODINGS))
        given = {option: value for option, value in asdict(self).items() if value is not None}
        for option in given.keys() - DECODINGS[name].model_fields.keys():
            owner = next(each for each, way in DECODINGS.items() if option in way.model_fields)
            flag = f"--{option.replace('_', '-')}"
            raise ValueError(f"{flag} is of --decoding {owner}, and this is {name}; leave it out, or ask for {owner}")
        try:
            return DECODINGS[name].model_validate(given)
        except ValidationError as error:
            raise explain(error, DECODINGS[name], given) from None


@dataclass(frozen=True)
class Desk:
    """Where a reading is made, and where it goes. uri: of MLflow, if any."""

    store: TrialStore
    trained: Trained
    uri: str | None
    out: Path | None
    as_json: bool

    @classmethod
    def open(
        cls, key: str, results: str, corpora: Path, device: str | None, tracking: str | None, no_tracking: bool,
        out: Path | None, as_json: bool,
    ) -> "Desk":  # fmt: skip
        """Raises ValueError when there is no such trial, when it cannot be read, or nothing be written to `out`."""
        if out is not None and not out.absolute().parent.is_dir():
            raise ValueError(f"--out {out}: there is no folder {out.parent}; make it, or give another place")
        uri = None if no_tracking else tracking or default_uri(results)
        store = TrialStore(results)
        host.set_up()
        return cls(store, read_trained(store, store.find(key), corpora, device or default_device()), uri, out, as_json)

    def keep(self, reading: Reading) -> None:
        """Print it, and put it beside the trial and into MLflow; a warning where that did not work."""
        whole, key = reading.after(about(self.store, self.trained)), self.trained.key
        contents = {"txt": "\n".join(whole.lines) + "\n", "json": json.dumps(whole.facts, indent=1) + "\n"}
        printed = contents["json" if self.as_json else "txt"]
        say(printed.rstrip("\n"))
        if self.out is not None:
            self.out.write_text(printed, encoding="utf-8")
        files = {f"{READING}/{whole.name}.{suffix}": content for suffix, content in contents.items()}
        try:
            for name, content in files.items():
                self.store.trial(key).publish(name, content.encode())
        except OSError as error:
            _warn(f"{self.store.trial(key)} does not take it ({error.strerror or error}), so that it is printed alone")
            return
        if self.uri is not None:
            mirror(self.uri, self.store, key, list(files))


def mirror(uri: str, store: TrialStore, key: str, names: Sequence[str]) -> None:
    """Log files of a trial as artifacts of its own run in each sweep that wants it; a warning where that fails.

    names: in the trial's folder of the store.
    """
    for record in store.all_recorded():
        trial = {**{each.key: each for _, each in searched(store, record)}, **record.wanted}.get(key)
        if trial is not None:
            problem = add(uri, record, store, _keeping(trial, names), "what was read")
            if problem:
                _warn(problem)


def _keeping(trial: WantedTrial, names: Sequence[str]) -> Callable[["Experiment"], None]:
    return lambda mlflow: mlflow.keep_readings(trial, names)


def _warn(sentence: str) -> None:
    typer.echo(f"warning: {sentence}", err=True)
