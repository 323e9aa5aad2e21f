"""`llava-plus ask`: one request, or a file of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from ...skills.errors import BadInput
from ...skills.geometry import Corners, Position
from ..exits import exit_code
from ..outputs import Outputs
from ..report import plain
from ..session import Session, SessionOptions, open_session
from .batch import answer_batch
from .marks import Marking, with_marks
from .narrator import Narrator, show_call
from .options import out_option, session_options, with_session_options
from .requests import Answered, Asked, Request, answer_request, plan_request, save_answered

__all__ = ["command"]

_File = click.Path(dir_okay=False, exists=True, path_type=Path)
_Tools = tuple[dict[str, Any], ...]


@click.command("ask")
@click.argument("words", nargs=-1, metavar="[IMAGE]... REQUEST")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--plan", is_flag=True, help="Print the first calls and run none of them.")
@click.option(
    "--tools",
    type=_File,
    metavar="FILE",
    help="With --plan: offer the skills in this JSON file (OpenAI's `tools`) instead.",
)
@click.option(
    "--batch",
    type=_File,
    metavar="FILE",
    help='Answer each line {"images": [...], "request": "..."} of this file with a JSON object.',
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add what was answered to FILE as training records, images beside it.",
)
@with_marks
@out_option
@with_session_options
def command(
    words: tuple[str, ...],
    as_json: bool,
    plan: bool,
    tools: Path | None,
    batch: Path | None,
    save: Path | None,
    boxes: tuple[Corners, ...],
    points: tuple[Position, ...],
    sketch: Path | None,
    out: Path,
    **options: Any,
) -> int:
    """Answer REQUEST about the IMAGEs, using skills; all is shown as it happens.

    Exit codes: 0 answered, 1 failed (or a line of a batch did), 2 wrong usage or bad input.
    """
    if tools and not plan:
        raise click.UsageError("--tools only goes with --plan: there is nothing to run them")
    if save and plan:
        raise click.UsageError("--save does not go with --plan: a plan is no finished conversation")
    if save and not save.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {save.parent} to save into")
    offered = _read_tools(tools) if tools else None
    if offered is not None:
        options["skills"] = ()  # so that those installed are not even imported
    chosen = session_options(**options, plan=plan)
    marking = Marking(boxes=boxes, points=points, sketch=sketch)
    if batch:
        if words or marking != Marking():
            raise click.UsageError("--batch takes images, marks and requests from its file alone")
        return asyncio.run(answer_batch(batch, chosen, out, tools=offered, save=save))
    request = _request(words, offered, marking)
    return asyncio.run(_ask(request, chosen, out, as_json=as_json, save=save))


def _request(words: tuple[str, ...], tools: _Tools | None, marking: Marking) -> Request:
    if not words:
        raise click.UsageError("say what to do: llava-plus ask [IMAGE]... REQUEST")
    *images, request = words
    if not images and Path(request).is_file():
        raise click.UsageError(f"{request} is a file: put the request behind it, in quotes")
    return Request(request=request, images=tuple(map(Path, images)), tools=tools, **dict(marking))


def _read_tools(path: Path) -> _Tools:
    try:
        tools = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON: {error}") from error
    if not isinstance(tools, list):
        raise BadInput(f"{path} holds no list in the form of OpenAI's `tools`")
    return tuple(tools)


async def _ask(
    request: Request, options: SessionOptions, out: Path, *, as_json: bool, save: Path | None
) -> int:
    """Answer one request and show it; gives the exit code."""
    asked = Asked.of(request, plan=options.plan)
    outputs = Outputs(out, request.images[0].stem if request.images else "image")
    async with open_session(options) as session:
        asked = asked.offering(session.skills)
        if options.plan:
            return await _plan(asked, session, as_json=as_json)
        if as_json:
            answered = await answer_request(asked, session, outputs)
        else:
            answered = await answer_request(asked, session, outputs, Narrator())
    if save:
        save_answered(answered, asked, save)
    if answered.error and not as_json:
        raise answered.error
    if as_json:
        _show(answered)
    return exit_code(answered.error) if answered.error else 0


async def _plan(asked: Asked, session: Session, *, as_json: bool) -> int:
    uses, answered = await plan_request(asked, session)
    if as_json:
        _show(answered)
        return 0
    for use in uses:
        show_call(use)
    if not uses:
        click.echo(plain(answered.report["answer"] or ""))
    return 0


def _show(answered: Answered) -> None:
    click.echo(json.dumps(answered.report, ensure_ascii=False))
    if answered.error:
        click.echo(f"error: {answered.error}", err=True)
