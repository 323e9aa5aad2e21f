"""Show records, and what training learns of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from .files import check_apart, check_folders

if TYPE_CHECKING:
    from ..preview.shown import Shown
    from ..preview.tokens import Stretch

__all__ = ["command"]


@click.command("preview")
@click.argument("records", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--id", help="The record with this id.")
@click.option("--number", type=click.IntRange(min=1), help="The record on this line.")
@click.option("--count", type=click.IntRange(min=1), default=1, help="So many from there on.")
@click.option(
    "--lmm",
    default="embedded",
    show_default=True,
    help="Whose training sequence is shown: a folder or a name on the hub.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page instead, with images and every token.",
)
@click.pass_context
def command(
    context: click.Context,
    records: Path,
    id: str | None,
    number: int | None,
    count: int,
    lmm: str,
    html: Path | None,
) -> None:
    """Show RECORDS: who said what, and with --html or --lmm what training learns of it.

    What is learned is green: thoughts, calls, answers and the ends of turns in shades of it.
    """
    from ..preview.shown import chosen

    if id is not None and (number or count > 1):
        raise click.UsageError("--id names one record: leave out --number and --count")
    check_folders(html)
    check_apart(records, html)
    shown = chosen(records, id=id, first=number or 1, count=count)
    if html:
        _write(shown, records.name, lmm, html)
    else:
        asked = context.get_parameter_source("lmm") is not ParameterSource.DEFAULT
        _print(shown, lmm if asked else None)


def _write(shown: Iterable[Shown], title: str, lmm: str, html: Path) -> None:
    from ..preview.page import write_page
    from ..sequences import Sequences

    count = write_page(html, title, shown, Sequences(lmm))
    click.echo(f"{html}: {count:,} {'record' if count == 1 else 'records'}")


def _print(shown: Iterable[Shown], lmm: str | None) -> None:
    """Each record; where a model is named, its training sequence too."""
    from rich.console import Console

    from ..preview.terminal import print_record, print_tokens

    console = Console()
    tokens = _tokens(lmm) if lmm else None
    for one in shown:
        print_record(console, one)
        if tokens:
            print_tokens(console, tokens(one))


def _tokens(lmm: str) -> Callable[[Shown], list[Stretch]]:
    """Gives the training sequence of a record, as a model would read it."""
    from ..preview.tokens import stretches
    from ..sequences import Sequences

    sequences = Sequences(lmm)
    tokenizer = sequences.renderer.tokenizer
    return lambda one: stretches(sequences.of(one.record, one.sizes), tokenizer)
