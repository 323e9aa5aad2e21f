"""`llava-plus deploy`: skills on more than one machine."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...skills.wire import SECRET_VARIABLE
from ...skills.worker import LOOPBACK

if TYPE_CHECKING:
    from ..deploy.ray_settings import RaySettings

__all__ = ["command"]


@click.group("deploy")
def command() -> None:
    """Run skills on more than one machine."""


@command.command("ray")
@click.argument("skills", nargs=-1, metavar="[SKILL]...")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Groups of skills in TOML, in place of the SKILLs and the options of one group.",
)
@click.option("--replicas", type=click.IntRange(min=0), help="Processes with the SKILLs.  [1]")
@click.option(
    "--max-replicas", type=click.IntRange(min=1), help="As many as that while many calls are made."
)
@click.option("--cpus", type=click.FloatRange(min=0), help="CPUs of each process.  [1]")
@click.option("--gpus", type=click.FloatRange(min=0), help="GPUs of each process.  [0]")
@click.option("--device", help="Where skills put their weights.  [cpu, with --gpus cuda]")
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="How much the weights in each process may take.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8001, show_default=True)
@click.option("--address", metavar="HOST:PORT", help="A Ray cluster that is there.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up when the skills do not run by then.  [wait, and tell what for]",
)
def ray(
    config: Path | None,
    host: str,
    port: int,
    address: str | None,
    timeout: float | None,
    **group: Any,
) -> int:
    """Serve the SKILLs, or all that lack nothing, by Ray Serve: to clients it is one worker.

    Begins a Ray cluster on this machine, prints {"url": ..., "cluster": ...} once calls are taken,
    and serves until stopped. With --address the skills are deployed on that cluster and stay
    there when this ends; what was there before is replaced without a call lost.

    With LLAVA_PLUS_WORKER_SECRET set, here and on every machine of the cluster, only callers that
    have the same secret are served. Ray's usage statistics and its dashboard are off.
    """
    if host not in LOOPBACK and not os.environ.get(SECRET_VARIABLE):
        click.echo(f"warning: {host} is open to others; set {SECRET_VARIABLE}", err=True)
    given = {key: value for key, value in group.items() if value not in (None, ())}
    settings = _settings(config, given)
    from ..deploy.ray_cluster import deployed

    def tell(waiting: str) -> None:
        click.echo(waiting, err=True)

    with deployed(
        settings, address=address, host=host, port=port, seconds=timeout, tell=tell
    ) as there:
        click.echo(json.dumps({"url": there.url, "cluster": there.cluster}))
        if address is None:
            with suppress(KeyboardInterrupt):
                signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray's exits with 1
                threading.Event().wait()
    return 0


def _settings(config: Path | None, group: dict[str, Any]) -> RaySettings:
    from ..deploy.ray_settings import read_settings, settings_of

    if config and group:
        raise click.UsageError("--config holds the groups: leave out SKILLs and their options")
    settings = read_settings(config) if config else settings_of({"groups": {"skills": group}})
    needed = settings.secret_needed or bool(os.environ.get(SECRET_VARIABLE))
    return settings.model_copy(update={"secret_needed": needed})
