"""An OpenAI-compatible server that says what it is told to, for runs of the whole program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from llava_plus.skills import SkillUse

from ..serving import serving

Reply = str | SkillUse | Sequence[SkillUse]


@contextmanager
def scripted_server(*replies: Reply) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What to give as `--lmm`, and the bodies of the requests that came; replies go in turn."""
    app, rest, seen = FastAPI(), list(replies), []

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> StreamingResponse:
        seen.append(await request.json())
        return StreamingResponse(_stream(rest.pop(0)), media_type="text/event-stream")

    with serving(app) as url:
        yield f"{url}/v1#scripted", seen


async def _stream(reply: Reply) -> Any:
    if isinstance(reply, str):
        deltas: list[dict[str, Any]] = [{"content": f"{word} "} for word in reply.split()]
        reason = "stop"
    else:
        uses = [reply] if isinstance(reply, SkillUse) else reply
        calls = [{"index": index, **use.tool_call()} for index, use in enumerate(uses)]
        deltas, reason = [{"tool_calls": calls}], "tool_calls"
    for delta in deltas:
        yield _event({"choices": [{"index": 0, "delta": delta}]})
    yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    yield _event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **chunk})}\n\n"
