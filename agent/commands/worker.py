"""`llava-plus worker`: serve skills over HTTP."""

from __future__ import annotations

import os

import click

from ...skills.readiness import usable_skills
from ...skills.wire import SECRET_VARIABLE
from ...skills.worker import LOOPBACK
from ...skills.worker import main as serve_skills

__all__ = ["command"]


@click.command("worker")
@click.argument("names", nargs=-1, metavar="[SKILL]...")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Where skills put their weights.")
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="How much the weights may take; beyond it the longest unused skill is unloaded.",
)
def command(names: tuple[str, ...], host: str, port: int, device: str, memory: float | None) -> int:
    """Serve the SKILLs, or all that lack nothing, until stopped.

    One line {"url": ...} is printed once calls are taken. With LLAVA_PLUS_WORKER_SECRET set,
    only callers that have the same secret are served.
    """
    if host not in LOOPBACK and not os.environ.get(SECRET_VARIABLE):
        click.echo(f"warning: {host} is open to others; set {SECRET_VARIABLE}", err=True)
    skills = names or tuple(usable_skills())
    if not skills:
        raise click.UsageError("no skill is installed that lacks nothing")
    limit = [] if memory is None else ["--memory", str(memory)]
    return serve_skills(
        [*skills, "--host", host, "--port", str(port), "--device", device, *limit],
    )
