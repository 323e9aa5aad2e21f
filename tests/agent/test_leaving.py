"""Clients of the gateway that go away while a skill runs for them."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent.dispatcher import LocalDispatcher
from llava_plus.skills import SkillUse

from .gateway_server import Gateway, gateway

CLIMB = SkillUse(id="call_1", name="climb", arguments={"steps": 1000, "pause": 0.05})
"""Nearly a minute, in steps that are reported."""


def busy(served: Gateway) -> bool:
    assert isinstance(served.chats.dispatcher, LocalDispatcher)
    return served.chats.dispatcher.busy


def until_busy_is(expected: bool, served: Gateway) -> None:
    deadline = time.monotonic() + 10
    while busy(served) is not expected:
        assert time.monotonic() < deadline, f"busy is not {expected} in time"
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_client_that_leaves_ends_the_skill_that_ran_for_it(
    path: str, tmp_path: Path, *, stream: bool
) -> None:
    asked: dict[str, Any] = {"stream": stream}
    asked |= (
        {"input": "Climb."}
        if path.endswith("responses")
        else {"messages": [{"role": "user", "content": "Climb."}]}
    )
    with gateway(tmp_path, [CLIMB]) as served:
        leaving = HTTPConnection(served.url.removeprefix("http://"))
        leaving.request("POST", path, json.dumps(asked), {"Content-Type": "application/json"})
        until_busy_is(True, served)
        leaving.close()
        until_busy_is(False, served)
        [conversation] = served.http.get("/v1/conversations").json()["data"]
        assert served.settled(conversation["id"])["state"] == "stopped"
