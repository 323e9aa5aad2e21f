"""The skills of a dispatcher as an MCP server: over stdio for one client, over HTTP for many."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
)
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS

from ...skills.calls import SkillSpec, SkillUse
from ...skills.errors import (
    BadInput,
    DeadlineExceeded,
    LlavaPlusError,
    SkillError,
    WorkerUnavailable,
)
from ...skills.images import MAX_BYTES
from ..call_scope import CallScope
from ..dispatcher import Dispatcher, unavailable
from ..together import together
from .inputs import Intake, tool_schema
from .outputs import told_error, told_result
from .workspace import SESSION_SECONDS, SESSIONS, Workspace, Workspaces

if TYPE_CHECKING:
    import anyio
    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession
    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ...skills.progress import Progress, Watch

__all__ = ["mcp_app", "mcp_server", "serve_stdio"]

log = logging.getLogger(__name__)

_SESSION_HEADER = "mcp-session-id"
_BODY_BYTES = 2 * MAX_BYTES
"""The largest image in base64, and room for a smaller one beside it."""


def mcp_app(
    dispatcher: Dispatcher,
    *,
    path: str = "/mcp",
    seconds: float = 120.0,
    hosts: Sequence[str] = (),
) -> Starlette:
    """The app that serves what `dispatcher` offers over streamable HTTP, at `path`.

    `seconds` is the time for one call. Requests are taken that name this machine's loopback or
    one of `hosts` (`example.org`, `example.org:*`) as their host, which keeps web pages from
    reaching the server through a name of theirs. The dispatcher is not closed.

    The app has to be run with its lifespan. In another app its path is a route,
    `outer.router.routes.append(Route(path, app))`, and within the other app's lifespan goes
    `async with app.router.lifespan_context(app)`.
    """
    workspaces = Workspaces()
    local = ["127.0.0.1", "localhost", "[::1]"]
    allowed = [*hosts, *local, *(f"{host}:*" for host in local)]
    app = mcp_server(dispatcher, seconds=seconds, workspaces=workspaces).streamable_http_app(
        streamable_http_path=path,
        max_request_body_size=_BODY_BYTES,
        session_idle_timeout=SESSION_SECONDS,
        max_sessions=SESSIONS,
        transport_security=TransportSecuritySettings(
            allowed_hosts=allowed,
            allowed_origins=[
                f"{scheme}://{host}" for scheme in ("http", "https") for host in allowed
            ],
        ),
    )
    app.add_middleware(_EndOfSessions, workspaces=workspaces)
    return app


async def serve_stdio(
    dispatcher: Dispatcher,
    *,
    seconds: float = 120.0,
    stdout: anyio.AsyncFile[str] | None = None,
) -> None:
    """Serve one client over this process's standard input and output, until it hangs up.

    With `stdout` the answers go there.
    """
    server = mcp_server(dispatcher, seconds=seconds)
    async with stdio_server(stdout=stdout) as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def mcp_server(
    dispatcher: Dispatcher, *, seconds: float = 120.0, workspaces: Workspaces | None = None
) -> Server[Any]:
    """The MCP server behind both; without `workspaces` it is for one client."""
    tools = _Tools(dispatcher, seconds, workspaces)
    return Server(
        "llava-plus",
        version=version("llava-plus"),
        instructions="Skills that see, find, cut out and edit things in images.",
        on_list_tools=tools.listed,
        on_call_tool=tools.called,
        # No argument travels in a header, so no call has to list the tools first.
        get_tool_input_schema=lambda name: None,
    )


class _Tools:
    """Answers the requests about tools."""

    def __init__(
        self, dispatcher: Dispatcher, seconds: float, workspaces: Workspaces | None
    ) -> None:
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._workspaces = workspaces
        self._own = Workspace()
        self._specs: dict[str, SkillSpec] = {}

    async def listed(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        """Every skill on offer now."""
        try:
            specs = await self._learn()
        except LlavaPlusError as error:
            raise _operators(error) from error
        return ListToolsResult(
            tools=[
                Tool(
                    name=spec.name,
                    description=spec.description,
                    input_schema=tool_schema(spec.parameters),
                )
                for spec in specs.values()
            ]
        )

    async def called(
        self, context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        """Run one skill; what the model or the person can mend is a result that says so."""
        try:
            spec = await self._spec(params.name)
            return await self._run(context, spec, params.arguments or {})
        except (BadInput, SkillError) as error:
            return told_error(error)
        except WorkerUnavailable as error:
            raise _operators(unavailable(params.name, error)) from error
        except LlavaPlusError as error:
            raise _operators(error) from error

    async def _run(
        self, context: ServerRequestContext[Any], spec: SkillSpec, arguments: dict[str, Any]
    ) -> CallToolResult:
        deadline = time.monotonic() + self._seconds
        workspace = self._workspace(context)
        intake = Intake(workspace)
        # Decoding a large photograph takes a while, and so does drawing on it.
        filled = await asyncio.to_thread(intake.filled, spec.parameters, arguments)
        wants_progress = "progress_token" in (context.meta or {})
        async with together() as group:
            result = await self._dispatcher.dispatch(
                SkillUse(id="call_1", name=spec.name, arguments=filled),
                CallScope(
                    images=intake.images,
                    masks=intake.masks,
                    store=intake.store,
                    deadline=deadline,
                    watch=_reporting(context.session, group) if wants_progress else None,
                ),
            )
        asked = next(iter(intake.images.values()), None)
        return await asyncio.to_thread(told_result, result, intake.store, workspace, asked)

    def _workspace(self, context: ServerRequestContext[Any]) -> Workspace:
        """Where this client's results are kept."""
        if self._workspaces is None:
            return self._own
        # Since 2026-07-28 there are no sessions over HTTP, so a header that names one is not
        # checked by anybody; before, only one that is open gets here.
        session = context.request.headers.get(_SESSION_HEADER) if context.request else None
        if session and context.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS:
            return self._workspaces.of(session)
        return self._workspaces.shared

    async def _spec(self, name: str) -> SkillSpec:
        specs = self._specs if name in self._specs else await self._learn()
        if name not in specs:
            known = ", ".join(specs) or "none"
            raise MCPError(INVALID_PARAMS, f"there is no tool {name!r}; there is: {known}")
        return specs[name]

    async def _learn(self) -> dict[str, SkillSpec]:
        self._specs = {spec.name: spec for spec in await self._dispatcher.specs()}
        return self._specs


class _EndOfSessions:
    """ASGI middleware that drops what a session holds when its client ends it."""

    def __init__(self, app: ASGIApp, workspaces: Workspaces) -> None:
        self._app = app
        self._workspaces = workspaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "DELETE":
            named = dict(scope["headers"]).get(_SESSION_HEADER.encode())
            if named:
                self._workspaces.drop(named.decode("latin-1"))


def _reporting(session: ServerSession, group: asyncio.TaskGroup) -> Watch:
    """A watch that tells the client; it must hear of growing numbers only."""
    told = -1

    def watch(progress: Progress) -> None:
        nonlocal told
        if progress.done > told:
            told = progress.done
            group.create_task(session.report_progress(told, progress.total, progress.what))

    return watch


def _operators(error: LlavaPlusError) -> MCPError:
    """An error of the protocol, for what no other arguments would mend."""
    if error.told != str(error):
        log.warning("%s", error)
    hint = (
        "call again with a smaller image or less to do, or have whoever runs the server allow "
        "more time"
        if isinstance(error, DeadlineExceeded)
        else "nothing was found out; call again once the worker runs, or start the server anew"
    )
    return MCPError(INTERNAL_ERROR, f"{error.told} ({hint})", {"kind": error.kind})
