"""A connection to one MCP server, held open by a task of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import urlsplit

import httpx2
from anyio import EndOfStream
from mcp.client import Client
from mcp.client.session import IncomingMessage
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolResult,
    Implementation,
    Tool,
    ToolListChangedNotification,
)
from pydantic import SecretStr, ValidationError

from ...skills.errors import (
    BadConfiguration,
    BadSkillUse,
    DeadlineExceeded,
    LlavaPlusError,
    WorkerUnavailable,
)
from ...skills.images import MAX_BYTES
from ...skills.progress import Progress, Watch
from ...skills.wire import Refused
from ...skills.wording import shorten

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

__all__ = ["Connection", "Server"]

_EVENT_BYTES = 2 * MAX_BYTES
_CONNECT_SECONDS = 5.0
_CLOSE_SECONDS = 8.0
"""A little more than the library gives a server that it started to end."""

_LISTEN_SECONDS = 0.5
_SUBSCRIBE_AGAIN = 30.0
"""Seconds after which a server is asked anew to tell of changes when it ceased to."""

_LAST_LINES = 10
_PAGES = 100
"""Pages of a list of tools that are read; a server might never come to an end."""

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)

log = logging.getLogger(__name__)


class Server:
    """An MCP server by its address: a URL, or the command line that starts it.

    A URL is asked with `headers`. Raises `BadConfiguration` when the address can be neither.
    """

    def __init__(self, address: str, headers: Mapping[str, SecretStr] | None = None) -> None:
        self.address = address
        self.turned_away = ""
        """What it said to a request without a right to be there."""
        self._headers = headers or {}
        self._command: list[str] = []
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        if not address.startswith(("http://", "https://")):
            self._command = _command(address)
        elif not _is_url(address):
            shown = address.partition("?")[0].rpartition("@")[2]
            raise BadConfiguration(f"{shown!r} is no address of an MCP server: http://HOST:PORT is")

    @property
    def short_name(self) -> str:
        """A name for it as long as it has not told its own."""
        return self.shown if self._command else urlsplit(self.address).hostname or "mcp"

    @property
    def shown(self) -> str:
        """The address as it may be shown: without what may be a password or a token."""
        if self._command:
            program = (word for word in self._command if word != "env" and "=" not in word)
            return shorten(next(program, self._command[0]), 100)
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[TransportStreams]:
        """Streams to and from the server; starts it where it is a command."""
        if self._command:
            # It gets this process's PATH and HOME, and none of its secrets.
            parameters = StdioServerParameters(command=self._command[0], args=self._command[1:])
            async with self._heard() as stderr, stdio_client(parameters, stderr) as streams:
                yield streams
            return
        # The deadline of a call bounds it; only an unreachable host gets less time.
        timeout = httpx2.Timeout(None, connect=_CONNECT_SECONDS)
        headers = {name: value.get_secret_value() for name, value in self._headers.items()}
        async with (
            httpx2.AsyncClient(
                timeout=timeout, headers=headers, event_hooks={"response": [self._note]}
            ) as http,
            streamable_http_client(
                self.address, http_client=http, max_sse_event_size=_EVENT_BYTES
            ) as streams,
        ):
            yield streams

    async def _note(self, response: httpx2.Response) -> None:
        if response.status_code in (401, 403):
            said = f"{response.status_code} {response.reason_phrase}"
            self.turned_away = f"it answers {said}; mcp.headers can hold a token for it"

    @asynccontextmanager
    async def _heard(self) -> AsyncIterator[TextIO]:
        """A file for what the server says on standard error: logged, and the end of it kept."""
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
        )
        listening = asyncio.create_task(self._listen(reader))
        try:
            with os.fdopen(writing, "w") as stderr:
                yield stderr
            # It has ended, but what it started may hold the pipe open.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LISTEN_SECONDS):
                    await listening
        finally:
            listening.cancel()
            pipe.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await _read_line(reader):
            text = line.decode(errors="replace").rstrip()
            self.last_lines.append(text)
            log.info("MCP server %s: %s", self.shown, text)


class Connection:
    """An open connection. Calls may come from any task; `open` and `close` as well.

    `on_change` is called when the server says that its tools have changed.
    """

    def __init__(self, server: Server, on_change: Callable[[], None]) -> None:
        self._server = server
        self._on_change = on_change
        self._ended = asyncio.Event()
        self._opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._trouble: BaseException | None = None
        # The library's scopes must be left by the task that entered them.
        self._holding = asyncio.create_task(self._hold())

    @classmethod
    async def open(cls, server: Server, on_change: Callable[[], None]) -> Connection:
        """Connect, and agree on a version. Raises `WorkerUnavailable`."""
        connection = cls(server, on_change)
        try:
            await asyncio.shield(connection._opened)
        except BaseException:
            connection._holding.cancel()
            await asyncio.wait([connection._holding])
            raise
        return connection

    @property
    def alive(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return not self._ended.is_set()

    @property
    def name(self) -> str:
        """What the server calls itself."""
        info = self._opened.result().server_info
        return info.name if info and info.name else self._server.short_name

    async def tools(self) -> list[Tool]:
        """All tools of the server. Raises `WorkerUnavailable`."""
        tools: list[Tool] = []
        cursor = None
        try:
            for _ in range(_PAGES):
                page = await self._opened.result().list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
        except MCPError as error:
            raise await self._meaning(error, "listing its tools") from error
        except (RuntimeError, ValidationError) as error:
            raise self._nonsense("listing its tools", error) from error
        return tools

    async def call(
        self, name: str, arguments: dict[str, Any], watch: Watch | None = None
    ) -> CallToolResult:
        """Run a tool; a call that is cancelled is cancelled there as well.

        Raises `Refused` where it certainly did not begin, `BadSkillUse` for arguments that the
        server does not take, and `WorkerUnavailable`.
        """
        doing = f"running {name!r}"
        if not self.alive:
            raise Refused(f"the MCP server {self._server.shown} has hung up")
        try:
            return await self._opened.result().call_tool(
                name, arguments, progress_callback=_relayed(watch) if watch else None
            )
        except MCPError as error:
            raise await self._meaning(error, doing) from error
        except (RuntimeError, ValidationError) as error:
            # What the library raises for results that do not fit the schema they promised.
            raise self._nonsense(doing, error) from error

    async def close(self) -> None:
        """Hang up; a server that was started for it is stopped."""
        self._ended.set()
        _, hanging = await asyncio.wait([self._holding], timeout=_CLOSE_SECONDS)
        for task in hanging:
            task.cancel()
            await asyncio.wait([task])

    async def _hold(self) -> None:
        try:
            async with Client(
                _watched(self._server.transport(), self._ended),
                client_info=Implementation(name="llava-plus", version=version("llava-plus")),
                cache=None,
                message_handler=self._heed,
            ) as client:
                self._opened.set_result(client)
                subscribed = asyncio.create_task(self._subscribe(client))
                try:
                    await self._ended.wait()
                finally:
                    subscribed.cancel()
                    await asyncio.wait([subscribed])
        except Exception as error:  # of any kind: a transport's, a server's, groups of them
            self._trouble = _first(error)
        finally:
            self._ended.set()
            if not self._opened.done():
                why = self._server.turned_away or _words(self._trouble or "it hung up")
                said = "".join(f"\n{line}" for line in self._server.last_lines)
                told = f"the MCP server {self._server.shown} cannot be reached: {why}{said}"
                self._opened.set_exception(WorkerUnavailable(told))
                self._opened.exception()  # whoever opened it may have left

    async def _heed(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._on_change()

    async def _subscribe(self, client: Client) -> None:
        """Ask to be told of changes, as the protocol of 2026-07-28 wants; before, nobody asked."""
        offers = client.server_capabilities.tools
        while offers and offers.list_changed:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        pass  # `_heed` gets it as well
            except ListenNotSupportedError:
                return
            except (MCPError, SubscriptionLost) as error:
                log.info("MCP server %s tells of no changes: %s", self._server.shown, error)
            await asyncio.sleep(_SUBSCRIBE_AGAIN)
            self._on_change()  # of what changed meanwhile nobody was told

    async def _meaning(self, error: MCPError, doing: str) -> LlavaPlusError:
        """What an error of the protocol means, by who must act."""
        told = shorten(error.message, 400) or "no reason given"
        where = f"the MCP server {self._server.shown}"
        if error.code == CONNECTION_CLOSED:
            await self.close()
            kind = Refused if isinstance(self._trouble, _NEVER_SENT) else WorkerUnavailable
            return kind(f"{where} went away while {doing}: {_words(self._trouble or told)}")
        if error.code == INVALID_REQUEST and "session" in told.lower():
            await self.close()
            return Refused(f"{where} has ended the session: {told}")
        if error.code == INVALID_PARAMS:
            return BadSkillUse(told)
        kinds = {DeadlineExceeded.__name__: DeadlineExceeded}
        said = error.data.get("kind") if isinstance(error.data, dict) else None
        return kinds.get(str(said), WorkerUnavailable)(f"{where} failed at {doing}: {told}")

    def _nonsense(self, doing: str, error: Exception) -> WorkerUnavailable:
        return WorkerUnavailable(
            f"what the MCP server {self._server.shown} answered when {doing} cannot be read: "
            f"{_words(error)}"
        )


class _Watched:
    """A stream that sets `ended` when nothing more will come."""

    def __init__(
        self, stream: ReadStream[SessionMessage | Exception], ended: asyncio.Event
    ) -> None:
        self._stream = stream
        self._ended = ended

    @property
    def last_context(self) -> Any:
        """The context of whoever sent the last message, where the stream carries it."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        try:
            return await self._stream.receive()
        except BaseException:
            self._ended.set()
            raise

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _Watched:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


@asynccontextmanager
async def _watched(
    transport: AbstractAsyncContextManager[TransportStreams], ended: asyncio.Event
) -> AsyncIterator[TransportStreams]:
    async with transport as (reading, writing):
        yield _Watched(reading, ended), writing


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than the buffer, which is then dropped
        return b"(a line too long to show)"


def _relayed(watch: Watch) -> Any:
    """A callback of the library that tells `watch`, in whole steps or in percent."""

    async def relay(done: float, total: float | None, message: str | None) -> None:
        if not total or total <= 0:
            return
        if done == int(done) and total == int(total):
            what = message if message and message.isalpha() else "steps"
            watch(Progress(done=int(done), total=int(total), what=what))
        else:
            watch(Progress(done=round(100 * done / total), total=100, what="percent"))

    return relay


def _command(address: str) -> list[str]:
    try:
        command = shlex.split(address)
    except ValueError as error:
        raise BadConfiguration(f"{address!r} is no command line: {error}") from error
    if not command or not shutil.which(command[0]):
        raise BadConfiguration(
            f"{address!r} is no MCP server: give http://HOST:PORT/PATH, or a command line whose "
            "program is installed"
        )
    return command


def _is_url(address: str) -> bool:
    try:
        parts = urlsplit(address)
        # Reading the port checks it.
        return bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", address)
    except ValueError:
        return False


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _words(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error
    return shorten(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 400)
