"""Sampling parameters of a request: they reach the LMM, whatever is around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent.focus import FocusedLMM
from llava_plus.agent.observing.metrics import Metrics
from llava_plus.agent.observing.watched import WatchedLMM
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import Event, Replied, TextDelta, Usage
from llava_plus.model.sampling import Sampling
from llava_plus.model.shortlist import Shortlist
from llava_plus.skills import ImageStore
from openai import OpenAI

from .gateway_server import gateway

ASKED = [{"role": "user", "content": "Go on."}]


class Counting:
    """Counts to ten, or as far as it may, and notes what was wanted of it."""

    name = "counting"

    def __init__(self, asked: list[Sampling], wanted: Sampling | None = None) -> None:
        self.asked = asked
        self.wanted = wanted or Sampling()

    def with_sampling(self, wanted: Sampling) -> Counting:
        return Counting(self.asked, wanted)

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        self.asked.append(self.wanted)
        count = min(self.wanted.longest or 10, 10)
        text = " ".join(str(number) for number in range(count))
        yield TextDelta(text)
        yield Replied(AssistantMessage(text=text), Usage(cut_off=count < 10))

    async def aclose(self) -> None: ...


def test_they_hold_for_one_turn_and_tell_what_was_cut_off(tmp_path: Path) -> None:
    asked: list[Sampling] = []
    lmm = FocusedLMM(WatchedLMM(Counting(asked), Metrics()), Shortlist(), offered=2)
    body: dict[str, Any] = {
        "messages": ASKED,
        "skills": [],
        "temperature": 0.5,
        "top_p": 1,
        "max_tokens": 3,
        "max_completion_tokens": 4,
        "stop": "!",
        "seed": 7,
        "frequency_penalty": -1,
        "presence_penalty": 0.0,
    }
    with gateway(tmp_path, lmm) as served:
        short = served.http.post("/v1/chat/completions", json=body).raise_for_status().json()
        (choice,) = short["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("0 1 2", "length")
        stream = served.http.post("/v1/chat/completions", json={**body, "stream": True}).text
        assert '"finish_reason":"length"' in stream
        place = f"/v1/conversations/{short['conversation']}/turns/{short['id']}"
        whole = served.http.post(f"{place}/retry", json={"stop": ["a", "b"]}).json()
        assert whole["choices"][0]["finish_reason"] == "stop"
    assert asked == [Sampling(0.5, 1, 3, 4, ("!",), 7, -1, 0.0)] * 2 + [Sampling(stop=("a", "b"))]


def test_they_hold_for_a_response_which_is_incomplete_where_it_was_cut_off(tmp_path: Path) -> None:
    asked: list[Sampling] = []
    body = {"input": "Go on.", "temperature": 0.5, "top_p": 1, "max_output_tokens": 3}
    with gateway(tmp_path, Counting(asked)) as served:
        client = OpenAI(base_url=f"{served.url}/v1", api_key="-")
        short = client.responses.create(**body)
        assert (short.status, short.output_text) == ("incomplete", "0 1 2")
        assert short.incomplete_details
        assert short.incomplete_details.reason == "max_output_tokens"
        assert (short.temperature, short.top_p, short.max_output_tokens) == (0.5, 1, 3)
        *_, last = client.responses.create(**body, stream=True)
        assert last.type == "response.incomplete"
        assert last.response.output[0].status == "incomplete"
        whole = client.responses.create(input="Go on.")
        assert (whole.status, whole.incomplete_details) == ("completed", None)
    assert asked == [Sampling(0.5, 1, max_completion_tokens=3)] * 2 + [Sampling()]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.1),
        ("top_p", -0.1),
        ("max_tokens", 0),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("seed", 2**63),
        ("presence_penalty", "much"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: object, tmp_path: Path) -> None:
    with gateway(tmp_path, ["Yes."]) as served:
        body = {"messages": ASKED, name: value}
        answer = served.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"].startswith(name)
