"""A server that speaks OpenAI's chat protocol, and misbehaves as the name of the model says.

Run as `python openai_server.py FD`, with FD a socket that listens already.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

app = FastAPI()
seen: dict[str, list[dict[str, Any]]] = {}
asked: Counter[str] = Counter()
closed: list[str] = []


@app.get("/seen/{model}")
def requests_seen(model: str) -> list[dict[str, Any]]:
    return seen.get(model, [])


@app.get("/closed")
def streams_closed() -> list[str]:
    return closed


@app.post("/v1/chat/completions")
async def complete(request: Request) -> Response:
    body = await request.json()
    model = body["model"]
    asked[model] += 1
    seen.setdefault(model, []).append({"body": body, "headers": dict(request.headers)})
    refusal = refuse(model, asked[model], request)
    if refusal is not None:
        return refusal
    return StreamingResponse(stream(model, body), media_type="text/event-stream")


def refuse(model: str, attempt: int, request: Request) -> Response | None:
    kind, _, rest = model.partition(":")
    error = {"error": {"message": f"this is {model}", "type": "test"}}
    match kind:
        case "status" if attempt <= int(rest.split("x")[-1]):
            return JSONResponse(error, int(rest.split("x")[0]))
        case "later" if attempt == 1:
            return JSONResponse(error, 429, {"Retry-After": rest})
        case "echo":
            key = request.headers.get("Authorization")
            return JSONResponse({"error": {"message": f"bad key {key}"}}, 401)
        case "detail":
            return JSONResponse(
                {"detail": [{"loc": ["body", "seed"], "msg": "no such field"}]}, 422
            )
        case "page":
            return Response("<html>welcome</html>", media_type="text/html")
        case "moved":
            return RedirectResponse("http://127.0.0.1:9/v1/chat/completions")
        case "packed":
            headers = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}
            return Response(b"not gzip", headers=headers)
    return None


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


def call(index: int | None, arguments: str, **first: Any) -> str:
    name = {"name": first.pop("name")} if "name" in first else {}
    piece = {**first, "function": {**name, "arguments": arguments}}
    return event({"tool_calls": [piece if index is None else {"index": index, **piece}]})


USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 7,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 20},
}
ROLE = event({"role": "assistant", "content": ""})
END = event({}, "stop")
CALLED = event({}, "tool_calls")
DONE = "data: [DONE]\n\n"

STREAMS: dict[str, list[str]] = {
    "odd text": [
        ": keep-alive\r\n\r\n",
        "event: message\r\nid: 1\r\n" + event({"content": "a\u2028b\x85c "}).replace("\n", "\r\n"),
        "data: " + json.dumps({"choices": [{"delta": {"content": "</s><image>"}}]})[:-1],
        "\ndata:}\n\n",
        END,
        DONE,
        event({"content": "never read"}),
    ],
    "no done": [ROLE, event({"content": "All."}), event({}, "stop", usage=USAGE)],
    "split call": [
        ROLE,
        call(0, "", id="call_a", type="function", name="detect"),
        *(call(0, letter) for letter in '{"image": "img_1", "query": "ein Kä'),
        *(call(0, letter) for letter in 'fer \\u00e9"}'),
        CALLED,
        DONE,
    ],
    "parallel": [
        event({"content": "I look."}),
        call(0, '{"image": ', id="call_a", name="ocr"),
        call(1, "{}", id="call_b", name="look"),
        call(0, '"img_1"}'),
        CALLED,
        DONE,
    ],
    "one index": [
        call(0, '{"n": 1}', id="call_a", name="ocr"),
        call(0, '{"n": 2}', id="call_b", name="ocr"),
        CALLED,
        DONE,
    ],
    "no ids": [call(0, "{}", name="ocr"), call(1, "{}", name="ocr"), CALLED, DONE],
    "same ids": [
        call(0, "{}", id="call_a", name="ocr"),
        call(1, "{}", id="call_a", name="ocr"),
        CALLED,
        DONE,
    ],
    "python call": [call(0, "{'image': 'img_1'}", id="a", name="ocr"), CALLED, DONE],
    "list call": [call(0, "[1]", id="a", name="ocr"), CALLED, DONE],
    "nan call": [call(0, '{"x": NaN}', id="a", name="ocr"), CALLED, DONE],
    "deep call": [call(0, "[" * 100_000, id="a", name="ocr"), CALLED, DONE],
    "cut call": [call(0, '{"image": "im', id="a", name="ocr"), event({}, "length"), DONE],
    "cut words": [event({"content": "It is"}), event({}, "length"), DONE],
    "nameless call": [call(0, "{}", id="a"), CALLED, DONE],
    "thinking": [
        event({"reasoning_content": "Hmm"}),
        event({"content": "Yes."}),
        event({"content": None}, "stop"),
        DONE,
    ],
    "bad json": ["data: {oops\n\n"],
    "no chunk": ['data: {"object": "list", "data": []}\n\n'],
    "wrong types": [event({"content": 7})],
    "late error": [
        event({"content": "So"}),
        'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
    ],
    "not utf-8": ["data: \udcff\n\n"],
    "stops short": [event({"content": "So"})],
    "endless line": ["x" * 1024 * 1024] * 20,
    "empty": [],
}


async def stream(model: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
    kind = model.partition(":")[0]
    if model in STREAMS:
        for piece in STREAMS[model]:
            yield piece.encode(errors="surrogateescape")
        return
    if kind in ("drop first", "drop once") and asked[model] <= (1 if kind == "drop once" else 99):
        raise ConnectionError("dropped before the first byte")
    if kind == "hang":
        await asyncio.sleep(60)
    yield ROLE.encode()
    try:
        for word in ("It ", "is ", "a ", "cat."):
            yield event({"content": word}).encode()
            if kind == "drop":
                raise ConnectionError("dropped in the middle")
            if kind == "stall":
                await asyncio.sleep(60)
    except asyncio.CancelledError:
        closed.append(model)
        raise
    yield END.encode()
    if body.get("stream_options"):
        yield f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\n".encode()
    yield DONE.encode()


if __name__ == "__main__":
    listening = socket.socket(fileno=int(sys.argv[1]))
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listening])
