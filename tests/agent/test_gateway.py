"""The gateway as its clients see it: OpenAI's own, and plain HTTP for what goes beyond that."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from llava_plus.agent.chats import Chats
from llava_plus.agent.dispatcher import HttpDispatcher, LocalDispatcher
from llava_plus.agent.gateway.app import create_app
from llava_plus.agent.settings import Settings
from llava_plus.agent.store.store import open_store
from llava_plus.model.conversation import AssistantMessage, UserMessage
from llava_plus.model.record_reading import read_record
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import SkillUse
from llava_plus.skills.errors import BadReply, WorkerUnavailable
from starlette.responses import PlainTextResponse

from ..serving import png
from .gateway_server import Gateway, gateway

PAINT = SkillUse(id="p", name="paint", arguments={"colour": "blue"})
LOOK_UP = SkillUse(id="w", name="look_up", arguments={"word": "cat"})
TOOL: Any = {"type": "function", "function": {"name": "look_up", "description": "Look it up."}}


def asking(text: str) -> Any:
    return [{"role": "user", "content": text}]


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def showing(text: str, *urls: str) -> Any:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def extra(answer: Any, name: str) -> Any:
    """A member that OpenAI's types do not know."""
    return answer.model_extra[name]


def test_an_answer_tells_what_the_skills_did(tmp_path: Path) -> None:
    with gateway(tmp_path, [PAINT, "It is blue."]) as served:
        answer = served.openai.chat.completions.create(model="scripted", messages=asking("Paint."))
        (choice,) = answer.choices
        assert (choice.message.content, choice.finish_reason) == ("It is blue.", "stop")
        used, made = extra(choice.message, "skill_events")
        assert (used["type"], used["arguments"]) == ("skill_use", {"colour": "blue"})
        (artifact,) = made["artifacts"]
        assert (made["type"], artifact["handle"]) == ("skill_result", "img_1")
        got = served.http.get(artifact["url"])
        assert (got.headers["content-type"], got.content[:4]) == ("image/png", b"\x89PNG")
        assert got.headers["x-content-type-options"] == "nosniff"
        assert answer.usage
        assert answer.usage.completion_tokens == 1 + 3, "of both replies"
        (kept,) = served.http.get("/v1/conversations").json()["data"]
        assert kept["id"] == extra(answer, "conversation")
        assert kept["head"] == answer.id


def test_a_stream_brings_words_and_events_as_they_come(tmp_path: Path) -> None:
    both = AssistantMessage(text="One moment.", skill_uses=(PAINT,))
    with gateway(tmp_path, [both, BadReply("?"), "It is blue."]) as served:
        chunks = list(
            served.openai.chat.completions.create(
                model="scripted",
                messages=asking("Paint."),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "One moment.\n\nIt is blue."
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage
        assert chunks[-1].usage.completion_tokens == 3 + 3
        events = [c.model_extra["skill_event"] for c in chunks if "skill_event" in c.model_extra]
        kinds = [event["type"] for event in events]
        assert kinds == ["skill_use", "skill_result", "text_withdrawn"]
        assert events[1]["artifacts"][0]["handle"] == "img_1"
        assert len({c.id for c in chunks} | {extra(c, "conversation") for c in chunks}) == 2


def test_skill_events_can_be_left_out(tmp_path: Path) -> None:
    with gateway(tmp_path, [PAINT, "Blue.", PAINT, "Blue."]) as served:
        plain = {"messages": asking("Paint."), "skill_events": False}
        answer = served.http.post("/v1/chat/completions", json=plain).json()
        assert "skill_events" not in answer["choices"][0]["message"]
        stream = served.http.post("/v1/chat/completions", json={**plain, "stream": True}).text
        assert "skill_event" not in stream
        assert stream.endswith("data: [DONE]\n\n")


def test_images_come_as_data_and_as_files(tmp_path: Path) -> None:
    looks = [SkillUse(id=h, name="look", arguments={"image": h}) for h in ("img_1", "img_2")]
    with gateway(tmp_path, [looks, lambda seen: seen.messages[-1].text]) as served:
        file = served.openai.files.create(file=("a.png", png("red", 9, 7)), purpose="vision")
        messages = showing("How large?", uri(png("blue", 5, 4)))
        messages[0]["content"].append({"type": "file", "file": {"file_id": file.id}})
        answer = served.openai.chat.completions.create(model="scripted", messages=messages)
        assert answer.choices[0].message.content == "9 x 7, (255, 0, 0)"


def test_the_clients_tools_are_handed_back_and_answered(tmp_path: Path) -> None:
    script = ScriptedLMM([[PAINT, LOOK_UP], "A cat is an animal."])
    with gateway(tmp_path, script) as served:
        completions = served.openai.chat.completions
        history = asking("What is a cat?")
        first = completions.create(model="scripted", messages=history, tools=[TOOL])
        (choice,) = first.choices
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls or ()
        assert (call.id, call.function.name) == ("w", "look_up")  # type: ignore[union-attr]
        results = [e["name"] for e in extra(choice.message, "skill_events")]
        assert results == ["paint", "paint"], "ours has run beside it"
        told = {"role": "tool", "tool_call_id": "w", "content": "an animal"}
        second = completions.create(
            model="scripted",
            messages=[told],  # type: ignore[list-item]
            tools=[TOOL],
            extra_body={"conversation": extra(first, "conversation")},
        )
        assert second.choices[0].message.content == "A cat is an animal."
        names = [m.result.name for m in script.asked[1].messages if m.role == "tool"]
        assert names == ["paint", "look_up"]


def test_a_history_is_taken_as_it_is_sent(tmp_path: Path) -> None:
    script = ScriptedLMM([LOOK_UP, "An animal."])
    with gateway(tmp_path, script) as served:
        completions = served.openai.chat.completions
        history: Any = [{"role": "system", "content": "Be brief."}, *asking("What is a cat?")]
        stream = completions.create(model="scripted", messages=history, tools=[TOOL], stream=True)
        deltas = [c.choices[0].delta for c in stream]
        (call,) = next(delta.tool_calls for delta in deltas if delta.tool_calls)
        assert call.function
        assert json.loads(call.function.arguments or "") == {"word": "cat"}
        called = {"id": "w", "type": "function", "function": call.function.model_dump()}
        history += [{"role": "assistant", "content": None, "tool_calls": [called]}]
        history += [{"role": "tool", "tool_call_id": "w", "content": "an animal"}]
        answer = completions.create(model="scripted", messages=history, tools=[TOOL], store=False)
        assert answer.choices[0].message.content == "An animal."
        assert extra(answer, "conversation") is None
        asked, *_ = script.asked[1].messages
        assert isinstance(asked, UserMessage)
        assert asked.text == "Be brief.\n\nWhat is a cat?"
        assert script.asked[1].messages[-1].text == "an animal"  # type: ignore[union-attr]


def test_skills_can_be_chosen_and_the_clients_wins_over_ours(tmp_path: Path) -> None:
    script = ScriptedLMM(["Yes.", "Yes.", SkillUse(id="1", name="paint", arguments={}), "Yes."])
    with gateway(tmp_path, script) as served:
        for body in ({"skills": []}, {"skills": ["look"]}):
            served.http.post("/v1/chat/completions", json={"messages": asking("Hello?"), **body})
        own = {"type": "function", "function": {"name": "paint"}}
        body = {"messages": asking("Paint."), "tools": [own]}
        answer = served.http.post("/v1/chat/completions", json=body).json()
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        none = {**body, "tool_choice": "none"}
        served.http.post("/v1/chat/completions", json=none)
        offered = [[spec.name for spec in asked.skills] for asked in script.asked]
        assert offered[:2] == [[], ["look"]]
        assert offered[2].count("paint") == 1
        assert offered[3] == []


def test_a_kept_conversation_goes_on_is_shown_and_is_exported(tmp_path: Path) -> None:
    look = SkillUse(id="l", name="look", arguments={"image": "img_1"})
    with gateway(tmp_path, ["A picture.", look, "It is 5 x 4."]) as served:
        completions = served.openai.chat.completions
        messages = showing("What is it?", uri(png("blue", 5, 4)))
        first = completions.create(model="scripted", messages=messages)
        conversation = extra(first, "conversation")
        more = {"conversation": conversation}
        completions.create(model="scripted", messages=asking("How large?"), extra_body=more)
        whole = served.http.get(f"/v1/conversations/{conversation}").json()
        assert whole["title"] == "What is it?"
        assert [turn["state"] for turn in whole["turns"]] == ["finished", "finished"]
        assert whole["turns"][1]["parent"] == first.id == whole["turns"][0]["id"]
        assert whole["turns"][0]["images"]["img_1"]["width"] == 5
        exported = served.http.get(f"/v1/conversations/{conversation}/export")
        record = read_record(exported.content)
        assert [message.role for message in record.messages][-2:] == ["tool", "assistant"]
        assert record.images["img_1"].startswith("images/")


def test_conversations_are_named_found_and_deleted(tmp_path: Path) -> None:
    with gateway(tmp_path, ["Yes.", "Yes."]) as served:
        http = served.http
        begun = http.post("/v1/conversations", json={"title": "Cats", "skills": ["look"]}).json()
        assert begun["skills"] == ["look"]
        for text in ("Is a whale a fish?", "Is a bat a bird?"):
            served.openai.chat.completions.create(model="scripted", messages=asking(text))
        found = http.get("/v1/conversations", params={"search": "WHALE"}).json()["data"]
        assert [one["title"] for one in found] == ["Is a whale a fish?"]
        first = http.get("/v1/conversations", params={"limit": 2}).json()
        assert first["has_more"]
        before = first["data"][-1]["updated_at"]
        rest = http.get("/v1/conversations", params={"limit": 2, "before": before}).json()
        assert [one["title"] for one in rest["data"]] == ["Cats"]
        assert not rest["has_more"]
        path = f"/v1/conversations/{begun['id']}"
        assert http.post(path, json={"title": "Dogs"}).json()["title"] == "Dogs"
        assert http.delete(path).json()["deleted"]
        assert http.get(path).status_code == 404


def test_feedback_stays_with_the_turn(tmp_path: Path) -> None:
    with gateway(tmp_path, ["Yes."]) as served:
        answer = served.openai.chat.completions.create(model="scripted", messages=asking("Good?"))
        body = {"turn": answer.id, "vote": "down", "comment": "No."}
        assert served.http.post("/v1/feedback", json=body).json() == body
        turn = served.settled(extra(answer, "conversation"))
        assert (turn["vote"], turn["comment"]) == ("down", "No.")


def test_files_are_images_and_can_be_deleted(tmp_path: Path) -> None:
    with gateway(tmp_path, []) as served:
        files = served.openai.files
        kept = files.create(file=("a.png", png("red")), purpose="vision")
        assert (kept.filename, kept.bytes) == ("a.png", len(png("red")))
        assert [file.id for file in files.list()] == [kept.id]
        assert files.retrieve(kept.id) == kept
        assert files.content(kept.id).read() == png("red")
        assert files.delete(kept.id).deleted
        with pytest.raises(openai.NotFoundError):
            files.retrieve(kept.id)
        with pytest.raises(openai.BadRequestError, match="not an image") as refused:
            files.create(file=("a.png", b"<script>"), purpose="vision")
        assert refused.value.param == "file"


def test_models_are_listed_and_found(tmp_path: Path) -> None:
    with gateway(tmp_path, []) as served:
        assert [model.id for model in served.openai.models.list()] == ["scripted"]
        assert served.openai.models.retrieve("scripted").owned_by == "llava-plus"
        with pytest.raises(openai.NotFoundError, match="there is: scripted"):
            served.openai.models.retrieve("org/gpt-4")


HELLO = {"messages": asking("Hello?")}
NO_JSON = {"id": "1", "type": "function", "function": {"name": "x", "arguments": "{"}}


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": asking(" ")}, 400, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "messages.0.content"),
        ({"messages": showing("Hm?", "file:///etc/passwd")}, 400, "messages.0.content.0"),
        ({"messages": showing("Hm?", "http://127.0.0.1/")}, 400, "messages.0.content.0"),
        ({"messages": showing("Hm?", "data:image/png;base64,!")}, 400, "messages.0.content.0"),
        ({"messages": showing("Hm?", uri(b"GIF"))}, 400, "messages.0.content"),
        (
            {"messages": [{"role": "assistant", "content": "", "tool_calls": [NO_JSON]}]},
            400,
            "messages.0.tool_calls.0.function.arguments",
        ),
        ({"messages": [{"role": "assistant", "content": "Hello."}]}, 400, "messages"),
        (
            {"messages": [{"role": "tool", "tool_call_id": "9", "content": ""}]},
            400,
            "messages.0.tool_call_id",
        ),
        ({"n": 2}, 400, "n"),
        ({"tools": [TOOL, TOOL]}, 400, "tools.1.function.name"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format.type"),
        ({"skills": ["fly"]}, 400, "skills.0"),
        ({"model": "gpt-4"}, 404, "model"),
        ({"conversation": "conv_0"}, 404, None),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    refusing: Gateway, change: dict[str, Any], status: int, param: str | None
) -> None:
    for stream in (False, True):
        body = {**HELLO, **change, "stream": stream}
        answer = refusing.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == status
        problem = answer.json()["error"]
        assert problem["type"] == "invalid_request_error"
        assert problem["param"] == param


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose LMM is never asked."""
    with gateway(tmp_path_factory.mktemp("gateway"), []) as served:
        yield served


def test_routes_that_are_none_and_bodies_that_are_none(refusing: Gateway) -> None:
    def told(method: str, path: str, **options: Any) -> tuple[int, str, str | None]:
        answer = refusing.http.request(method, path, **options)
        problem = answer.json()["error"]
        return answer.status_code, problem["message"], problem["code"]

    assert told("GET", "/v2") == (404, "GET /v2: Not Found", "unknown_url")
    assert told("PUT", "/v1/models")[::2] == (405, "method_not_allowed")
    json_type = {"Content-Type": "application/json"}
    for body in (b"{", b'{"messages": NaN}', b'"\\ud800"', b'{"a": "\\u0000"}', b"[" * 9999):
        assert told("POST", "/v1/chat/completions", content=body, headers=json_type)[0] == 400
    literal = {"messages": asking("\\u0000"), "model": "gpt-4"}
    assert told("POST", "/v1/chat/completions", json=literal)[0] == 404, "these are six characters"


async def test_a_page_that_takes_every_path_leaves_the_api_its_own(tmp_path: Path) -> None:
    places = f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite", str(tmp_path / "artifacts")
    async with open_store(*places) as store:
        chats = Chats(store, {"scripted": ScriptedLMM([])}, LocalDispatcher([]), [])
        app = create_app(chats, Settings(), page=False)
        app.mount("/", PlainTextResponse("the page"))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            assert (await http.get("/")).text == "the page"
            assert (await http.get("/v1/models")).status_code == 200
            wrong, unknown = await http.put("/v1/models"), await http.get("/v1/nothing")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_url")


def test_bodies_and_pictures_have_limits(tmp_path: Path) -> None:
    limits = {"upload_bytes": 5000, "pixels": 100}
    with gateway(tmp_path, [], access=limits) as served:
        large = served.http.post("/v1/chat/completions", json={"messages": asking("x" * 9999)})
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
        many = showing("Hm?", uri(png("red", 11, 10)))
        answer = served.http.post("/v1/chat/completions", json={"messages": many})
        assert answer.status_code == 400
        assert "at most 100 pixels" in answer.json()["error"]["message"]


def test_strangers_and_the_hurried_are_refused(tmp_path: Path) -> None:
    with gateway(tmp_path, [], access={"require_key": True}) as served:
        with pytest.raises(openai.AuthenticationError, match="not known"):
            served.openai.models.list()
        assert served.http.get("/healthz").json() == {"alive": True}
    with gateway(tmp_path, [], access={"requests_per_minute": 1}) as served:
        served.openai.models.list()
        with pytest.raises(openai.RateLimitError) as hurried:
            served.openai.models.list()
        assert int(hurried.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (WorkerUnavailable("the worker is down"), 503),
        (ValueError("a secret"), 500),
    ],
)
def test_what_keeps_a_turn_from_its_answer_is_told(
    tmp_path: Path, problem: Exception, status: int
) -> None:
    with gateway(tmp_path, [problem, problem]) as served:
        answer = served.http.post("/v1/chat/completions", json=HELLO)
        assert answer.status_code == status
        lines = served.http.post("/v1/chat/completions", json={**HELLO, "stream": True}).text
        last = json.loads(lines.strip().splitlines()[-1].removeprefix("data: "))
        assert last == answer.json()
        assert "secret" not in lines
        for kept in served.http.get("/v1/conversations").json()["data"]:
            assert served.settled(kept["id"])["state"] == "failed"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_its_turn(tmp_path: Path, stream: bool) -> None:
    hang = SkillUse(id="h", name="climb", arguments={"steps": 600, "pause": 0.05})
    with gateway(tmp_path, [hang, "Never."]) as served:
        body = {**HELLO, "stream": stream}
        if stream:
            with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                lines = answer.iter_lines()
                assert any("skill_progress" in line for line in lines)
        else:
            with pytest.raises(httpx.ReadTimeout):
                served.http.post("/v1/chat/completions", json=body, timeout=1)
        (kept,) = served.http.get("/v1/conversations").json()["data"]
        turn = served.settled(kept["id"])
        assert (turn["state"], len(turn["messages"])) == ("stopped", 1)


def test_a_turn_is_stopped_from_elsewhere(tmp_path: Path) -> None:
    climb = SkillUse(id="h", name="climb", arguments={"steps": 600, "pause": 0.05})
    with gateway(tmp_path, [climb, "Never."]) as served:
        body = {**HELLO, "stream": True}
        with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            first = json.loads(next(lines).removeprefix("data: "))
            path = f"/v1/conversations/{first['conversation']}/stop"
            assert httpx.post(f"{served.url}{path}").json()["stopped"] == [first["id"]]
            *_, last = [line for line in lines if line]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "conflict"


def test_readiness_names_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with gateway(tmp_path, []) as served:
        assert served.http.get("/readyz").json() == {"ready": True, "problems": {}}
        served.chats.dispatcher = HttpDispatcher(["http://127.0.0.1:9"])
        answer = served.http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["problems"] == {"workers": "no skill can be reached just now"}
        assert "worker http://127.0.0.1:9 cannot be reached" in caplog.text


def test_figures_are_told(refusing: Gateway) -> None:
    refusing.http.get("/v1/models")
    text = refusing.http.get("/metrics").text
    assert 'route="/v1/models"' in text
