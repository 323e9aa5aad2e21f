"""Check records before they are trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .files import check_apart, check_folders, progress

if TYPE_CHECKING:
    from ..validation.report import Validation

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("validate")
@click.argument("records", type=_FILE)
@click.option(
    "--against",
    multiple=True,
    type=_FILE,
    metavar="OTHER",
    help="Records of another split, with which there must be nothing in common; may be repeated.",
)
@click.option("--longest", type=click.IntRange(min=1), help="Tokens that a record may have.")
@click.option("--lmm", default="embedded", show_default=True, help="Whose tokens --longest counts.")
@click.option("--no-images", is_flag=True, help="Open no image.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--findings", type=_NEW_FILE, help="JSON-lines file of every finding.")
@click.option("--clean", type=_NEW_FILE, metavar="OUT", help="Write the records without errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
@click.pass_context
def command(
    context: click.Context,
    records: Path,
    against: tuple[Path, ...],
    longest: int | None,
    lmm: str,
    no_images: bool,
    strict: bool,
    findings: Path | None,
    clean: Path | None,
    as_json: bool,
) -> None:
    """Check calls, handles, answers, images and repetitions in RECORDS.

    Exits with 1 when a record has an error. docs/records.md lists the checks.
    """
    from ..validation.run import Demands, validate

    check_folders(findings, clean)
    for source in (records, *against):
        check_apart(source, findings, clean)
    demands = Demands(
        images=not no_images, against=against, lmm=lmm, longest=longest, strict=strict
    )
    with progress([records], quiet=as_json) as told:
        validation = validate(records, demands, findings=findings, clean=clean, told=told)
    _tell(validation, findings, clean, as_json=as_json)
    context.exit(1 if validation.failed else 0)


def _tell(
    validation: Validation, findings: Path | None, clean: Path | None, *, as_json: bool
) -> None:
    from rich.console import Console

    if as_json:
        click.echo(json.dumps(validation.figures(), indent=2))
        return
    if validation.findings:
        Console().print(validation.table())
    click.echo(validation.summary())
    for path, counts in validation.others.items():
        click.echo(f"held against {path}: {counts['records']:,} records")
        if counts["unreadable"]:
            click.echo(f"  of which {counts['unreadable']:,} could not be read")
    if findings and validation.findings:
        click.echo(f"findings: {findings}")
    if clean:
        left_out = validation.read - validation.written
        click.echo(f"{clean}: {validation.written:,} records, {left_out:,} left out")
        for name, count in validation.left_out.most_common():
            click.echo(f"  left out of records: {name} {count:,}")
