"""Measure how well a model picks skills and arguments."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...model.lmm import LMM
    from ..evaluate import Case, Report

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
@click.option(
    "--looks",
    type=click.IntRange(min=1),
    help="Ask so many questions about rendered scenes instead.",
)
@click.option(
    "--baseline",
    type=click.Choice(["word-overlap", "bag-of-words"]),
    help="A plain way to pick skills, in the model's place.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the report as a page.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first cases.")
def command(
    cases: Path | None,
    lmm: str,
    unseen: int | None,
    looks: int | None,
    baseline: str | None,
    html: Path | None,
    as_json: bool,
    limit: int | None,
) -> None:
    """Let the model play held-out requests with made-up findings, and compare with what is right.

    CASES is a JSON-lines file with `id`, `request`, `images`, `expect`, `then` and, where the
    case brings its own, `tools`; with --unseen it is a file of skills and requests as in
    bank/invented. Without it those that ship with the project are used.
    """
    from ..evaluate import describe

    chosen_lmm = click.get_current_context().get_parameter_source("lmm")
    if baseline and chosen_lmm is not ParameterSource.DEFAULT:
        raise click.UsageError("--baseline takes the place of a model: leave out --lmm")
    if looks:
        _only("--looks", cases=cases, unseen=unseen, html=html, limit=limit)
        _look(_open(lmm, baseline), looks, as_json=as_json)
        return
    if html and not html.parent.is_dir():
        raise click.UsageError(f"--html: there is no folder {html.parent}")
    chosen = _cases(cases, unseen)[:limit]
    report = _play(_open(lmm, baseline), chosen, html, quiet=as_json)
    if as_json:
        figures = {**report.figures(), "by_skill": report.by_skill()}
        click.echo(json.dumps({**figures, "cases": len(chosen)}, indent=2))
    else:
        click.echo("\n".join(describe(report)))


def _only(option: str, **others: object) -> None:
    for name, value in others.items():
        if value is not None:
            shown = name.upper() if name == "cases" else f"--{name}"
            raise click.UsageError(f"{option} asks its own questions: leave out {shown}")


def _cases(path: Path | None, unseen: int | None) -> list[Case]:
    from ..evaluate import HELD_OUT, read_cases
    from ..unseen import UNSEEN, unseen_cases

    return unseen_cases(unseen, path or UNSEEN) if unseen else read_cases(path or HELD_OUT)


def _play(model: LMM, cases: Sequence[Case], html: Path | None, *, quiet: bool) -> Report:
    from rich.progress import Progress

    from ..evaluate import evaluate
    from ..report import write_page

    with Progress(transient=True, disable=quiet) as bar:
        task = bar.add_task("planning", total=len(cases))
        report = asyncio.run(evaluate(model, cases, lambda verdict: bar.advance(task)))
    if html:
        write_page(report, model.name, html)
    return report


def _look(lmm: LMM, count: int, *, as_json: bool) -> None:
    from rich.progress import Progress

    from ..evaluate import interval
    from ..looks import evaluate_looks

    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task("looking", total=count)
        seen = asyncio.run(evaluate_looks(lmm, count, progress=lambda: bar.advance(task)))
    good, asked = (sum(column) for column in zip(*seen.values(), strict=True))
    if as_json:
        click.echo(json.dumps({**seen, "all": (good, asked)}, indent=2))
        return
    for kind, (right, of) in [*seen.items(), ("all", (good, asked))]:
        low, high = interval(right, of)
        click.echo(f"{kind:12} {right / of:6.1%}  ({low:.1%} to {high:.1%}; {right} of {of})")


def _open(lmm: str, baseline: str | None) -> LMM:
    from ...agent.session import open_lmm
    from ..baselines import BagOfWords, WordOverlap

    if baseline:
        return WordOverlap() if baseline == "word-overlap" else BagOfWords()
    return open_lmm(lmm, "cpu")
