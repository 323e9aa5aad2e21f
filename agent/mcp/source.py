"""The tools of any MCP server as skills (docs/mcp.md)."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from mcp.types import CallToolResult, Tool
from pydantic import SecretStr

from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.errors import (
    BadConfiguration,
    DeadlineExceeded,
    LlavaPlusError,
    SkillError,
    UnknownSkill,
    WorkerUnavailable,
)
from ...skills.progress import Watch
from ...skills.skill import tidy_schema
from ...skills.wire import Refused
from ...skills.wording import shorten
from ..call_scope import CallScope
from ..checking import UseChecker, problem_of
from ..dispatcher import Dispatcher
from ..joined import JoinedDispatcher
from ..together import together
from .arguments import Slot, filled, slots
from .connection import Connection, Server
from .headers import ServerHeaders
from .results import read_result

__all__ = ["McpDispatcher", "ToolServers"]

_SKILL_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,63}")
_LONGEST_PREFIX = 24
_LONGEST_DESCRIPTION = 1000
_OPEN_SECONDS = 60.0
"""For a server that is started by its command line, which may load something first."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Offer:
    """A tool as a skill: the name that its server knows, and what has to be filled in."""

    tool: str
    spec: SkillSpec
    slots: Mapping[str, Slot]


class McpDispatcher:
    """Sends skill uses to an MCP server, by its URL or by the command line that starts it.

    A tool whose name is one of `taken`, or cannot be a skill's, is offered with the server's
    name before it. `headers` go to a URL with every request. `on_change` is called when the
    server's tools have changed, or may have. Raises `BadConfiguration` when `address` can be
    neither.
    """

    def __init__(
        self,
        address: str,
        *,
        headers: Mapping[str, SecretStr] | None = None,
        taken: Collection[str] = (),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = Server(address, headers)
        self.taken = frozenset(taken)
        self._on_change = on_change
        self._offers: dict[str, _Offer] = {}
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return self._server.shown

    async def specs(self) -> list[SkillSpec]:
        """Every tool as a skill; one whose schema is none is logged and left out.

        Raises `WorkerUnavailable` when the server cannot be reached.
        """
        async with self._in_time("list its tools"):
            connection = await self._connected()
            tools = await connection.tools()
        names = _skill_names([tool.name for tool in tools], _prefix(connection.name), self.taken)
        offers = {}
        for tool, name in zip(tools, names, strict=True):
            try:
                offers[name] = _offer(tool, name)
            except BadConfiguration as error:
                log.warning("%s; it is left out", error)
        self._offers = offers
        return [offer.spec for offer in offers.values()]

    async def connect(self) -> None:
        """Reach the server, if it was not yet reached. Raises `WorkerUnavailable`."""
        async with self._in_time("answer"):
            await self._connected()

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Run one use; see `Dispatcher`."""
        try:
            async with asyncio.timeout(scope.deadline - time.monotonic()):
                offer = await self._offer(use.name)
                # Files of many megabytes are encoded and decoded in a thread.
                arguments = await asyncio.to_thread(filled, use.arguments, offer.slots, scope)
                result = await self._call(offer.tool, arguments, scope.watch)
                return await asyncio.to_thread(read_result, use, result, scope.store)
        except SkillError as error:
            return SkillResult(id=use.id, name=use.name, error=problem_of(error))
        except TimeoutError:
            raise DeadlineExceeded(f"{use.name!r} was not done within its deadline") from None

    async def aclose(self) -> None:
        """Hang up; a server that was started by its command line is stopped."""
        if self._connection:
            await self._connection.close()

    async def _call(
        self, tool: str, arguments: dict[str, object], watch: Watch | None
    ) -> CallToolResult:
        try:
            return await (await self._connected()).call(tool, arguments, watch)
        except Refused as refusal:
            log.warning("%s; it is called once more", refusal)
            return await (await self._connected()).call(tool, arguments, watch)

    async def _connected(self) -> Connection:
        async with self._connecting:
            if not (self._connection and self._connection.alive):
                before = self._connection
                if before:
                    await before.close()
                self._connection = await Connection.open(self._server, self._on_change)
                if before:  # another version of the server may have come up
                    self._on_change()
            return self._connection

    @asynccontextmanager
    async def _in_time(self, doing: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                yield
        except TimeoutError:
            shown, seconds = self._server.shown, f"{_OPEN_SECONDS:.0f} s"
            raise WorkerUnavailable(
                f"the MCP server {shown} did not {doing} within {seconds}"
            ) from None

    async def _offer(self, name: str) -> _Offer:
        if name not in self._offers:
            await self.specs()
        if name not in self._offers:
            known = ", ".join(self._offers) or "none"
            raise UnknownSkill(f"there is no skill {name!r}; there is: {known}")
        return self._offers[name]


class ToolServers:
    """Some MCP servers, whose tools are offered beside the skills of a dispatcher.

    `headers` are those that go to each URL; a warning names those of other URLs while a server gets
    none. Raises `BadConfiguration` when one of the addresses can be none.
    """

    def __init__(self, addresses: Sequence[str], headers: ServerHeaders | None = None) -> None:
        _tell_unused(addresses, headers or {})
        self._changed = asyncio.Event()
        self._own: tuple[SkillSpec, ...] = ()
        self._own_names: frozenset[str] = frozenset()
        self._joined = JoinedDispatcher({})
        self._sources = [
            McpDispatcher(
                address, headers=(headers or {}).get(address), on_change=self._changed.set
            )
            for address in dict.fromkeys(addresses)
        ]

    async def connect(self) -> None:
        """Reach every server. Raises `WorkerUnavailable` that names one that cannot be."""
        async with together() as group:
            for source in self._sources:
                group.create_task(source.connect())

    async def join(
        self, dispatcher: Dispatcher, specs: Sequence[SkillSpec]
    ) -> tuple[Dispatcher, tuple[SkillSpec, ...]]:
        """A dispatcher to the skills of `dispatcher` and to all tools, and what they offer.

        `specs` are those of `dispatcher` that are on offer; all of its skills keep their names.
        """
        parts = {
            f"MCP server {number}, {source.shown}": source
            for number, source in enumerate(self._sources, 1)
        }
        self._own = tuple(specs)
        self._own_names = frozenset(spec.name for spec in await dispatcher.specs())
        self._joined = JoinedDispatcher({"the workers": dispatcher, **parts})
        return self._joined, await self._offered()

    async def changes(self) -> AsyncIterator[tuple[SkillSpec, ...]]:
        """What is on offer, each time that the tools of a server have changed after `join`."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                offered = await self._offered()
            except LlavaPlusError as error:
                log.warning("what is on offer stays as it was: %s", error)
            else:
                yield offered

    async def aclose(self) -> None:
        """Hang up; servers that were started by their command line are stopped."""
        await asyncio.gather(*(source.aclose() for source in self._sources))

    async def _offered(self) -> tuple[SkillSpec, ...]:
        taken, offered = set(self._own_names), list(self._own)
        for source in self._sources:
            source.taken = frozenset(taken)
            added = await source.specs()
            taken |= {spec.name for spec in added}
            offered += added
        await self._joined.specs()  # whose names these now are
        return tuple(offered)


def _tell_unused(addresses: Sequence[str], headers: ServerHeaders) -> None:
    urls = [address for address in addresses if address.startswith(("http://", "https://"))]
    bare = [Server(url).shown for url in urls if url not in headers]
    unused = [Server(url).shown for url in headers if url not in urls]
    if bare and unused:
        log.warning(
            "mcp.headers has some for %s, which is no server in use; without any are: %s",
            ", ".join(unused),
            ", ".join(bare),
        )


def _offer(tool: Tool, name: str) -> _Offer:
    """The tool as a skill. Raises `BadConfiguration` when its schema is none."""
    parameters = tidy_schema(tool.input_schema)
    found = slots(parameters)
    properties = {
        key: found[key].schema(part) if key in found else part
        for key, part in parameters["properties"].items()
    }
    spec = SkillSpec(
        name=name,
        description=shorten(tool.description or tool.title or tool.name, _LONGEST_DESCRIPTION),
        parameters={**parameters, "properties": properties},
    )
    UseChecker([spec])
    return _Offer(tool.name, spec, found)


def _skill_names(names: Sequence[str], prefix: str, taken: Collection[str]) -> list[str]:
    """Names for the tools that skills may have, each once and none of `taken`."""
    given: list[str] = []
    for name in names:
        fitting = name
        if not _SKILL_NAME.fullmatch(name) or name in taken or name in given:
            fitting = f"{prefix}_{re.sub(r'[^a-zA-Z0-9_-]+', '_', name).strip('_')}"[:64]
        numbered = (f"{fitting[:60]}_{number}" for number in count(2))
        while fitting in taken or fitting in given:
            fitting = next(numbered)
        given.append(fitting)
    return given


def _prefix(server: str) -> str:
    """A server's name as the beginning of a skill's."""
    plain = re.sub(r"[^a-zA-Z0-9]+", "_", server.rpartition("/")[2]).strip("_")[:_LONGEST_PREFIX]
    return plain if plain[:1].isalpha() else f"mcp_{plain}".rstrip("_")
