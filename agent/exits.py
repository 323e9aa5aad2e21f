"""How a command that went wrong ends: one line or one JSON object, and an exit code."""

from __future__ import annotations

import json
import os
import sys

import click

from ..skills.errors import BadConfiguration, BadInput, LlavaPlusError, UnknownSkill

__all__ = ["FAILED", "MISUSED", "exit_code", "report"]

FAILED = 1
MISUSED = 2
_CANCELLED = 130


def exit_code(error: LlavaPlusError) -> int:
    """2 for what whoever typed the command can correct, else 1."""
    correctable = isinstance(error, BadInput | BadConfiguration | UnknownSkill)
    return MISUSED if correctable else FAILED


def report(error: BaseException, *, as_json: bool) -> int:
    """Say what went wrong, and give the exit code. A fault of ours is raised when debugging."""
    match error:
        case click.Abort() | KeyboardInterrupt():
            return _tell("Cancelled", "stopped", _CANCELLED, as_json=False)
        case click.ClickException():
            return _tell("WrongUsage", error.format_message(), MISUSED, as_json=as_json)
        case LlavaPlusError():
            return _tell(error.kind, str(error), exit_code(error), as_json=as_json)
        case BrokenPipeError():
            # Whoever read our output wants no more; python would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
    if "LLAVA_PLUS_DEBUG" in os.environ or not isinstance(error, Exception):
        raise error
    kind = type(error).__name__
    hint = "" if isinstance(error, OSError) else " (LLAVA_PLUS_DEBUG=1 shows where)"
    return _tell(kind, f"{kind}: {error}{hint}", FAILED, as_json=as_json)


def _tell(kind: str, message: str, code: int, *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"error": {"kind": kind, "message": message}}, ensure_ascii=False))
    click.echo(f"error: {message}", err=True)
    return code
