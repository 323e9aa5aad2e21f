"""Telling a turn at the terminal while it happens."""

from __future__ import annotations

import click

from ...skills.calls import SkillUse
from ..loop import (
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

__all__ = ["Narrator", "show_call"]


class Narrator:
    """Writes calls, results in short, files and the answer to standard output."""

    def __init__(self) -> None:
        self._in_text = False

    def __call__(self, event: TurnEvent, written: list[Written]) -> None:
        """Show one event, and the files that were written because of it."""
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
            case ResultArrived():
                self._show_result(event)
            case StepFinished() | TurnFinished():
                self._end_text()
        for file in written:
            click.echo(f"  {click.style('wrote', fg='blue')} {file.path} ({file.shows})")

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
