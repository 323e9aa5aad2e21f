"""The remote LMM against real servers on loopback: one that misbehaves, and one of a third party.

The first is `openai_server`; what it does follows from the name of the model that it is asked
for. The second is `transformers serve` with the model that the fixture `model_folder` names.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import LMM, Event, Replied, SkillUseDelta, TextDelta
from llava_plus.model.loading import load_model
from llava_plus.model.remote import API_KEY_VARIABLE, RemoteLMM, Timeouts
from llava_plus.model.shipped import embedded_folder
from llava_plus.skills import load_skill
from llava_plus.skills.calls import Artifact, SkillResult, SkillSpec, SkillUse
from llava_plus.skills.errors import (
    BadConfiguration,
    BadInput,
    BadReply,
    DeadlineExceeded,
    LlavaPlusError,
    WorkerUnavailable,
)
from llava_plus.skills.images import ImageStore
from PIL import Image

pytestmark = pytest.mark.asyncio

KEY = "sk-very-secret"
QUICK = Timeouts(connect=2, first_token=5, next_token=5)
ASKED = Conversation().ask("What is it?")
PARAMETERS = {"type": "object", "properties": {"image": {"type": "string"}}}
OCR = SkillSpec(name="ocr", description="Read text", parameters=PARAMETERS)


def listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def url_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with listen() as listening:
        command = [sys.executable, str(Path(__file__).with_name("openai_server.py"))]
        process = subprocess.Popen(
            [*command, str(listening.fileno())], pass_fds=[listening.fileno()]
        )
        try:
            yield url_of(listening)
        finally:
            stop(process)


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low / 10)
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


async def events(
    lmm: RemoteLMM,
    conversation: Conversation = ASKED,
    store: ImageStore | None = None,
    *,
    calls_allowed: bool = True,
) -> list[Event]:
    store = store or ImageStore()
    try:
        stream = lmm.reply(conversation, store, calls_allowed=calls_allowed)
        return [event async for event in stream]
    finally:
        await lmm.aclose()


async def replied(
    lmm: RemoteLMM, conversation: Conversation = ASKED, *, calls_allowed: bool = True
) -> Replied:
    last = (await events(lmm, conversation, calls_allowed=calls_allowed))[-1]
    assert isinstance(last, Replied)
    return last


def seen(server: str, model: str) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = httpx.get(f"{server}/seen/{model}").json()
    return requests


def png(color: str = "red", mode: str = "RGB", kind: str = "PNG", **save: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), color).save(buffer, kind, **save)
    return buffer.getvalue()


# What is read


async def test_text_streams_and_usage_is_told(server: str) -> None:
    *pieces, last = await events(RemoteLMM(server, "plain:stream"))
    assert pieces == [TextDelta(word) for word in ("It ", "is ", "a ", "cat.")]
    assert isinstance(last, Replied)
    assert last.message == AssistantMessage(text="It is a cat.")
    usage = last.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (30, 20, 7)
    assert 0 < usage.first_token_seconds <= usage.seconds


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("odd text", "a\u2028b\x85c </s><image>"),
        ("no done", "All."),
        ("thinking", "Yes."),
    ],
)
async def test_forms_of_streams(server: str, model: str, text: str) -> None:
    assert (await replied(RemoteLMM(server, model))).message == AssistantMessage(text=text)


async def test_a_call_in_many_pieces_becomes_one(server: str) -> None:
    use = SkillUse(id="call_a", name="detect", arguments={"image": "img_1", "query": "ein Käfer é"})
    first, last = await events(RemoteLMM(server, "split call"))
    assert first == SkillUseDelta(use)
    assert isinstance(last, Replied)
    assert last.message == AssistantMessage(skill_uses=(use,))


@pytest.mark.parametrize(
    ("model", "calls"),
    [
        ("parallel", [("call_a", "ocr", {"image": "img_1"}), ("call_b", "look", {})]),
        ("one index", [("call_a", "ocr", {"n": 1}), ("call_b", "ocr", {"n": 2})]),
    ],
)
async def test_several_calls(server: str, model: str, calls: list[tuple[Any, ...]]) -> None:
    message = (await replied(RemoteLMM(server, model))).message
    assert [(use.id, use.name, use.arguments) for use in message.skill_uses] == calls


@pytest.mark.parametrize("model", ["no ids", "same ids"])
async def test_every_call_has_an_id_of_its_own(server: str, model: str) -> None:
    uses = (await replied(RemoteLMM(server, model))).message.skill_uses
    assert len({use.id for use in uses}) == 2
    assert all(use.id.startswith("call_") for use in uses)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("python call", "{'image': 'img_1'}"),
        ("list call", r"\[1\]"),
        ("nan call", "NaN is not JSON"),
        ("deep call", "not JSON"),
        ("cut call", '{"image": "im'),
        ("nameless call", "not a call with a name"),
        ("bad json", "oops"),
        ("no chunk", "not a chat chunk"),
        ("wrong types", "not a chat chunk"),
        ("not utf-8", "not UTF-8"),
        ("endless line", "a line of more than"),
        ("page:x", "text/html.* where a stream"),
        ("packed:x", "cannot be unpacked"),
    ],
)
async def test_what_cannot_be_read_is_a_bad_reply(server: str, model: str, words: str) -> None:
    with pytest.raises(BadReply, match=words) as raised:
        await events(RemoteLMM(server, model))
    assert f"server {server}/v1/chat/completions (model {model!r})" in str(raised.value)
    assert len(seen(server, model)) == 1


# Who must act


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("status:401x9", BadConfiguration, f"this is status.*check the key in {API_KEY_VARIABLE}"),
        ("status:403x9", BadConfiguration, "answered 403: this is"),
        ("status:404x9", BadConfiguration, "the name of the model"),
        ("status:400x9", BadReply, "answered 400: this is status:400x9"),
        ("detail:x", BadReply, "no such field"),
        ("moved:x", BadConfiguration, "sends on to http://127.0.0.1:9/"),
        ("late error", WorkerUnavailable, "failed while it replied: out of memory"),
        ("stops short", WorkerUnavailable, "broke off in the middle"),
        ("empty", WorkerUnavailable, "broke off in the middle"),
        ("drop:x", WorkerUnavailable, "broke off .RemoteProtocolError"),
    ],
)
async def test_errors_that_trying_again_does_not_mend(
    server: str, model: str, error: type[LlavaPlusError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        await events(RemoteLMM(server, model))
    assert type(raised.value) is error
    assert len(seen(server, model)) == 1


@pytest.mark.parametrize(
    ("model", "tries"),
    [("status:429x1", 2), ("status:500x3", 4), ("status:503x2", 3), ("drop once:x", 2)],
)
async def test_passing_trouble_is_tried_again(server: str, model: str, tries: int) -> None:
    assert (await replied(RemoteLMM(server, model))).message.text == "It is a cat."
    assert len(seen(server, model)) == tries


@pytest.mark.parametrize(
    ("model", "words"),
    [("status:502x9", "answered 502: this is"), ("drop first:x", "broke off")],
)
async def test_lasting_trouble_is_told(server: str, model: str, words: str) -> None:
    with pytest.raises(WorkerUnavailable, match=words):
        await events(RemoteLMM(server, model, retries=1))
    assert len(seen(server, model)) == 2


async def test_retry_after_is_honoured(server: str) -> None:
    begun = time.monotonic()
    assert (await replied(RemoteLMM(server, "later:1"))).message.text == "It is a cat."
    assert time.monotonic() - begun >= 1


async def test_a_retry_after_that_says_nothing(server: str) -> None:
    assert (await replied(RemoteLMM(server, "later:soon"))).message.text == "It is a cat."


@pytest.mark.parametrize("wish", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT"])
async def test_a_pause_that_is_too_long_is_told_at_once(server: str, wish: str) -> None:
    with pytest.raises(WorkerUnavailable, match=r"answered 429.*try again in \d{4,} s"):
        await events(RemoteLMM(server, f"later:{wish}"))


async def test_a_server_that_is_not_there() -> None:
    with listen() as listening:
        url = url_of(listening)
    with pytest.raises(WorkerUnavailable, match=f"server {url}/v1/.*cannot be reached"):
        await events(RemoteLMM(url, "any"))


@pytest.mark.parametrize(
    ("model", "words"), [("hang:x", "begin its reply"), ("stall:x", "go on with its reply")]
)
async def test_waiting_has_an_end(server: str, model: str, words: str) -> None:
    timeouts = Timeouts(first_token=0.3, next_token=0.3)
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=f"did not {words} within 0.3 s"):
        await events(RemoteLMM(server, model, timeouts=timeouts))
    assert time.monotonic() - begun < 2


async def test_closing_the_stream_stops_the_server(server: str) -> None:
    lmm = RemoteLMM(server, "stall:closed early")
    async with aclosing(lmm.reply(ASKED, ImageStore())) as stream:  # type: ignore[type-var]
        assert await anext(stream) == TextDelta("It ")
    for _ in range(100):
        if "stall:closed early" in httpx.get(f"{server}/closed").json():
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("the server was not told that nobody listens any more")
    await lmm.aclose()


# What is sent


async def test_the_key_is_sent_and_never_shown(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, f"{KEY}\n")
    lmm = RemoteLMM(f"{server}/v1/?key={KEY}", "echo:key")
    assert KEY not in repr(lmm) + str(lmm)
    with pytest.raises(BadConfiguration, match=r"bad key Bearer \*\*\*") as raised:
        await events(lmm)
    error: BaseException | None = raised.value
    while error:
        assert KEY not in str(error)
        error = error.__cause__
    assert seen(server, "echo:key")[0]["headers"]["authorization"] == f"Bearer {KEY}"


async def test_without_a_key_none_is_sent(server: str) -> None:
    await events(RemoteLMM(server, "plain:keyless"))
    assert "authorization" not in seen(server, "plain:keyless")[0]["headers"]


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://host", "", "http://", "http://host:x", "http://me:pw@host"]
)
async def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(BadConfiguration) as raised:
        RemoteLMM(url, "any")
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    "settings", [{"api_key": "sk\nX-Evil: 1"}, {"api_key": "sé"}, {"options": {"stream": False}}]
)
async def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(BadConfiguration):
        RemoteLMM("http://host", "any", **settings)


def looked_at(text: str = "Look at it.") -> tuple[Conversation, ImageStore]:
    """A conversation with a person's image, two calls, and the images that these made."""
    store = ImageStore()
    uses = tuple(SkillUse(id=f"call_{n}", name="ocr", arguments={"n": n}) for n in (1, 2))
    conversation = Conversation(skills=(OCR,)).ask(text, [store.add(png())])
    conversation = conversation.reply(AssistantMessage(skill_uses=uses))
    for use, color in zip(uses, ("green", "blue"), strict=True):
        made = Artifact(label=color, image=store.add(png(color)))
        result = SkillResult(id=use.id, name="ocr", text="Done.", artifacts=(made,))
        conversation = conversation.add_result(result)
    return conversation, store


async def test_a_conversation_on_the_wire(server: str) -> None:
    conversation, store = looked_at("Look: <image>")
    lmm = RemoteLMM(server, "plain:wire", options={"temperature": 0, "max_tokens": 9})
    await events(lmm, conversation, store)
    body = seen(server, "plain:wire")[0]["body"]
    assert body["tools"] == [OCR.tool()]
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (0, 9, True)
    assert "tool_choice" not in body

    def image(color: str) -> dict[str, Any]:
        data = base64.b64encode(png(color)).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}

    def text(words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    user, assistant, *results, shown = body["messages"]
    assert user == {
        "role": "user",
        "content": [image("red"), text("img_1\n"), text("Look: <image>")],
    }
    assert assistant["content"] is None
    assert assistant["tool_calls"][0] == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "ocr", "arguments": '{"n": 1}'},
    }
    assert [(m["role"], m["tool_call_id"]) for m in results] == [
        ("tool", "call_1"),
        ("tool", "call_2"),
    ]
    assert results[0]["content"] == "Done.\nMade img_2 (green)."
    assert shown == {
        "role": "user",
        "content": [
            text("The image img_2:"),
            image("green"),
            text("The image img_3:"),
            image("blue"),
        ],
    }


async def test_images_of_earlier_turns_stay_where_they_were(server: str) -> None:
    conversation, store = looked_at()
    conversation = conversation.reply(AssistantMessage(text="Seen.")).ask("And?")
    await events(RemoteLMM(server, "plain:turns"), conversation, store)
    roles = [m["role"] for m in seen(server, "plain:turns")[0]["body"]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user", "assistant", "user"]


async def test_images_of_skills_may_stay_unseen(server: str) -> None:
    lmm = RemoteLMM(server, "plain:unseen", tool_images="none")
    await events(lmm, *looked_at())
    assert seen(server, "plain:unseen")[0]["body"]["messages"][-1]["role"] == "tool"


@pytest.mark.parametrize("model", ["plain:wordy", "parallel"])
async def test_calls_can_be_forbidden(server: str, model: str) -> None:
    conversation = Conversation(skills=(OCR,)).ask("What?")
    lmm = RemoteLMM(server, model)
    if model == "parallel":  # a server that does not care
        with pytest.raises(BadReply, match="called 'ocr' where no call was allowed"):
            await events(lmm, conversation, calls_allowed=False)
    else:
        await events(lmm, conversation, calls_allowed=False)
    body = seen(server, model)[-1]["body"]
    assert (body["tool_choice"], body["tools"]) == ("none", [OCR.tool()])


async def test_fields_that_a_server_refuses_can_be_left_out(server: str) -> None:
    lmm = RemoteLMM(server, "plain:older", options={"stream_options": None, "tool_choice": None})
    conversation = Conversation(skills=(OCR,)).ask("What?")
    last = await replied(lmm, conversation, calls_allowed=False)
    assert last.usage.prompt_tokens == 0
    body = seen(server, "plain:older")[0]["body"]
    assert {"stream_options", "tool_choice"}.isdisjoint(body)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return png(kind="JPEG", exif=exif)


@pytest.mark.parametrize(
    ("data", "as_it_came", "size"),
    [
        (png(), True, (8, 6)),
        (png(kind="JPEG"), True, (8, 6)),
        (turned(), False, (6, 8)),
        (png("#ff000000", mode="RGBA"), False, (8, 6)),
        (png(kind="TIFF"), False, (8, 6)),
        (png(kind="GIF"), False, (8, 6)),
    ],
)
async def test_a_server_sees_an_image_as_it_is_shown(
    server: str, data: bytes, as_it_came: bool, size: tuple[int, int]
) -> None:
    store = ImageStore()
    conversation = Conversation().ask("What?", [store.add(data)])
    await events(RemoteLMM(server, "plain:shown"), conversation, store)
    part = seen(server, "plain:shown")[-1]["body"]["messages"][0]["content"][0]
    sent = base64.b64decode(part["image_url"]["url"].partition(",")[2])
    assert (sent == data) is as_it_came
    with Image.open(io.BytesIO(sent)) as image:
        assert (image.size, image.mode) == (size, "RGB")


@pytest.mark.parametrize(("room", "times"), [(10**6, 3), (1, 9)])
async def test_an_image_is_encoded_once_while_there_is_room(
    server: str, monkeypatch: pytest.MonkeyPatch, room: int, times: int
) -> None:
    encoded: list[bytes] = []
    encode: Callable[[bytes], bytes] = base64.b64encode

    def counted(data: bytes) -> bytes:
        encoded.append(data)
        return encode(data)

    monkeypatch.setattr("base64.b64encode", counted)
    monkeypatch.setattr("llava_plus.model.remote._MOST_ENCODED", room)
    conversation, store = looked_at()
    lmm = RemoteLMM(server, "plain:cached")
    for _ in range(3):
        async for _ in lmm.reply(conversation, store):
            pass
    await lmm.aclose()
    assert len(encoded) == times


async def test_an_image_that_is_gone_is_asked_for_again() -> None:
    conversation, _ = looked_at()
    with pytest.raises(BadInput, match="img_1 is no longer here"):
        await events(RemoteLMM("http://127.0.0.1:9", "any"), conversation, ImageStore())


# A server of a third party


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model in full, as `transformers serve` wants it: it knows no four bits."""
    folder = tmp_path_factory.mktemp("full")
    model, processor = load_model(str(embedded_folder()), device="cpu", dtype="bfloat16")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def transformers_server(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if find_spec("openai") is None or find_spec("accelerate") is None:
        pytest.skip("`transformers serve` needs transformers[serving]")
    with listen() as listening:
        url = url_of(listening)
    host, port = url.removeprefix("http://").split(":")
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model_folder)]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, "--host", host, "--port", port, "--device", "cpu"],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=written,
            stderr=written,
        )
    try:
        wait_for(f"{url}/health", process, log)
        yield url
    finally:
        stop(process)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start: {log.read_text()}")


async def test_transformers_serve_streams_an_answer(
    transformers_server: str, model_folder: Path
) -> None:
    conversation, store = looked_at("Thank you, that was very helpful!")
    lmm = RemoteLMM(transformers_server, str(model_folder), options={"max_tokens": 40})
    *pieces, last = await events(lmm, conversation, store)
    assert isinstance(last, Replied)
    assert last.message.text == "".join(p.text for p in pieces if isinstance(p, TextDelta))
    assert len(pieces) > 1
    assert last.usage.completion_tokens > 1
    assert last.usage.prompt_tokens > 3 * 16  # three images, and the words


async def test_transformers_serve_makes_native_calls(
    transformers_server: str, model_folder: Path
) -> None:
    """The shipped tokenizer tells the server how its calls are read."""
    store = ImageStore()
    skills = tuple(load_skill(name).spec for name in ("ocr", "detect", "segment", "adjust"))
    asked = Conversation(skills=skills).ask("What does the sign say?", [store.add(png())])
    *_, last = await events(RemoteLMM(transformers_server, str(model_folder)), asked, store)
    assert isinstance(last, Replied)
    assert [(use.name, use.arguments) for use in last.message.skill_uses] == [
        ("ocr", {"image": "img_1"})
    ]


async def test_transformers_serve_refuses_another_model(transformers_server: str) -> None:
    with pytest.raises(BadReply, match="Server is pinned to"):
        await events(RemoteLMM(transformers_server, "other/model"))


async def test_it_is_an_lmm() -> None:
    lmm: LMM = RemoteLMM("http://host", "any")
    assert lmm.name == "any"
    await lmm.aclose()
