"""`sweep data`: getting corpora, and seeing which are there."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from data.cache import load
from data.corpus import SPLITS, CorpusConfig
from data.fetch import fetch, import_corpus
from sweep.config import ConfigError, parse_group, plain
from sweep.document import NAME, choices, named
from sweep.options import Corpora, Json

app = typer.Typer(help="Get corpora and see which are there.", no_args_is_help=True)

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A corpus of conf/data/.")],
    corpora: Corpora = Path("corpora"),
    force: Force = False,
) -> None:
    """Download a corpus from its publisher and check it. Example: [bold]sweep data fetch ptb[/]"""
    folder = fetch(_config(name), corpora, force=force)
    sys.stdout.write(f"{name} is in {folder}\n")


@app.command("import")
def import_command(
    name: Annotated[str, typer.Argument(help="A corpus of conf/data/, or a new name for text of your own.")],
    folder: Annotated[Path, typer.Argument(help="With train.txt, valid.txt and test.txt, one text a line.")],
    corpora: Corpora = Path("corpora"),
    force: Force = False,
) -> None:
    """Take text files that you have. Example: [bold]sweep data import mytext ~/mytext[/]"""
    imported = import_corpus(_config(name), folder, corpora, force=force)
    for remark in imported.remarks:
        sys.stderr.write(f"warning: {remark}\n")
    sys.stdout.write(f"{name} is in {imported.folder}\n{json.dumps(imported.facts, indent=1)}\n")


@app.command("list")
def list_command(corpora: Corpora = Path("corpora"), as_json: Json = False) -> None:
    """Show every corpus that has a name, and whether its text is here. Example: [bold]sweep data list[/]"""
    rows = [_row(name, corpora) for name in _names(corpora)]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("corpus", "sentences", "tokens", "words", "hash", "licence, or how to get it"):
        table.add_column(heading, no_wrap=not heading.startswith("licence"))
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("name", "sentences", "tokens", "vocabulary", "hash", "note")))
    Console(width=max(Console().width, 120)).print(table)


def _names(corpora: Path) -> list[str]:
    """Named choices, and folders that were imported under a name of their own."""
    own = [path.name for path in corpora.glob("*/") if NAME.fullmatch(path.name)] if corpora.is_dir() else []
    return sorted({*choices("data"), *own})


def _config(name: str) -> CorpusConfig:
    document = named("data", name) if name in choices("data") else {"kind": "lines", "name": name}
    try:
        config: CorpusConfig = parse_group("data", document)
    except ConfigError as error:
        raise ValueError(f"corpus '{plain(name)}': {error.problem}") from None
    return config


def _row(name: str, corpora: Path) -> dict[str, object]:
    config = _config(name)
    try:
        corpus = load(config, corpora)
    except ValueError as error:
        return {"name": name, "sentences": "–", "tokens": "–", "vocabulary": "–", "hash": "–", "note": str(error)}
    return {
        "name": name,
        "sentences": " / ".join(f"{corpus.splits[split].num_sentences:,}" for split in SPLITS),
        "tokens": " / ".join(f"{corpus.splits[split].num_tokens:,}" for split in SPLITS),
        "vocabulary": len(corpus.vocabulary),
        "hash": corpus.content_hash[:12],
        "note": config.licence,
    }
