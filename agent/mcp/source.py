"""The tools of any MCP server as skills (docs/mcp.md)."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count

from mcp.types import CallToolResult, Tool

from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.errors import (
    BadConfiguration,
    DeadlineExceeded,
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
from .arguments import Slot, filled, slots
from .connection import Connection, Server
from .results import read_result

__all__ = ["McpDispatcher", "with_servers"]

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
    name before it. Raises `BadConfiguration` when `address` can be neither.
    """

    def __init__(self, address: str, *, taken: Collection[str] = ()) -> None:
        self._server = Server(address)
        self._taken = frozenset(taken)
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
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                connection = await self._connected()
                tools = await connection.tools()
        except TimeoutError:
            raise WorkerUnavailable(
                f"the MCP server {self._server.shown} did not list its tools within "
                f"{_OPEN_SECONDS:.0f} s"
            ) from None
        names = _skill_names([tool.name for tool in tools], _prefix(connection.name), self._taken)
        offers = {}
        for tool, name in zip(tools, names, strict=True):
            try:
                offers[name] = _offer(tool, name)
            except BadConfiguration as error:
                log.warning("%s; it is left out", error)
        self._offers = offers
        return [offer.spec for offer in offers.values()]

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
                if self._connection:
                    await self._connection.close()
                self._connection = await Connection.open(self._server)
            return self._connection

    async def _offer(self, name: str) -> _Offer:
        if name not in self._offers:
            await self.specs()
        if name not in self._offers:
            known = ", ".join(self._offers) or "none"
            raise UnknownSkill(f"there is no skill {name!r}; there is: {known}")
        return self._offers[name]


async def with_servers(
    dispatcher: Dispatcher,
    specs: Sequence[SkillSpec],
    addresses: Sequence[str],
    stack: AsyncExitStack,
) -> tuple[Dispatcher, tuple[SkillSpec, ...]]:
    """A dispatcher to the skills of `dispatcher` and the tools of some MCP servers, and all specs.

    `specs` are those of `dispatcher`, which keep their names; `stack` closes the servers.
    """
    parts: dict[str, Dispatcher] = {"the workers": dispatcher}
    taken = {spec.name for spec in await dispatcher.specs()}
    offered = list(specs)
    for number, address in enumerate(dict.fromkeys(addresses), 1):
        source = McpDispatcher(address, taken=taken)
        stack.push_async_callback(source.aclose)
        added = await source.specs()
        taken |= {spec.name for spec in added}
        offered += added
        parts[f"MCP server {number}, {source.shown}"] = source
    return JoinedDispatcher(parts), tuple(offered)


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
