"""MCP servers as an operator names them: what they are shown, when one is missed, what changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent import session
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.chats import Asked
from llava_plus.agent.commands.options import session_options
from llava_plus.agent.mcp import connection
from llava_plus.agent.mcp.source import McpDispatcher, ToolServers
from llava_plus.agent.opening import open_chats
from llava_plus.agent.session import SessionOptions, open_parts
from llava_plus.agent.settings import load_settings
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.errors import BadConfiguration, LlavaPlusError, WorkerUnavailable
from mcp.client import Client
from mcp.server.mcpserver import Context, MCPServer
from pydantic import SecretStr
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..serving import serving


def growing(*, legacy: bool = False) -> MCPServer:
    """A server that learns a tool, and forgets it, when it is told to; and says so."""
    server = MCPServer("growing", log_level="ERROR")

    def added() -> str:
        """What was learnt."""
        return "learnt"

    async def tell(context: Context) -> None:
        if legacy:
            await context.session.send_tool_list_changed()
        else:
            await context.notify_tools_changed()

    @server.tool()
    async def learn(context: Context) -> str:
        """Learn a tool."""
        server.add_tool(added)
        await tell(context)
        return "done"

    @server.tool()
    async def forget(context: Context) -> str:
        """Forget it."""
        server.remove_tool("added")
        await tell(context)
        return "done"

    return server


class Guarded:
    """Lets in who shows both headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown = dict(scope["headers"]) if scope["type"] == "http" else None
        wanted = {b"authorization": b"Bearer sesame", b"x-team": b"red"}
        if shown is None or wanted.items() <= shown.items():
            await self.app(scope, receive, send)
        else:
            await Response("no", 401)(scope, receive, send)


def app(**options: Any) -> ASGIApp:
    return growing(**options).streamable_http_app(streamable_http_path="/mcp")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_server_gets_its_headers_and_nobody_else_sees_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": SecretStr("Bearer sesame"), "X-Team": SecretStr("red")}
    with serving(Guarded(app())) as url:
        guest = McpDispatcher(f"{url}/mcp", headers=headers)
        assert [spec.name for spec in await guest.specs()] == ["learn", "forget"]
        await guest.aclose()
        del headers["X-Team"]
        stranger = McpDispatcher(f"{url}/mcp", headers=headers)
        with pytest.raises(WorkerUnavailable, match=r"cannot be reached: .*401") as refused:
            await stranger.specs()
        await stranger.aclose()
    assert "sesame" not in caplog.text + str(refused.value)


def test_headers_for_no_server_in_use_are_told_when_one_gets_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = {"http://a/mcp": {"X-Key": SecretStr("sesame")}, "http://b/": {}}
    ToolServers(["http://a/mcp", "python"], headers)
    assert not caplog.records, "the settings may hold those of servers for another time"
    ToolServers(["http://a/mcp", "http://me:sesame@b"], headers)
    told = (
        "mcp.headers has some for http://b/, which is no server in use; without any are: http://b"
    )
    assert caplog.messages == [told]


def test_the_command_line_takes_headers_from_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAVA_PLUS_PROFILE", "cluster")
    monkeypatch.setenv("LLAVA_PLUS_MCP__HEADERS", '{"http://a/mcp": {"X-Team": "red"}}')
    options = session_options(
        profile="embedded",
        lmm=None,
        device=None,
        skills=None,
        workers=(),
        mcp=("http://a/mcp",),
        offer=None,
        max_steps=6,
        turn_seconds=60,
    )
    assert options.mcp_headers["http://a/mcp"]["X-Team"].get_secret_value() == "red"
    assert "red" not in repr(options)


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        (("http://127.0.0.1:9/mcp",), WorkerUnavailable),
        (("http:///mcp",), BadConfiguration),
        (("http://127.0.0.1:9/mcp", "no-such-program-here"), BadConfiguration),
    ],
)
async def test_a_server_that_is_not_there_is_told_of_before_an_lmm_is_loaded(
    addresses: tuple[str, ...], error: type[LlavaPlusError], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(session, "open_lmm", lambda name, device: loaded.append(name))
    with pytest.raises(error):
        async with open_parts(SessionOptions(lmm="embedded", mcp=addresses), ["embedded"]):
            pass
    assert loaded == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_that_come_and_go_are_on_offer_from_the_next_turn_on(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "Client", partial(Client, mode=mode))
    with serving(app(legacy=mode == "legacy")) as url:
        settings = load_settings(
            {
                "lmm.name": ("http://127.0.0.1:9/v1#one",),
                "skills_on_offer": (),
                "mcp.servers": (f"{url}/mcp",),
                "database.url": f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite",
                "database.artifacts": str(tmp_path / "artifacts"),
            }
        )
        async with open_chats(settings) as chats:

            def names() -> list[str]:
                return [spec.name for spec in chats.skills]

            async def call(name: str) -> str:
                scope = CallScope(store=ImageStore(), deadline=time.monotonic() + 10)
                use = SkillUse(id="call_1", name=name, arguments={})
                return (await chats.dispatcher.dispatch(use, scope)).text

            async def offered(conversation: str | None = None) -> list[str]:
                asked = Asked("What can you do?")
                events = chats.ask("ann", asked, conversation=conversation)
                *_, kept = [event async for event in events]
                return [spec.name for spec in kept.conversation.skills]

            assert names() == ["learn", "forget"]
            assert await call("learn") == "done"
            await until(lambda: "added" in names())
            assert await call("added") == "learnt"
            assert await offered() == ["learn", "forget", "added"]
            [begun] = await chats.store.conversations("ann")
            assert await call("forget") == "done"
            await until(lambda: "added" not in names())
            assert await offered(begun.id) == ["learn", "forget"]
