"""Everything a command needs to take turns, opened at once and closed in the end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..model.conversation import Conversation
from ..model.lmm import LMM
from ..model.shipped import familiar_skills
from ..skills.calls import SkillSpec
from ..skills.discovery import installed_skills, load_skill
from ..skills.errors import BadConfiguration, UnknownSkill
from ..skills.extras import needing
from ..skills.readiness import usable_skills
from ..skills.settings import check_settings
from ..skills.skill import Skill
from .dispatcher import Dispatcher, LocalDispatcher
from .loop import Agent
from .together import together

if TYPE_CHECKING:
    from .mcp.headers import ServerHeaders
    from .mcp.source import ToolServers

__all__ = [
    "Parts",
    "Session",
    "SessionOptions",
    "chosen_device",
    "load_skills",
    "open_lmm",
    "open_parts",
    "open_session",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionOptions:
    """How to open a session.

    `skills=None` offers every skill that lacks nothing and that suits the LMM. They run on
    `workers`, or in one process that is started for them; with `plan` they are only read about.
    The tools of the MCP servers `mcp`, URLs or command lines, are offered beside them;
    `mcp_headers` go to those that are URLs.
    """

    lmm: str
    skills: tuple[str, ...] | None = None
    workers: tuple[str, ...] = ()
    mcp: tuple[str, ...] = ()
    mcp_headers: ServerHeaders = field(default_factory=dict)
    device: str = "cpu"
    max_steps: int = 6
    turn_seconds: float = 120.0
    plan: bool = False
    offer: int | None = None
    """So many of the likeliest skills are shown to the LMM; it can look for the others."""


@dataclass(frozen=True)
class Session:
    """An agent, and the skills that it offers in a new conversation."""

    agent: Agent
    skills: tuple[SkillSpec, ...]

    def conversation(self) -> Conversation:
        """A new conversation."""
        return Conversation(skills=self.skills)


@dataclass(frozen=True)
class Parts:
    """What takes turns: LMMs in the order in which they were named, skills and their workers.

    `servers` tells when the skills on offer have changed with the tools of MCP servers.
    """

    lmms: tuple[LMM, ...]
    dispatcher: Dispatcher
    skills: tuple[SkillSpec, ...]
    servers: ToolServers | None = None


@asynccontextmanager
async def open_session(options: SessionOptions) -> AsyncIterator[Session]:
    """Load the LMM and start the workers, both at once; stop and close all at the end.

    Raises `BadConfiguration`, `UnknownSkill` or `WorkerUnavailable` when there is no such thing.
    """
    async with open_parts(options, [options.lmm]) as parts:
        agent = Agent(
            parts.lmms[0],
            parts.dispatcher,
            max_steps=options.max_steps,
            turn_seconds=options.turn_seconds,
        )
        yield Session(agent, parts.skills)


@asynccontextmanager
async def open_parts(options: SessionOptions, lmms: Sequence[str]) -> AsyncIterator[Parts]:
    """As `open_session`, for several LMMs, whose names stand for the one of `options`.

    The skills on offer are those that suit the first.
    """
    device = chosen_device(options.device)
    unfamiliar = _unfamiliar(lmms[0])
    async with AsyncExitStack() as stack:
        # First of all: nobody is to wait for a model to read of a wrong address.
        servers = await _open_servers(options, stack)
        async with together() as group:
            # In threads, so that only the longest of them all is waited for.
            loading = [
                group.create_task(asyncio.to_thread(_open_focused, name, options.offer, device))
                for name in lmms
            ]
            starting = group.create_task(_open_dispatcher(options, device, unfamiliar, stack))
        opened, dispatcher = tuple(task.result() for task in loading), starting.result()
        for lmm in opened:
            stack.push_async_callback(lmm.aclose)
        specs = _restricted(await dispatcher.specs(), options.skills, unfamiliar)
        if servers:
            dispatcher, specs = await servers.join(dispatcher, specs)
        yield Parts(opened, dispatcher, specs, servers)


def open_lmm(name: str, device: str) -> LMM:
    """The LMM `embedded`, or behind `URL#MODEL`, or in a folder or a repository of the hub."""
    from ..model import opening

    return opening.open_lmm(name, device=device)


def _open_focused(name: str, offer: int | None, device: str) -> LMM:
    if offer is None:
        return open_lmm(name, device)
    from .focus import FocusedLMM, open_shortlist

    shortlist = open_shortlist()
    return FocusedLMM(open_lmm(name, device), shortlist, offered=offer)


def load_skills(
    names: Sequence[str] | None, *, without: AbstractSet[str] = frozenset()
) -> list[Skill]:
    """The named skills, or all that lack nothing, except those that the LMM is to do without.

    Of all, one that cannot be imported is logged and left out. Raises `BadConfiguration` for
    settings of no skill.
    """
    if names is not None:
        check_settings()
        return [load_skill(name) for name in dict.fromkeys(names)]
    skills = []
    for installed in usable_skills().values():
        if installed.name in without:
            continue
        try:
            skills.append(installed.load())
        except BadConfiguration as error:
            log.warning("%s; it is left out", error)
    return skills


async def _open_servers(options: SessionOptions, stack: AsyncExitStack) -> ToolServers | None:
    if not options.mcp:
        return None
    with needing("mcp", "--mcp"):
        from .mcp.source import ToolServers
    servers = ToolServers(options.mcp, options.mcp_headers)
    stack.push_async_callback(servers.aclose)
    await servers.connect()
    return servers


async def _open_dispatcher(
    options: SessionOptions, device: str, unfamiliar: AbstractSet[str], stack: AsyncExitStack
) -> Dispatcher:
    if options.workers:
        from ..skills.wire import SECRET_VARIABLE
        from .dispatcher import HttpDispatcher

        secret = os.environ.get(SECRET_VARIABLE)
        dispatcher: Dispatcher = HttpDispatcher(options.workers, secret=secret)
    else:
        skills = load_skills(options.skills, without=unfamiliar)
        if options.plan or not skills:
            dispatcher = LocalDispatcher(skills)
        else:
            from .fleet import start_fleet

            group = [skill.name for skill in skills]
            fleet = await stack.enter_async_context(start_fleet([group], device=device))
            dispatcher = fleet.dispatcher()
    stack.push_async_callback(dispatcher.aclose)
    return dispatcher


def _unfamiliar(lmm: str) -> frozenset[str]:
    """The skills of this package that are not offered to the LMM unless they are named.

    The embedded LMM is so small that skills which it has not been trained on cost it more than
    they bring, where they come near to those that it has been trained on; so it is with every
    model folder that tells which skills it was trained on.
    """
    familiar = familiar_skills(lmm)
    skills = installed_skills().items()
    own = frozenset(name for name, skill in skills if skill.package == "llava-plus")
    return own - familiar if familiar else frozenset()


def _restricted(
    specs: list[SkillSpec], names: Sequence[str] | None, unfamiliar: AbstractSet[str]
) -> tuple[SkillSpec, ...]:
    """The specs that were asked for, in that order. Raises `UnknownSkill`."""
    if names is None:
        return tuple(spec for spec in specs if spec.name not in unfamiliar)
    offered = {spec.name: spec for spec in specs}
    for name in names:
        if name not in offered:
            known = ", ".join(offered) or "none"
            raise UnknownSkill(f"no worker offers the skill {name!r}; there is: {known}")
    return tuple(offered[name] for name in dict.fromkeys(names))


def chosen_device(device: str) -> str:
    """The device itself, or for `auto` a GPU where torch sees one."""
    if device != "auto":
        return device
    try:
        import torch
    except ImportError:
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
