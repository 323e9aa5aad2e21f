"""A server of OpenAI's chat protocol whose LMM does what the last request tells it to.

Run as `python obedient_lmm.py PORT`. These are the requests that it knows:

    say 20 x 100 every 0.1      words of 100 characters, every 0.1 s
    call look {"image": "img_1"}      and then say what the call brought

To all others it says how many requests it has seen in the conversation.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route


async def complete(request: Request) -> Response:
    messages = (await request.json())["messages"]
    return StreamingResponse(_stream(messages), media_type="text/event-stream")


async def _stream(messages: list[dict[str, Any]]) -> AsyncIterator[str]:
    reason = "stop"
    async for delta in _deltas(messages):
        reason = "tool_calls" if "tool_calls" in delta else "stop"
        yield _event({"index": 0, "delta": delta})
    yield _event({"index": 0, "delta": {}, "finish_reason": reason})
    yield "data: [DONE]\n\n"


async def _deltas(messages: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    last = messages[-1]
    kind, *rest = _text(last).split(maxsplit=2)
    match kind:
        case _ if last["role"] == "tool":
            yield {"content": f"It brought: {_text(last)}"}
        case "say":
            count, form = rest
            _, length, _, pause = form.split()
            for number in range(int(count)):
                yield {"content": f"{number:<{length}}"}
                await asyncio.sleep(float(pause))
        case "call":
            name, arguments = rest
            function = {"name": name, "arguments": arguments}
            call = {"index": 0, "id": "c", "type": "function", "function": function}
            yield {"tool_calls": [call]}
        case _:
            requests = sum(message["role"] == "user" for message in messages)
            yield {"content": f"This is request {requests}."}


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def _event(choice: dict[str, Any]) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


async def ready(request: Request) -> Response:
    return PlainTextResponse("yes")


if __name__ == "__main__":
    app = Starlette(
        routes=[
            Route("/readyz", ready),
            Route("/v1/chat/completions", complete, methods=["POST"]),
        ]
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
