"""A request once more, or in other words, over the API: a branch of its conversation."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from llava_plus.model.conversation import UserMessage
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import SkillUse

from ..serving import png
from .gateway_server import Gateway, gateway

LOOK = SkillUse(id="l", name="look", arguments={"image": "img_1"})


def asked(served: Gateway, text: str, **more: Any) -> tuple[str, str]:
    """The conversation and the turn of a request with an image."""
    url = f"data:image/png;base64,{base64.b64encode(png('red', 9, 7)).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    body = {"messages": [{"role": "user", "content": content}], **more}
    answer = served.http.post("/v1/chat/completions", json=body).raise_for_status().json()
    return answer["conversation"], answer["id"]


def test_a_request_is_answered_once_more_beside_the_first_answer(tmp_path: Path) -> None:
    with gateway(tmp_path, [LOOK, "It is red.", LOOK, "It is 9 wide."]) as served:
        conversation, first = asked(served, "What is it?")
        place = f"/v1/conversations/{conversation}"
        again = served.http.post(f"{place}/turns/{first}/retry").raise_for_status().json()
        assert again["choices"][0]["message"]["content"] == "It is 9 wide."
        assert again["conversation"] == conversation
        whole = served.http.get(place).json()
        assert whole["head"] == again["id"]
        assert [turn["parent"] for turn in whole["turns"]] == [None, None]
        before, after = (turn["messages"] for turn in whole["turns"])
        assert before[0] == after[0]
        assert before[-1] != after[-1]


def test_a_request_in_other_words_keeps_its_image_and_its_place(tmp_path: Path) -> None:
    script = ScriptedLMM(["Red.", "Yes.", LOOK, "It is 9 wide."])
    with gateway(tmp_path, script) as served:
        conversation, first = asked(served, "What is it?")
        follow = {"messages": [{"role": "user", "content": "Sure?"}], "conversation": conversation}
        second = served.http.post("/v1/chat/completions", json=follow).json()["id"]
        place = f"/v1/conversations/{conversation}"
        edit = {"text": "How wide is it?", "stream": True, "skills": ["look"]}
        stream = served.http.post(f"{place}/turns/{second}/edit", json=edit).raise_for_status()
        assert stream.headers["content-type"].startswith("text/event-stream")
        *chunks, done = [line[6:] for line in stream.text.splitlines() if line]
        assert done == "[DONE]"
        told = [json.loads(chunk) for chunk in chunks]
        words = [chunk["choices"][0]["delta"].get("content") or "" for chunk in told]
        assert "".join(words) == "It is 9 wide."
        assert [chunk["skill_event"]["type"] for chunk in told if "skill_event" in chunk] == [
            "skill_use",
            "skill_result",
        ]
        turns = served.http.get(place).json()["turns"]
        assert [turn["parent"] for turn in turns] == [None, first, first]
        assert turns[2]["id"] == told[0]["id"]
    seen = script.asked[-1]
    said = [message.text for message in seen.messages if isinstance(message, UserMessage)]
    assert said == ["What is it?", "How wide is it?"], "the request it replaces is not seen"
    assert [spec.name for spec in seen.skills] == ["look"]
    assert list(seen.images) == ["img_1"]


@pytest.mark.parametrize(
    ("way", "body", "status", "told"),
    [
        ("edit", {}, 400, "text"),
        ("edit", {"text": "  "}, 400, "the request is empty"),
        ("retry", {"model": "nobody"}, 404, "no model 'nobody'"),
        ("retry", {"skills": ["nothing"]}, 400, "no skill 'nothing'"),
    ],
)
def test_what_is_wrong_with_it_is_told(
    way: str, body: dict[str, Any], status: int, told: str, tmp_path: Path
) -> None:
    with gateway(tmp_path, ["Red."]) as served:
        conversation, turn = asked(served, "What is it?")
        url = f"/v1/conversations/{conversation}/turns/{turn}/{way}"
        for stream in (False, True):
            answer = served.http.post(url, json={**body, "stream": stream})
            assert answer.status_code == status
            assert told in answer.text


def test_a_turn_is_found_in_its_own_conversation_only(tmp_path: Path) -> None:
    with gateway(tmp_path, ["Red.", "Blue."]) as served:
        _, turn = asked(served, "What is it?")
        other, _ = asked(served, "And this?")
        for place in (f"{other}/turns/{turn}", f"{other}/turns/turn_0"):
            answer = served.http.post(f"/v1/conversations/{place}/retry")
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "not_found"
