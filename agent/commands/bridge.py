"""`llava-plus bridge`: our skills for the clients of LLaVA-Plus and OpenThinkIMG."""

from __future__ import annotations

import json
import os

import click

from ...skills.wire import SECRET_VARIABLE
from ...skills.worker import LOOPBACK, serve_app

__all__ = ["command"]


@click.group("bridge")
def command() -> None:
    """Serve skills to LLaVA-Plus and OpenThinkIMG clients.

    The other way, a LLaVA-Plus worker as the backend of a skill, is a matter of settings:
    docs/bridge.md has both.
    """


@command.command("serve")
@click.option(
    "--workers",
    metavar="URL",
    multiple=True,
    default=("http://127.0.0.1:8001",),
    show_default=True,
    help="A running worker whose skills are served; may be repeated.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=21001, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Time for one request.",
)
def serve(workers: tuple[str, ...], host: str, port: int, seconds: float) -> None:
    """Be LLaVA-Plus's controller and all of its workers, until stopped.

    One line {"url": ...} is printed once calls are taken; give that URL to the old client as the
    controller's. With LLAVA_PLUS_WORKER_SECRET set, it is shown to the workers; old clients know
    no secret, so nothing guards the bridge itself.
    """
    from ..bridge import create_bridge_app
    from ..dispatcher import HttpDispatcher

    if host not in LOOPBACK:
        click.echo(f"warning: {host} is open to others, and the bridge asks no secret", err=True)
    dispatcher = HttpDispatcher(workers, secret=os.environ.get(SECRET_VARIABLE))
    serve_app(
        create_bridge_app(dispatcher, seconds=seconds),
        host=host,
        port=port,
        on_listening=lambda url, server: click.echo(json.dumps({"url": url})),
    )
