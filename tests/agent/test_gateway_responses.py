"""OpenAI's newer protocol over the same turns, with the official client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from llava_plus.model.conversation import UserMessage
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import SkillUse
from llava_plus.skills.errors import WorkerUnavailable

from ..serving import png
from .gateway_server import gateway
from .test_gateway import LOOK_UP, PAINT, uri

TOOL: Any = {"type": "function", "name": "look_up", "description": "Look it up."}


def test_a_response_goes_on_behind_the_one_before(tmp_path: Path) -> None:
    look = SkillUse(id="l", name="look", arguments={"image": "img_1"})
    script = ScriptedLMM([look, "It is 5 x 4.", "No.", "Maybe."])
    with gateway(tmp_path, script) as served:
        responses = served.openai.responses
        image: Any = {"type": "input_image", "image_url": uri(png("blue", 5, 4))}
        text: Any = {"type": "input_text", "text": "How large?"}
        first = responses.create(
            model="scripted",
            input=[{"role": "user", "content": [image, text]}],
            instructions="Be brief.",
        )
        assert (first.output_text, first.status) == ("It is 5 x 4.", "completed")
        assert first.usage
        assert first.usage.output_tokens == 1 + 5
        for _ in range(2):
            responses.create(model="scripted", input="Is it red?", previous_response_id=first.id)
        assert first.conversation
        turns = served.http.get(f"/v1/conversations/{first.conversation.id}").json()["turns"]
        assert [turn["parent"] for turn in turns] == [None, first.id, first.id]
        asked = [m.text for m in script.asked[-1].messages if isinstance(m, UserMessage)]
        assert asked == ["Be brief.\n\nHow large?", "Is it red?"]


def test_a_stream_tells_words_skills_and_calls(tmp_path: Path) -> None:
    with gateway(tmp_path, [PAINT, "Blue it is.", LOOK_UP, "An animal."]) as served:
        responses = served.openai.responses
        events = list(responses.create(model="scripted", input="Paint.", stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        words = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert "".join(words) == "Blue it is."
        kinds = [str(event.type) for event in events]
        assert kinds.count("response.skill_event") == 2
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        with responses.stream(model="scripted", input="What is a cat?", tools=[TOOL]) as stream:
            whole = stream.get_final_response()
        (call,) = whole.output
        assert call.type == "function_call"
        assert (call.name, call.arguments) == ("look_up", '{"word": "cat"}')
        brought: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Meow."}
        answer = responses.create(
            model="scripted", input=[brought], previous_response_id=whole.id, tools=[TOOL]
        )
        assert answer.output_text == "An animal."


def test_a_history_with_calls_is_taken_as_it_is_sent(tmp_path: Path) -> None:
    script = ScriptedLMM(["An animal."])
    with gateway(tmp_path, script) as served:
        items: Any = [
            {"role": "user", "content": "What is a cat?"},
            {"role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "w", "name": "look_up", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "w", "output": "Meow."},
        ]
        answer = served.openai.responses.create(model="scripted", input=items, store=False)
        assert answer.output_text == "An animal."
        assert answer.conversation is None
        roles = [message.role for message in script.asked[0].messages]
        assert roles == ["user", "assistant", "tool"]
        with pytest.raises(openai.BadRequestError) as refused:
            served.openai.responses.create(model="scripted", input=items[:3])
        assert refused.value.param == "input"


def test_a_failure_in_the_middle_ends_the_stream(tmp_path: Path) -> None:
    with gateway(tmp_path, [PAINT, WorkerUnavailable("the worker is down")]) as served:
        *_, last = served.openai.responses.create(model="scripted", input="Hm?", stream=True)
        assert last.type == "response.failed"
        assert last.response.error
        assert last.response.error.message == "the worker is down"
