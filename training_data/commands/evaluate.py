"""Measure how well a model picks skills and arguments."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

__all__ = ["command"]


@click.command("evaluate")
@click.argument(
    "cases", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--lmm", default="embedded", show_default=True, help="As in `llava-plus ask`.")
@click.option(
    "--unseen",
    type=click.IntRange(min=2),
    help="Requests for skills never trained on instead, with so many skills on offer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first cases.")
def command(
    cases: Path | None, lmm: str, unseen: int | None, as_json: bool, limit: int | None
) -> None:
    """Let the model plan held-out requests and compare its first call with the right one.

    CASES is a JSON-lines file with `id`, `request`, `images`, `expect` and, where the case
    brings its own, `tools`. Without it the requests that ship with the project are used.
    """
    from rich.progress import Progress

    from ...agent.session import open_lmm
    from ..evaluate import HELD_OUT, describe, evaluate, read_cases
    from ..unseen import unseen_cases

    chosen = unseen_cases(unseen) if unseen else read_cases(cases or HELD_OUT)
    chosen = chosen[:limit]
    model = open_lmm(lmm, "cpu")
    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task("planning", total=len(chosen))
        report = asyncio.run(evaluate(model, chosen, lambda verdict: bar.advance(task)))
    if as_json:
        figures = {**report.figures(), "by_skill": report.by_skill()}
        click.echo(json.dumps({**figures, "cases": len(chosen)}, indent=2))
    else:
        click.echo("\n".join(describe(report)))
