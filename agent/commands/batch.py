"""`llava-plus ask --batch`: a file of requests, one JSON object for each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ...skills.errors import LlavaPlusError
from ..exits import FAILED
from ..outputs import Outputs
from ..report import error_object
from ..session import Session, SessionOptions, open_session
from .requests import Answered, Asked, Request, answer_request, plan_request, save_answered

__all__ = ["answer_batch"]


async def answer_batch(
    path: Path,
    options: SessionOptions,
    out: Path,
    *,
    tools: tuple[dict[str, Any], ...] | None = None,
    save: Path | None = None,
) -> int:
    """Print an object for each line of the file at `path`, in order; gives the exit code.

    Image paths count from the file's folder, and `tools` go with lines that bring none. A line
    that fails becomes an object with `error` and stops no other; empty lines are passed over. What
    was answered is added to the file `save` as records.
    """
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    failed = 0
    async with open_session(options) as session:
        for number, line in enumerate(_with_progress(lines), 1):
            try:
                request = Request.parse(line, path.parent)
                if request.tools is None:
                    request = request.model_copy(update={"tools": tools})
                answered = await _answer(
                    request, number, session, out, plan=options.plan, save=save
                )
            except LlavaPlusError as error:
                answered = Answered(error_object(error), error=error)
            failed += answered.error is not None
            click.echo(json.dumps(answered.report, ensure_ascii=False))
    return FAILED if failed else 0


async def _answer(
    request: Request, number: int, session: Session, out: Path, *, plan: bool, save: Path | None
) -> Answered:
    asked = Asked.of(request, plan=plan).offering(session.skills)
    if plan:
        return (await plan_request(asked, session))[1]
    name = request.images[0].stem if request.images else "image"
    answered = await answer_request(asked, session, Outputs(out, f"{number:04}-{name}"))
    if save:
        save_answered(answered, asked, save)
    return answered


def _with_progress(lines: Sequence[bytes]) -> Iterator[bytes]:
    """The lines, counted on standard error while they are worked on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(lines)
