"""The command that measures more of finished trials, from their best weights, without training again."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sweep.evaluating import Work, evaluate, plan_evaluation
from sweep.evaluation import EvaluationSettings
from sweep.exits import INTERRUPTED
from sweep.mirror import default_uri
from sweep.options import (
    DEFAULT_CORPORA,
    DEFAULT_RESULTS,
    Address,
    Corpora,
    Json,
    Name,
    NoTracking,
    NumCpus,
    Results,
    Tracking,
    command,
    say,
    say_json,
)
from sweep.plan import brief_results_of, count_states, evaluations_of
from sweep.render import render
from sweep.run import RunOptions, tables_of
from sweep.store import TrialStore

EVALUATED = "nll,strict,kl,mi,active_units"
"""Columns that are printed, and beside the bound its importance-weighted form where that was asked for."""
app = typer.Typer(rich_markup_mode="rich")


@app.command("evaluate")
def evaluate_command(
    name: Name,
    draws: Annotated[
        int | None,
        typer.Option("--iw", min=0, help="Draws K of the importance-weighted NLL of the test split; 0: none."),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Draws S of the latents a sentence, for bounds.")] = None,
    fit: Annotated[
        str | None, typer.Option(help="Split on which the exchangeable prior is fitted: train or valid.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    corpora: Corpora = DEFAULT_CORPORA,
    tracking: Tracking = None,
    no_tracking: NoTracking = False,
    address: Address = None,
    num_cpus: NumCpus = None,
    as_json: Json = False,
) -> None:
    """Measure more of what is done, from its best weights. Example: [bold]sweep evaluate demo --iw 500[/]

    Strict bounds, the importance-weighted NLL, and whether the latents are used; `sweep table --columns` shows them.

    Settings that are not given are those of the sweep's last evaluation. What is measured already is not measured
    again; stop it, or lose it, and the same command goes on.
    """
    uri = None if no_tracking else tracking or default_uri(results)
    store = TrialStore(results)
    record = store.recorded(name)
    settings = _settings(store.evaluated(name) or EvaluationSettings(), draws, samples, fit)
    work = plan_evaluation(record, store, settings)
    notes = Console(stderr=True)
    notes.print(Text(_line(work)), soft_wrap=True)
    try:
        code = evaluate(work, store, RunOptions(corpora, uri, address, num_cpus), notes)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if as_json:
        say_json([asdict(evaluation) for evaluation in evaluations_of(record, store).values()])
    else:
        columns = EVALUATED.replace("strict", "strict,strict_iw") if settings.draws else EVALUATED
        say(render(tables_of(record, store, brief_results_of(record, store), columns), "text").rstrip("\n"))
    _say_end(work, store, code, notes, results)
    raise typer.Exit(code)


def _settings(
    last: EvaluationSettings, draws: int | None, samples: int | None, fit: str | None
) -> EvaluationSettings:  # fmt: skip
    given = {"draws": draws, "samples": samples, "fit": fit}
    if fit not in (None, "train", "valid"):
        raise ValueError(f"the exchangeable prior is fitted on train or valid, never on test; --fit {fit} is neither")
    return EvaluationSettings.model_validate(
        {**last.model_dump(), **{key: value for key, value in given.items() if value is not None}}
    )


def _line(work: Work) -> str:
    settings, total = work.settings, len(work.results)
    weighted = f", K = {settings.draws}" if settings.draws else ", without importance weighting (--iw 500)"
    wanted = len(work.record.wanted)
    undone = f"; {wanted - total} trials are not done and are left out" if wanted > total else ""
    return (
        f"{work.record.name}: {total} trials to evaluate, {total - len(work.missing)} evaluated "
        f"(S = {settings.samples}{weighted}){undone}"
    )


def _say_end(work: Work, store: TrialStore, code: int, notes: Console, results: str) -> None:
    counts = count_states(store.evaluations(work.settings).states(work.results))
    name = work.record.name
    if code == INTERRUPTED:
        again = command("evaluate", name, results=results)
        notes.print(
            Text(f"stopped with {sum(counts.values()) - counts['done']} left; '{again}' continues"), soft_wrap=True
        )
    for key in work.results if counts["failed"] else ():
        evaluations = store.evaluations(work.settings)
        if evaluations.state(key) == "failed":
            failure = evaluations.failure(key)
            notes.print(
                Text(f"failed: {work.record.wanted[key].name}: {failure.kind}: {failure.message}"), soft_wrap=True
            )
    notes.print(Text(f"tables: {store.sweep(name)}/table.{{txt,md,tex,html,csv,json}}"), soft_wrap=True)
