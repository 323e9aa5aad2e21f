"""Telling a turn at the terminal while it happens."""

from __future__ import annotations

import click

from ...skills.calls import SkillUse
from ..loop import (
    CallProgressed,
    CallsDecided,
    ResultArrived,
    StepFinished,
    TextDelta,
    TextWithdrawn,
    TurnEvent,
    TurnFinished,
)
from ..outputs import Written
from ..report import call_text, plain, result_text
from .status_line import StatusLine

__all__ = ["Narrator", "show_call"]


class Narrator:
    """Writes calls, results in short, files and the answer to standard output.

    At a terminal, a last line tells how far the calls have come that still run.
    """

    def __init__(self) -> None:
        self._in_text = False
        self._status = StatusLine()
        self._running: dict[str, str] = {}

    def __call__(self, event: TurnEvent, written: list[Written]) -> None:
        """Show one event, and the files that were written because of it."""
        self._status.clear()
        match event:
            case TextDelta(text):
                click.echo(plain(text), nl=False)
                self._in_text = True
            case TextWithdrawn():
                self._end_text()
                click.secho("(that reply broke off; it is asked for again)", dim=True)
            case CallsDecided(uses):
                self._end_text()
                for use in uses:
                    show_call(use)
            case CallProgressed(use, progress):
                far = f"{use.name}: {progress.done} of {progress.total} {progress.what}"
                self._running[use.id] = plain(far)
            case ResultArrived():
                self._running.pop(event.result.id, None)
                self._show_result(event)
            case StepFinished() | TurnFinished():
                self._running.clear()
                self._end_text()
        for file in written:
            click.echo(f"  {click.style('wrote', fg='blue')} {file.path} ({file.shows})")
        self._status.show(", ".join(self._running.values()))

    def _show_result(self, event: ResultArrived) -> None:
        colour = "red" if event.result.error else "green"
        first, *rest = result_text(event.result).split("\n")
        name = click.style(f"← {event.result.name}", fg=colour)
        click.echo(f"{name} {first} {click.style(f'{event.seconds:.2f} s', dim=True)}")
        for line in rest:
            click.echo(f"  {line}")

    def _end_text(self) -> None:
        if self._in_text:
            click.echo()
        self._in_text = False


def show_call(use: SkillUse) -> None:
    """Show a call that is made or planned."""
    click.secho(f"→ {call_text(use)}", fg="cyan")
