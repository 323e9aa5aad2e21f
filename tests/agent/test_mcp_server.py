"""Our skills as an MCP server, met by the official client over HTTP and stdio."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from llava_plus.agent.dispatcher import HttpDispatcher, LocalDispatcher
from llava_plus.agent.mcp.server import mcp_app, mcp_server
from llava_plus.agent.mcp.workspace import SESSIONS, Workspace, Workspaces
from llava_plus.skills import ImageArgument, Mask, Skill, SkillOutput
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ImageContent, TextContent
from PIL import Image as Pillow
from starlette.routing import Route

from ..serving import png, serving
from ..toy_skills import Climb, Cover, Hang, Look, Noop, Paint, Refuse, Slow

pytestmark = pytest.mark.asyncio
PACKAGES = str(Path(sys.modules["llava_plus"].__path__[0]).parent)
MASK = Mask.from_array(np.eye(4, dtype=bool))
BLUE = base64.b64encode(png("blue")).decode()


class Found(SkillOutput):
    things: list[dict[str, Any]]

    def summary(self) -> str:
        return f"Found {len(self.things)}."


class Find(Skill):
    name = "find"
    description = "Find one thing, always in the middle."

    def run(self, images: list[ImageArgument], note: str = "") -> Found:
        return Found(things=[{"label": "it", "box": [0.4, 0.4, 0.6, 0.6]}])


@asynccontextmanager
async def server(*skills: Skill, **options: Any) -> AsyncIterator[str]:
    with serving(mcp_app(LocalDispatcher(skills), **options)) as url:
        yield f"{url}/mcp"


def pictures(result: CallToolResult) -> list[Pillow.Image]:
    parts = [part for part in result.content if isinstance(part, ImageContent)]
    return [Pillow.open(io.BytesIO(base64.b64decode(part.data))) for part in parts]


def text(result: CallToolResult) -> str:
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def handles(result: CallToolResult) -> list[str]:
    return [made["handle"] for made in result.structured_content["made"]]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_images_go_in_and_come_out_and_are_used_again(mode: str) -> None:
    async with server(Look(), Paint()) as url, Client(url, mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["look", "paint"]
        object_form = {"data": BLUE, "mimeType": "image/png"}
        for image in (BLUE, f"data:image/png;base64,{BLUE}", object_form):
            seen = await client.call_tool("look", {"image": image})
            assert text(seen) == "8 x 6, (0, 0, 255)"
            assert seen.structured_content == {"said": "8 x 6, (0, 0, 255)"}

        painted = await client.call_tool("paint", {"colour": "lime", "width": 20})
        (picture,) = pictures(painted)
        assert (np.asarray(picture) == np.asarray(Pillow.new("RGB", (20, 8), "lime"))).all()
        (handle,) = handles(painted)
        assert text(painted) == f"One image was made.\nMade {handle} (a colour)."
        again = await client.call_tool("look", {"image": handle})
        assert text(again) == "20 x 8, (0, 255, 0)"


async def test_handles_are_of_one_session_or_cannot_be_guessed() -> None:
    async with server(Look(), Paint()) as url:
        async with Client(url, mode="legacy") as one, Client(url, mode="legacy") as other:
            for client, width in ((one, 5), (other, 7)):
                made = await client.call_tool("paint", {"colour": "red", "width": width})
                assert handles(made) == ["img_1"]
            assert text(await one.call_tool("look", {"image": "img_1"})).startswith("5 x")
            assert text(await other.call_tool("look", {"image": "img_1"})).startswith("7 x")
            missing = await one.call_tool("look", {"image": "img_2"})
            assert "img_2 is not here (any more); there is: img_1" in text(missing)
        async with Client(url) as sessionless:
            (handle,) = handles(await sessionless.call_tool("paint", {"colour": "red"}))
            assert len(handle) == len("img_") + 22
            refused = await sessionless.call_tool("look", {"image": "img_1"})
            assert refused.is_error
            assert handle not in text(refused)


async def test_masks_go_in_as_pictures_or_runs_and_come_out_as_both() -> None:
    picture = io.BytesIO()
    Pillow.fromarray(MASK.array()).save(picture, format="PNG")
    async with server(Cover()) as url, Client(url, mode="legacy") as client:
        runs = MASK.model_dump(mode="json")
        for mask in (base64.b64encode(picture.getvalue()).decode(), runs, "mask_1"):
            result = await client.call_tool("cover", {"mask": mask})
            assert text(result).startswith("It covers 25%.")
            assert (np.asarray(pictures(result)[0]) == MASK.array() * 255).all()
            assert result.structured_content["made"][0]["mask"] == runs


async def test_a_finding_is_shown_in_the_image() -> None:
    async with server(Find()) as url, Client(url) as client:
        (tool,) = (await client.list_tools()).tools
        forms = tool.input_schema["properties"]["images"]["items"]["anyOf"]
        assert [form["type"] for form in forms] == ["string", "object"]
        result = await client.call_tool("find", {"images": [BLUE], "note": BLUE})
        (shown,) = pictures(result)
        assert shown.format == "JPEG"
        assert shown.size == (800, 600)
        assert result.structured_content["things"][0]["label"] == "it"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("hello, there", "is no image; send base64"),
        ("/etc/passwd", "is no image; send base64"),
        ("https://example.org/cat.png", "is no image; send base64"),
        (base64.b64encode(b"not a picture").decode(), "not an image that can be read"),
        (base64.b64encode(png(width=99)[:-40]).decode(), "damaged or cut short"),
        ("data:image/svg+xml,<svg/>", "only those in base64"),
        ({"url": "https://example.org"}, '{"data": BASE64'),
        ("mask_1", "mask_1 is not here"),
        (7, "7 is not a handle of an image"),
        ("", "image is empty"),
    ],
)
async def test_what_is_no_image_is_refused_in_words(image: object, words: str) -> None:
    async with Client(mcp_server(LocalDispatcher([Look()]))) as client:
        result = await client.call_tool("look", {"image": image})
    assert result.is_error
    assert words in text(result)
    assert result.structured_content["error"]["message"] == text(result)


async def test_errors_go_to_whoever_must_act() -> None:
    async with server(Noop(), Refuse(), Hang(), seconds=0.3) as url, Client(url) as client:
        refused = await client.call_tool("refuse", {})
        assert refused.is_error
        assert text(refused) == "there is nothing to find here"
        wrong = await client.call_tool("noop", {"txt": 1})
        assert wrong.structured_content["error"]["kind"] == "BadSkillUse"
        with pytest.raises(MCPError, match=r"'hang' was not done in time .* allow more time"):
            await client.call_tool("hang", {})
        with pytest.raises(MCPError, match="there is no tool 'nobody'; there is: noop"):
            await client.call_tool("nobody", {})
    with serving(mcp_app(HttpDispatcher(["http://127.0.0.1:9"]))) as url:
        async with Client(f"{url}/mcp") as client:
            with pytest.raises(MCPError, match=r"reached just now.*start the server anew") as told:
                await client.list_tools()
    assert "127.0.0.1" not in str(told.value)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_progress_is_told_to_clients_that_ask_for_it(mode: str) -> None:
    heard: list[tuple[float, float | None]] = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total))

    async with server(Climb()) as url, Client(url, mode=mode) as client:
        arguments = {"steps": 3, "pause": 0.15}
        await client.call_tool("climb", arguments, progress_callback=hear)
        await asyncio.sleep(0.05)
        assert heard == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_never_runs(mode: str) -> None:
    slow = Slow()
    async with server(slow) as url, Client(url, mode=mode) as client:
        first = asyncio.create_task(client.call_tool("slow", {"seconds": 0.4}))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(client.call_tool("slow", {"seconds": 0.4}))
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.wait([second])
        assert text(await first) == "1"
        assert text(await client.call_tool("slow", {"seconds": 0})) == "2"


async def test_only_named_hosts_are_served() -> None:
    import httpx

    with serving(mcp_app(LocalDispatcher([Noop()]), hosts=["skills.example"])) as url:
        for host, status in (("evil.example", 421), ("skills.example", 400)):
            headers = {"host": host, "content-type": "application/json", "accept": "*/*"}
            told = httpx.post(f"{url}/mcp", content="nonsense", headers=headers)
            assert told.status_code == status


async def test_it_is_a_route_of_another_app() -> None:
    inner = mcp_app(LocalDispatcher([Paint()]))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    outer = FastAPI(lifespan=lifespan, routes=[Route("/mcp", inner)])
    with serving(outer) as url:
        async with Client(f"{url}/mcp", mode="legacy") as client:
            painted = await client.call_tool("paint", {"colour": "red"})
            assert handles(painted) == ["img_1"]


async def test_a_workspace_keeps_the_newest_by_count_and_bytes() -> None:
    workspace = Workspace(count=2, max_bytes=17)
    assert [workspace.keep(b"123") for _ in range(2)] == ["img_1", "img_2"]
    assert workspace.get("img_1") == b"123"
    assert workspace.keep(MASK) == "mask_1"
    assert workspace.get("img_2") is None
    assert workspace.known("img") == ["img_1"]
    assert workspace.keep(b"a very large image") == "img_3"
    assert [workspace.get(name) for name in ("img_1", "mask_1")] == [None, None]
    assert workspace.get("img_3") == b"a very large image"


async def test_a_workspace_goes_with_its_session() -> None:
    workspaces = Workspaces()
    workspaces.of("a").keep(b"1")
    assert workspaces.of("a").get("img_1") == b"1"
    workspaces.drop("a")
    assert workspaces.of("a").get("img_1") is None
    workspaces.of("b").keep(b"2")
    for number in range(SESSIONS):
        workspaces.of(str(number))
    assert workspaces.of("b").get("img_1") is None


PLUGIN = """
from llava_plus.skills import Skill, SkillOutput

print("a plugin that talks when imported")

class Said(SkillOutput):
    def summary(self):
        return "said"

class Loud(Skill):
    name = "loud"
    description = "Print."

    def run(self) -> Said:
        print("a skill that talks")
        return Said()
"""


async def test_stdio_serves_the_installed_skills_and_says_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "loud_plugin.py").write_text(PLUGIN)
    info = tmp_path / "loud-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[llava_plus.skills]\nloud = loud_plugin:Loud\n")
    command = ["-m", "llava_plus.agent", "mcp", "--skills", "crop,loud"]
    path = f"{tmp_path}:{PACKAGES}"
    parameters = StdioServerParameters(
        command=sys.executable, args=command, env={"PYTHONPATH": path}
    )
    async with Client(parameters) as client:
        whole = Pillow.effect_noise((300, 200), 80).convert("RGB")
        file = io.BytesIO()
        whole.save(file, format="PNG")
        image = base64.b64encode(file.getvalue()).decode()
        half = await client.call_tool("crop", {"image": image, "box": [0, 0, 0.5, 0.5]})
        assert handles(half) == ["img_1"]
        assert (np.asarray(pictures(half)[0]) == np.asarray(whole.crop((0, 0, 150, 100)))).all()

    calls = [
        {"method": "initialize", "params": HELLO},
        {"method": "tools/call", "params": {"name": "loud", "arguments": {}}},
    ]
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": number, **call}) for number, call in enumerate(calls)
    ]
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n".join(lines) + "\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in calls]
    rest, errors = process.communicate(timeout=20)
    assert (rest, process.returncode) == ("", 0)
    assert answers[1]["result"]["content"][0]["text"] == "said"
    assert "a plugin that talks when imported" in errors
    assert "a skill that talks" in errors


HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "0"},
}
