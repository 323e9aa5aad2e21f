"""Tools of MCP servers as skills: those of somebody else, and our own once around."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import Dispatcher, LocalDispatcher
from llava_plus.agent.joined import JoinedDispatcher
from llava_plus.agent.loop import Agent, TurnFinished
from llava_plus.agent.mcp.arguments import Slot, slots
from llava_plus.agent.mcp.server import mcp_app
from llava_plus.agent.mcp.source import McpDispatcher, ToolServers
from llava_plus.model.conversation import Conversation, SkillMessage
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import ImageRef, ImageStore, Mask, SkillResult, SkillUse
from llava_plus.skills.crop import Crop
from llava_plus.skills.errors import BadConfiguration, DeadlineExceeded, WorkerUnavailable
from llava_plus.skills.progress import Progress, Watch
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ContentBlock, ImageContent, TextContent
from PIL import Image as Pillow
from pydantic import Field

from ..serving import png, serving
from ..toy_skills import Climb, Cover, Hang, Noop, Paint, Refuse

pytestmark = pytest.mark.asyncio
MASK = Mask.from_array(np.eye(4, dtype=bool))

cancelled = threading.Event()


def foreign() -> MCPServer:
    """A server as somebody else would write it."""
    server = MCPServer("Somebody's tools", log_level="ERROR")

    @server.tool()
    def flip(
        image: Annotated[str, Field(description="The picture as a base64 data URI")],
    ) -> Image:
        """Turn a picture upside down."""
        head, _, data = image.partition(",")
        assert head == "data:image/png;base64"
        picture = Pillow.open(io.BytesIO(base64.b64decode(data)))
        file = io.BytesIO()
        picture.transpose(Pillow.Transpose.FLIP_TOP_BOTTOM).save(file, format="PNG")
        return Image(data=file.getvalue(), format="png")

    @server.tool(name="white.share")
    def white_share(images: list[str], mask: str) -> dict[str, Any]:
        """How many pictures came, and how much of a mask is white."""
        picture = Pillow.open(io.BytesIO(base64.b64decode(mask)))
        return {"count": len(images), "share": float(np.asarray(picture).mean() / 255)}

    @server.tool()
    def noop(text: str = "") -> str:
        """Not our noop."""
        raise ToolError(f"nothing to do with {text}")

    @server.tool()
    def odd() -> list[ContentBlock]:
        """Words and a picture that is none."""
        broken = ImageContent(data=base64.b64encode(b"oh").decode(), mime_type="image/png")
        return [TextContent(text="Here it is."), broken]

    @server.tool()
    async def wait(context: Context, seconds: float) -> str:
        """Wait."""
        cancelled.clear()
        try:
            await context.report_progress(1, 4)
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "done"

    return server


@asynccontextmanager
async def source(address: str, **options: Any) -> AsyncIterator[McpDispatcher]:
    dispatcher = McpDispatcher(address, **options)
    try:
        yield dispatcher
    finally:
        await dispatcher.aclose()


@asynccontextmanager
async def somebody(**options: Any) -> AsyncIterator[McpDispatcher]:
    app = foreign().streamable_http_app(streamable_http_path="/mcp")
    with serving(app) as url:
        async with source(f"{url}/mcp", **options) as dispatcher:
            yield dispatcher


async def dispatch(
    dispatcher: Dispatcher,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    images: dict[str, ImageRef] | None = None,
    masks: dict[str, Mask] | None = None,
    store: ImageStore | None = None,
    seconds: float = 20,
    watch: Watch | None = None,
) -> SkillResult:
    return await dispatcher.dispatch(
        SkillUse(id="call_1", name=name, arguments=arguments or {}),
        CallScope(
            images=images or {},
            masks=masks or {},
            store=store or ImageStore(),
            deadline=time.monotonic() + seconds,
            watch=watch,
        ),
    )


def noise(width: int = 300, height: int = 200) -> tuple[Pillow.Image, bytes]:
    picture = Pillow.effect_noise((width, height), 80).convert("RGB")
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return picture, file.getvalue()


async def test_tools_of_others_take_and_give_images() -> None:
    picture, data = noise()
    store = ImageStore()
    images = {"img_1": store.add(data), "img_2": store.add(png())}
    async with somebody(taken={"noop"}) as dispatcher:
        specs = {spec.name: spec for spec in await dispatcher.specs()}
        assert list(specs) == [
            "flip",
            "Somebody_s_tools_white_share",
            "Somebody_s_tools_noop",
            "odd",
            "wait",
        ]
        handle = {"type": "string", "pattern": "^img_[0-9]{1,4}$"}
        assert specs["flip"].parameters["properties"] == {"image": handle}
        assert specs["flip"].description == "Turn a picture upside down."

        flipped = await dispatch(dispatcher, "flip", {"image": "img_1"}, images=images, store=store)
        made = flipped.artifacts[0].image
        assert made
        turned = picture.transpose(Pillow.Transpose.FLIP_TOP_BOTTOM)
        assert (np.asarray(store.image(made)) == np.asarray(turned)).all()

        arguments = {"images": ["img_1", "img_2"], "mask": "mask_1"}
        counted = await dispatch(
            dispatcher,
            "Somebody_s_tools_white_share",
            arguments,
            images=images,
            masks={"mask_1": MASK},
            store=store,
        )
        assert counted.data == {"count": 2, "share": 0.25}


async def test_what_goes_wrong_there_is_told_to_the_model() -> None:
    async with somebody() as dispatcher:
        failed = await dispatch(dispatcher, "noop", {"text": "this"})
        assert failed.error
        assert failed.error.kind == "SkillFailed"
        assert "nothing to do with this" in failed.error.message
        missing = await dispatch(dispatcher, "flip", {"image": "img_7"})
        assert missing.error
        assert missing.error.message == "there is no image 'img_7' here; there is: none"
        unknown = await dispatch(dispatcher, "nobody")
        assert unknown.error
        assert unknown.error.kind == "UnknownSkill"
        odd = await dispatch(dispatcher, "odd")
        assert odd.artifacts == ()
        assert odd.text.startswith("Here it is.\n(An image came along that cannot be shown: ")


async def test_deadline_and_progress_pass_on() -> None:
    async with somebody() as dispatcher:
        heard: list[Progress] = []
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="'wait' was not done"):
            await dispatch(dispatcher, "wait", {"seconds": 30}, seconds=1, watch=heard.append)
        assert time.monotonic() - start < 3
        assert await asyncio.to_thread(cancelled.wait, 5)
        assert heard == [Progress(done=1, total=4)]
        assert (await dispatch(dispatcher, "wait", {"seconds": 0})).text == "done"


@pytest.mark.parametrize(
    ("name", "schema", "slot"),
    [
        ("image", {"type": "string"}, Slot("image", many=False, uri=False)),
        ("inputImage", {"type": "string"}, Slot("image", many=False, uri=False)),
        ("img_b64", {"type": "string"}, Slot("image", many=False, uri=False)),
        (
            "file",
            {"type": "string", "description": "Image as base64 or data: URI"},
            Slot("image", many=False, uri=True),
        ),
        ("x", {"type": "string", "contentMediaType": "image/png"}, Slot("image", False, False)),
        (
            "photos",
            {"type": "array", "items": {"type": "string"}, "maxItems": 3},
            Slot("image", many=True, uri=False),
        ),
        ("mask_image", {"anyOf": [{"type": "string"}, {"type": "object"}]}, Slot("mask", 0, 0)),
        ("image_url", {"type": "string"}, None),
        ("image", {"type": "string", "description": "Path or URL of the image"}, None),
        ("prompt", {"type": "string", "description": "What the image should show"}, None),
        ("image_format", {"type": "string", "description": "base64 or png"}, None),
        ("image", {"type": "integer"}, None),
        ("image", {"enum": ["cat", "dog"], "type": "string"}, None),
    ],
)
async def test_which_arguments_are_images(
    name: str, schema: dict[str, Any], slot: Slot | None
) -> None:
    assert slots({"properties": {name: schema}}).get(name) == slot


async def test_our_own_server_as_the_source_of_our_own_agent() -> None:
    picture, data = noise()
    app = mcp_app(LocalDispatcher([Crop(), Cover(), Paint(), Climb(), Refuse()]))
    with serving(app) as url:
        async with source(f"{url}/mcp") as dispatcher:
            specs = await dispatcher.specs()
            local = {spec.name: spec for spec in await LocalDispatcher([Crop(), Cover()]).specs()}
            for spec in specs[:2]:
                assert spec.parameters == local[spec.name].parameters
            box = {"image": "img_1", "box": [0, 0, 0.5, 0.5]}
            lmm = ScriptedLMM(
                [
                    SkillUse(id="1", name="crop", arguments=box),
                    SkillUse(id="2", name="crop", arguments={**box, "image": "img_2"}),
                    SkillUse(id="3", name="cover", arguments={"mask": "mask_1"}),
                    "There.",
                ]
            )
            store = ImageStore()
            asked = Conversation(skills=tuple(specs)).ask("Cut.", [store.add(data)])
            turn = Agent(lmm, dispatcher).turn(asked.mark(masks=[MASK]), store)
            *_, finished = [event async for event in turn]
            heard: list[Progress] = []
            arguments = {"steps": 2, "pause": 0.2}
            await dispatch(dispatcher, "climb", arguments, watch=heard.append)
    assert isinstance(finished, TurnFinished)
    finished.raise_for_error()
    conversation = finished.conversation
    quarter = np.asarray(picture)[:50, :75]
    assert (np.asarray(store.image(conversation.images["img_3"])) == quarter).all()
    assert conversation.masks == {"mask_1": MASK, "mask_2": MASK}
    results = [m for m in conversation.messages if isinstance(m, SkillMessage)]
    assert results[1].text == "Cut out [0.0, 0.0, 0.5, 0.5]: 75 x 50 pixels.\nMade img_3."
    assert "made" not in results[1].result.data
    assert [progress.total for progress in heard] == [2, 2]


async def test_our_own_servers_deadline_is_known_as_one() -> None:
    with serving(mcp_app(LocalDispatcher([Hang()]), seconds=0.3)) as url:
        async with source(f"{url}/mcp") as dispatcher:
            with pytest.raises(DeadlineExceeded, match="the skill 'hang' was not done in time"):
                await dispatch(dispatcher, "hang")


SCRIPT = """
import os, sys, time
from pathlib import Path
from mcp.server.mcpserver import MCPServer

server = MCPServer("frail", log_level="ERROR")
seen = Path(sys.argv[1])

@server.tool()
def die() -> str:
    "Take the server down."
    seen.write_text(seen.read_text() + "x")
    os._exit(3)

@server.tool()
def me() -> int:
    "The server's process."
    return os.getpid()

print("a word to the operator", file=sys.stderr, flush=True)
server.run()
"""


async def test_a_server_that_dies_is_told_of_and_started_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen, script = tmp_path / "seen", tmp_path / "server.py"
    seen.write_text("")
    script.write_text(SCRIPT)
    caplog.set_level(logging.INFO, "llava_plus.agent.mcp.connection")
    async with source(shlex.join([sys.executable, str(script), str(seen)])) as dispatcher:
        with pytest.raises(WorkerUnavailable, match="went away while running 'die'"):
            await dispatch(dispatcher, "die")
        assert seen.read_text() == "x"
        first = await dispatch(dispatcher, "me")
        os.kill(first.data["result"], signal.SIGKILL)
        await asyncio.sleep(0.2)
        second = await dispatch(dispatcher, "me")
        assert second.data["result"] != first.data["result"]
    assert "a word to the operator" in caplog.text


async def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with source("http://user:secret@127.0.0.1:9/mcp") as dispatcher:
        with pytest.raises(WorkerUnavailable, match=r"http://127.0.0.1:9/mcp cannot be reached"):
            await dispatcher.specs()
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no licence')")
    async with source(f"{sys.executable} {broken}") as dispatcher:
        with pytest.raises(WorkerUnavailable, match="no licence"):
            await dispatcher.specs()
    for address in ("no-such-program --port 1", "", 'echo "', "http:///mcp", "http://a:b/mcp"):
        with pytest.raises(BadConfiguration, match=r"no MCP server|no command line|no address"):
            McpDispatcher(address)


async def test_a_server_that_went_is_not_reached_once_more() -> None:
    with serving(mcp_app(LocalDispatcher([Noop()]))) as url:
        dispatcher = McpDispatcher(f"{url}/mcp")
        assert (await dispatch(dispatcher, "noop", {"text": "a"})).text == "a"
    with pytest.raises(WorkerUnavailable, match=f"{url}/mcp"):
        await dispatch(dispatcher, "noop")
    await dispatcher.aclose()


async def test_several_dispatchers_are_one() -> None:
    one, other = LocalDispatcher([Noop()]), LocalDispatcher([Paint()])
    joined = JoinedDispatcher({"one": one, "other": other})
    assert (await dispatch(joined, "paint", {"colour": "red"})).artifacts
    assert [spec.name for spec in await joined.specs()] == ["noop", "paint"]
    unknown = await dispatch(joined, "nobody")
    assert unknown.error
    assert unknown.error.message == "there is no skill 'nobody'; there is: noop, paint"
    await joined.aclose()
    twice = JoinedDispatcher({"one": one, "other": LocalDispatcher([Noop()])})
    with pytest.raises(BadConfiguration, match="one and other both offer a skill 'noop'"):
        await twice.specs()


async def test_servers_join_the_workers() -> None:
    app = mcp_app(LocalDispatcher([Noop(), Paint()]))
    with serving(app) as url:
        own, servers = LocalDispatcher([Noop()]), ToolServers([f"{url}/mcp"] * 2)
        joined, offered = await servers.join(own, await own.specs())
        assert [spec.name for spec in offered] == ["noop", "llava_plus_noop", "paint"]
        for name in ("noop", "llava_plus_noop"):
            assert (await dispatch(joined, name, {"text": "hi"})).text == "hi"
        await servers.aclose()
