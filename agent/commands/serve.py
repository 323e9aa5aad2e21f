"""`llava-plus serve`: the chat for browsers and programs."""

from __future__ import annotations

import asyncio
import logging
import signal
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...skills.errors import BadConfiguration
from ...skills.extras import needing
from ..profiles import PROFILES
from .options import NAMES
from .overrides import settings_of, with_database_options

if TYPE_CHECKING:
    from socket import socket

    import uvicorn
    from fastapi import FastAPI

    from ..chats import Chats
    from ..settings import Settings

__all__ = ["command"]

_GRACE = 10
"""Seconds that turns have to come to their end when the server is told to stop."""

log = logging.getLogger(__name__)


@click.command("serve")
@click.option("--profile", type=click.Choice(list(PROFILES)), help="Defaults for LMM and device.")
@click.option(
    "--lmm",
    metavar="NAME",
    multiple=True,
    help="embedded, a folder, a name on the hub, or URL#MODEL; may be repeated, first is default.",
)
@click.option("--device", help="cpu, cuda or auto.")
@click.option(
    "--workers",
    metavar="URL",
    multiple=True,
    help="Use this running worker instead of starting one; may be repeated.",
)
@click.option("--skills", type=NAMES, help="Offer only these skills; '' offers none.")
@click.option(
    "--mcp",
    metavar="URL|COMMAND",
    multiple=True,
    help="Offer the tools of this MCP server too; may be repeated.",
)
@click.option("--host", help="Address to listen at. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes any. [default: 8600]")
@click.option("--no-page", is_flag=True, help="Serve programs only.")
@click.option("--no-mcp", is_flag=True, help="Serve no skills over MCP.")
@click.option("--open", "open_browser", is_flag=True, help="Show the page in a browser.")
@with_database_options
def command(
    config: Path | None, open_browser: bool, no_page: bool, no_mcp: bool, **options: Any
) -> None:
    """Serve the chat until stopped: a page, an API like OpenAI's, and skills over MCP.

    Its address is printed once it answers. All settings, of which these options are some, can be
    in llava-plus.toml or the environment; `llava-plus config show` lists them. Only this machine
    is served, unless there is a key: `llava-plus keys create NAME` makes one.
    """
    without = {"server.page": no_page, "server.mcp": no_mcp}
    left_out = {key: False if given else None for key, given in without.items()}
    settings = settings_of(config, {**_overrides(options), **left_out})
    close_tracing = _set_up_telemetry(settings)
    try:
        with needing("gateway", "the server"):
            from uvicorn.loops.auto import auto_loop_factory  # uvloop's, where there is one
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(_serve(settings, open_browser=open_browser))
    finally:
        close_tracing()


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, by the key of the setting that they stand for."""
    keys = {
        "profile": "profile",
        "lmm": "lmm.name",
        "device": "lmm.device",
        "workers": "workers.urls",
        "skills": "skills_on_offer",
        "mcp": "mcp.servers",
        "host": "server.host",
        "port": "server.port",
        "database": "database.url",
    }
    repeated = ("lmm", "workers", "mcp")
    return {
        key: None if option in repeated and not options[option] else options[option]
        for option, key in keys.items()
    }


def _set_up_telemetry(settings: Settings) -> Callable[[], None]:
    """Begin to log and trace; what is given back ends the tracing."""
    with needing("gateway", "the server"):
        from ..observing.logs import setup_logging
        from ..observing.tracing import setup_tracing

    logging.getLogger().handlers.clear()  # the command line's own
    setup_logging(settings.telemetry.json_logs, settings.telemetry.log_level)
    return setup_tracing(settings.telemetry.otlp_endpoint)


async def _serve(settings: Settings, *, open_browser: bool) -> None:
    await _check_door(settings)
    with _listening(settings) as listening:
        with needing("gateway", "the server"):
            from ..gateway.app import create_app
            from ..observing.metrics import Metrics
            from ..opening import open_chats
        metrics = Metrics()
        async with AsyncExitStack() as stack:
            chats = await stack.enter_async_context(open_chats(settings, metrics=metrics))
            with needing("page", "the page, unless --no-page is given,"):
                app = create_app(chats, settings, page=settings.server.page, metrics=metrics)
            if settings.server.mcp:
                await _add_mcp(app, chats, settings, stack)

            def on_ready() -> None:
                address = _address(settings, listening)
                click.echo(f"LLaVA-Plus answers at {address}")
                if open_browser:
                    webbrowser.open(address)

            await _server(app, settings, on_ready).serve(sockets=[listening])


async def _add_mcp(app: FastAPI, chats: Chats, settings: Settings, stack: AsyncExitStack) -> None:
    """Serve the skills at /mcp, where `Gate` asks for a key."""
    from starlette.routing import Route

    with needing("mcp", "serving skills over MCP, unless --no-mcp is given,"):
        from ..mcp.server import mcp_app
    names = settings.server.names
    hosts = [*names, *(f"{name}:*" for name in names)]
    serving = mcp_app(chats.dispatcher, seconds=chats.turn_seconds, hosts=hosts)
    await stack.enter_async_context(serving.router.lifespan_context(serving))
    app.router.routes.insert(0, Route("/mcp", endpoint=serving))  # the page takes all that is left


async def _check_door(settings: Settings) -> None:
    """Raises `BadConfiguration` when a key is needed and there is none."""
    server = settings.server
    if not settings.key_needed:
        if not server.is_private:
            log.warning("%s is open to others, and the settings ask for no key", server.host)
        return
    with needing("gateway", "keeping keys"):
        from ..store.store import open_store
    async with open_store(settings.database.url, settings.database.artifacts) as store:
        if any(key.revoked is None for key in await store.keys.list()):
            return
    raise BadConfiguration(
        f"{server.host} can be reached by others, or access.require_key is set, and there is no "
        "key yet: make one with `llava-plus keys create NAME`"
    )


@contextmanager
def _listening(settings: Settings) -> Iterator[socket]:
    """A socket at the address in the settings. Raises `BadConfiguration`."""
    from ...skills.worker import listen

    host, port = settings.server.host, settings.server.port
    try:
        listening = listen(host, port)
    except OSError as error:
        raise BadConfiguration(f"cannot listen at {host}, port {port}: {error.strerror}") from error
    with listening:
        yield listening


def _address(settings: Settings, listening: socket) -> str:
    host = settings.server.host
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}{settings.server.root_path}"


def _server(app: Any, settings: Settings, on_ready: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """Says when it answers, and leaves the process to us when a signal has stopped it."""

        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # Uvicorn's own sends the signal once more, which would end us before all is closed.
            signals = (signal.SIGINT, signal.SIGTERM)
            before = {number: signal.signal(number, self.handle_exit) for number in signals}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="on",
            root_path=settings.server.root_path,
            proxy_headers=bool(settings.server.trusted_proxies),
            forwarded_allow_ips=list(settings.server.trusted_proxies),
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE,
        )
    )
