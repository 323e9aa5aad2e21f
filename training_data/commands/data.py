"""Import, export, count, check and show records of conversations with skills."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import from_chats, generate, preview, validate
from .files import check_folders, progress

if TYPE_CHECKING:
    from ..records.report import Report
    from ..sequences import Sequences

__all__ = ["command"]

_FORMATS = "llava-plus llava llava-plus-labels scienceqa openthinkimg gta mnms openai".split()
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)

_report_option = click.option(
    "--report", type=_NEW_FILE, help="JSON file with every record that was repaired or refused."
)
_refused_option = click.option(
    "--refused", type=_NEW_FILE, help="Where refused records go.  [default: OUT.refused.jsonl]"
)
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the counts as one JSON object."
)


@click.group("data")
def command() -> None:
    """Import, export, count, check, show and generate training records.

    A record is one JSON object a line with `messages`, `tools` and `images`: what `chat` saves
    with /save, and what TRL reads. docs/records.md has the formats, and what becomes of them.
    """


command.add_command(validate.command)
command.add_command(preview.command)
command.add_command(generate.command)
command.add_command(from_chats.command)


@command.command("import")
@click.argument("sources", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--out", required=True, type=_NEW_FILE, help="The file of records, JSON lines.")
@click.option(
    "--from",
    "format",
    type=click.Choice(_FORMATS),
    help="The format of the files; recognised by their first records unless told.",
)
@click.option(
    "--images",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of images; may be repeated, the first that has one counts. Without it, names "
    "of images stay as they are.",
)
@_refused_option
@_report_option
@_json_option
def import_(
    sources: tuple[Path, ...],
    out: Path,
    format: str | None,
    roots: tuple[Path, ...],
    refused: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Turn FILEs of another format into records.

    Nothing is dropped silently: what was repaired, left out and refused is counted, and refused
    records are kept in a file with the reasons.
    """
    from ..records.transfer import Notes, import_files

    check_folders(out, refused, report)
    with progress(sources, quiet=as_json) as told:
        notes = Notes(refused or _beside(out), report, told)
        counts = import_files(sources, out, notes, format=format, roots=roots)
    _tell(counts, notes.refused, as_json=as_json)


@command.command("export")
@click.argument("records", type=_FILE)
@click.argument("out", type=_NEW_FILE)
@click.option(
    "--to",
    required=True,
    type=click.Choice(["llava-plus", "trl"]),
    help="llava-plus: one JSON array for its trainer; trl: JSON lines.",
)
@_refused_option
@_report_option
@_json_option
def export(
    records: Path,
    out: Path,
    to: str,
    refused: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Write RECORDS to OUT in another format."""
    from ..records.transfer import Notes, export_file

    check_folders(out, refused, report)
    with progress([records], quiet=as_json) as told:
        notes = Notes(refused or _beside(out), report, told)
        counts = export_file(records, out, notes, to=to)
    _tell(counts, notes.refused, as_json=as_json)


@command.command("stats")
@click.argument("records", type=_FILE)
@click.option("--plot", type=_NEW_FILE, help="Also draw them as a picture (needs matplotlib).")
@click.option(
    "--lmm",
    metavar="NAME",
    help="Also count tokens, and the share that is learned: embedded, a folder, or a name on the "
    "hub. Images are taken for 640 x 480 pixels.",
)
@_json_option
def stats(records: Path, plot: Path | None, lmm: str | None, as_json: bool) -> None:
    """Count calls, steps, lengths and images in RECORDS."""
    from ..records.report import Report
    from ..records.statistics import Statistics
    from ..records.transfer import read_records

    check_folders(plot)
    counted, report = Statistics(), Report()
    sequences = _sequences(lmm) if lmm else None
    with progress([records], quiet=as_json) as told:
        for record in read_records(records, report, told):
            counted.add(record, sequences.of(record, {}) if sequences else None)
    if plot:
        _draw(counted.draw, plot)
    figures = {**counted.figures(), "unreadable": report.refused}
    click.echo(json.dumps(figures, indent=2) if as_json else _lines(figures))


def _sequences(lmm: str) -> Sequences:
    from ..sequences import Sequences

    return Sequences(lmm, ranked=False)


def _lines(figures: dict[str, object]) -> str:
    """The figures, one a line."""
    return "\n".join(
        f"{name.replace('_', ' '):14} "
        + (
            ", ".join(f"{k} {v:,}" for k, v in value.items())
            if isinstance(value, dict)
            else f"{value:,}"
        )
        for name, value in figures.items()
    )


def _draw(draw: Callable[[Path], None], path: Path) -> None:
    try:
        draw(path)
    except ImportError as error:
        raise click.ClickException(
            '--plot needs matplotlib: pip install "llava-plus[plot]"'
        ) from error


def _beside(out: Path) -> Path:
    return out.with_name(f"{out.name}.refused.jsonl")


def _tell(counts: Report, refused: Path, *, as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        click.echo(json.dumps(counts.figures(), indent=2))
        return
    table = counts.table()
    if table.row_count:
        Console().print(table)
    click.echo(counts.summary())
    if counts.refused:
        click.echo(f"refused records: {refused}")
