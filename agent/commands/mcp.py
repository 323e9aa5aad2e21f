"""`llava-plus mcp`: the installed skills for any client of the Model Context Protocol."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

import click

from ...skills.extras import needing
from ...skills.worker import LOOPBACK, serve_app
from ..dispatcher import LocalDispatcher
from ..session import chosen_device, load_skills
from .options import NAMES

if TYPE_CHECKING:
    import anyio

__all__ = ["command"]


class _Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT of this machine's loopback."""

    name = "host:port"

    def convert(self, value: str | tuple[str, int], param: object, ctx: object) -> tuple[str, int]:
        if not isinstance(value, str):
            return value
        host, _, port = value.rpartition(":")
        host = host.strip("[]") or LOOPBACK[0]
        if not (port.isdecimal() and int(port) < 65536):
            self.fail(f"{value!r} is no HOST:PORT")
        if host not in LOOPBACK:
            self.fail(f"{host} is open to others, and this server asks no secret: give 127.0.0.1")
        return host, int(port)


@click.command("mcp")
@click.option("--http", type=_Address(), help="Serve streamable HTTP there instead of stdio.")
@click.option("--skills", type=NAMES, help="Offer only these skills.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Time for one call, setting the skill up included.",
)
def command(
    http: tuple[str, int] | None, skills: tuple[str, ...] | None, device: str, seconds: float
) -> None:
    """Serve the skills that lack nothing to clients of the Model Context Protocol.

    Over stdio, which is the default, one client starts this command and nothing but the protocol
    goes to stdout. With --http, one line {"url": ...} is printed once calls are taken.
    """
    with needing("mcp", "serving MCP"):
        from ..mcp.server import mcp_app, serve_stdio
    if http:
        dispatcher = _dispatcher(skills, device)
        serve_app(
            mcp_app(dispatcher, seconds=seconds),
            host=http[0],
            port=http[1],
            on_listening=lambda url, server: click.echo(json.dumps({"url": f"{url}/mcp"})),
        )
    else:
        with _own_stdout() as stdout:
            dispatcher = _dispatcher(skills, device)
            asyncio.run(serve_stdio(dispatcher, seconds=seconds, stdout=stdout))
    _leave(dispatcher)


def _dispatcher(skills: tuple[str, ...] | None, device: str) -> LocalDispatcher:
    loaded = load_skills(skills)
    if not loaded:
        raise click.UsageError("no skill is installed that lacks nothing")
    # In this process, and set up when first called: a client waits some seconds for a server.
    return LocalDispatcher(loaded, device=chosen_device(device))


@contextmanager
def _own_stdout() -> Iterator[anyio.AsyncFile[str]]:
    """Standard output for the protocol alone; what else is printed goes to standard error."""
    import anyio

    own = os.dup(1)
    os.dup2(2, 1)
    with TextIOWrapper(os.fdopen(own, "wb"), encoding="utf-8") as stream:
        yield anyio.wrap_file(stream)


def _leave(dispatcher: LocalDispatcher) -> None:
    asyncio.run(dispatcher.aclose())
    if dispatcher.busy:
        # A skill that hangs would keep the interpreter from ending.
        logging.shutdown()
        os._exit(0)
