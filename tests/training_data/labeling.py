"""A labeler on loopback that speaks OpenAI's protocol and answers from what it is asked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from llava_plus.skills import SkillUse
from PIL import Image, ImageDraw, ImageFont

from ..serving import serving
from .answering import asked_text

USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


@dataclass(frozen=True)
class Reply:
    """Words, and calls beside them."""

    text: str = ""
    uses: tuple[SkillUse, ...] = ()


@dataclass
class Labeling:
    """What to give as `--labeler`, the bodies that came, and those that were answered."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    answered: list[dict[str, Any]] = field(default_factory=list)
    hangs_after: float = float("inf")
    waiting: int = 0
    keys: set[str] = field(default_factory=set)
    refuses: list[tuple[int, str]] = field(default_factory=list)
    """The status and Retry-After with which the next requests are refused."""


@contextmanager
def labeling(reply: Callable[[dict[str, Any]], Reply]) -> Iterator[Labeling]:
    """Serve `reply(body)`; each answer is said to take 100 tokens in and 10 out."""
    app, server = FastAPI(), Labeling()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body = await request.json()
        server.keys.add(request.headers.get("Authorization", ""))
        if server.refuses:
            status, later = server.refuses.pop()
            return JSONResponse({"error": "not now"}, status, {"Retry-After": later})
        server.seen.append(body)
        server.waiting += 1
        while len(server.answered) >= server.hangs_after:
            if await request.is_disconnected():
                server.waiting -= 1
                return Response()
            await asyncio.sleep(0.02)
        server.waiting -= 1
        server.answered.append(body)
        return StreamingResponse(_stream(reply(body)), media_type="text/event-stream")

    with serving(app) as url:
        server.url = f"{url}/v1#labeler"
        try:
            yield server
        finally:
            server.hangs_after = float("inf")


async def _stream(reply: Reply) -> AsyncIterator[str]:
    calls = [{"index": index, **use.tool_call()} for index, use in enumerate(reply.uses)]
    delta = {"content": reply.text or None, **({"tool_calls": calls} if calls else {})}
    for choice in ({"delta": delta}, {"delta": {}, "finish_reason": "stop"}):
        yield _event({"choices": [{"index": 0, **choice}]})
    yield _event({"choices": [], "usage": USAGE})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **chunk})}\n\n"


# --- what it says

REQUESTS = {
    "ocr": "What does the sign say?",
    "detect": "How many QR codes are on the sign?",
    "adjust": "Turn the picture by 90 degrees.",
    "detect+adjust": "Find the QR code and blur it.",
}


def labels(body: dict[str, Any]) -> Reply:
    """A labeler that does what each prompt wants, from nothing but the text of the prompt."""
    opening, text = _text(body["messages"][0]), asked_text(body)
    if "Write the conversation" in opening:
        return Reply(pairs(f"What is there? {subject(text)}", "Where is it?"))
    if "Describe the image in detail" in opening:
        return Reply(f"There is {subject(text)}, in full view.")
    if "Write one question" in opening:
        return Reply(pairs("Why is it there?"))
    if "Write what a person says" in opening:
        skills = re.findall(r"^Skill (\w+):", text, flags=re.M)
        return Reply(f"Request: {REQUESTS['+'.join(skills)]}")
    if "Call the tool" in opening:
        return Reply("I need a tool for this.", (call(text),))
    assert "Answer the request from the results" in opening
    thoughts = "Thoughts: The results tell it.\n" if "Thoughts:" in opening else ""
    return Reply(f"{thoughts}Answer: {answer(text)}")


def pairs(*questions: str) -> str:
    return "\n===\n".join(f"Question: {q}\n===\nAnswer: It is so." for q in questions)


def subject(text: str) -> str:
    """The first sentence that was written about the image."""
    return text.splitlines()[0].rstrip(".").lower()


def call(text: str) -> SkillUse:
    """The next call for one of the requests above."""
    if REQUESTS["ocr"] in text:
        return use("ocr", image="img_1")
    if REQUESTS["adjust"] in text:
        return use("adjust", operation="rotate", image="img_1", amount=90)
    if found := re.search(r"^QR code (\[.*])$", text, flags=re.M):
        return use("adjust", operation="blur", image="img_1", target=[json.loads(found[1])])
    return use("detect", image="img_1", labels=["QR code"])


def answer(text: str) -> str:
    result = re.findall(r"^Result: (.*?)(?:\n\n|\Z)", text, flags=re.M | re.S)[-1]
    if result.startswith("Read"):
        return f'The sign says "{result.splitlines()[1]}".'
    made = re.search(r"Made (img_\d+)", result)
    return f"Done: see {made[1]}." if made else result.splitlines()[0]


def use(name: str, **arguments: Any) -> SkillUse:
    return SkillUse(id=f"random_{len(str(arguments))}", name=name, arguments=arguments)


def _text(message: dict[str, Any]) -> str:
    return asked_text({"messages": [message]})


# --- what it is asked about


def sign(path: Path, line: str) -> Path:
    """A picture of a line of text above a QR code; small, because text is sought at 736 pixels."""
    import cv2

    code = Image.fromarray(cv2.QRCodeEncoder.create().encode("llava")).convert("RGB")
    picture = Image.new("RGB", (400, 400), "white")
    font = ImageFont.load_default(size=44)
    ImageDraw.Draw(picture).text((30, 30), line, fill="black", font=font)
    picture.paste(code.resize((200, 200), Image.Resampling.NEAREST), (100, 150))
    path.parent.mkdir(exist_ok=True)
    picture.save(path)
    return path
