"""Calls answered line by line over real sockets: progress, then what a plain call is answered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from llava_plus.skills.wire import DEADLINE_HEADER, STREAM_TYPE

from ..serving import worker
from ..toy_skills import RELEASE, Climb, Look, Noop, Refuse, Slow, Unready

SHA = "0" * 64


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    skills = (Climb(), Look(), Noop(), Refuse(), Unready())
    with worker(*skills, ready=False) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def call(
    client: httpx.Client, name: str, *, accept: str = STREAM_TYPE, seconds: float = 5, **body: Any
) -> httpx.Response:
    body = {"id": "call_1", "arguments": {}, **body}
    headers = {"Accept": accept, DEADLINE_HEADER: str(seconds)}
    return client.post(f"/v1/skills/{name}", json=body, headers=headers)


def climb(client: httpx.Client, steps: int, **options: Any) -> httpx.Response:
    accept, seconds = options.pop("accept", STREAM_TYPE), options.pop("seconds", 5)
    arguments = {"steps": steps, **options}
    return call(client, "climb", accept=accept, seconds=seconds, arguments=arguments)


def line(done: int, total: int) -> dict[str, Any]:
    return {"progress": {"done": done, "total": total, "what": "steps"}}


@pytest.mark.parametrize("accept", [STREAM_TYPE, "application/json, Application/X-NDJSON;q=0.9"])
def test_progress_comes_in_order_and_the_plain_answer_last(
    client: httpx.Client, accept: str
) -> None:
    streamed = climb(client, 3, pause=0.15, accept=accept)
    plain = climb(client, 3, accept="*/*")
    assert streamed.status_code == 200
    assert streamed.headers["content-type"] == STREAM_TYPE
    *progress, last = streamed.content.removesuffix(b"\n").split(b"\n")
    assert [json.loads(told) for told in progress] == [line(1, 3), line(2, 3), line(3, 3)]
    assert last == plain.content
    assert plain.headers["content-type"] == "application/json"


def test_progress_comes_while_the_skill_runs(client: httpx.Client) -> None:
    arguments = {"steps": 1, "end": "hang"}
    headers = {"Accept": STREAM_TYPE}
    body = {"id": "call_1", "arguments": arguments}
    with client.stream("POST", "/v1/skills/climb", json=body, headers=headers) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines)) == line(1, 1)
        RELEASE.set()
        assert json.loads(next(lines))["text"] == "hang"
        assert list(lines) == []


def test_many_reports_become_few_lines_and_the_last_is_among_them(client: httpx.Client) -> None:
    began = time.monotonic()
    response = climb(client, 400, pause=0.001)
    *progress, last = map(json.loads, response.content.splitlines())
    assert len(progress) <= (time.monotonic() - began) / 0.1 + 2
    assert progress[-1] == line(400, 400)
    assert last["text"] == "there"


@pytest.mark.parametrize(
    ("end", "seconds", "kind"), [("fail", 5, "SkillFailed"), ("hang", 0.3, "DeadlineExceeded")]
)
def test_a_call_that_fails_on_the_way_ends_with_its_problem(
    client: httpx.Client, end: str, seconds: float, kind: str
) -> None:
    response = climb(client, 1, pause=0.1, end=end, seconds=seconds)
    told, last = map(json.loads, response.content.splitlines())
    assert response.status_code == 200
    assert told == line(1, 1)
    assert last["error"]["kind"] == kind


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("noop", {"arguments": {"text": "hello"}}, 200),
        ("nobody", {}, 404),
        ("look", {"images": {"img_1": SHA}}, 409),
        ("noop", {"arguments": {"txt": ""}}, 422),
        ("refuse", {}, 424),
        ("unready", {}, 503),
    ],
)
def test_without_progress_the_answer_is_the_plain_one(
    client: httpx.Client, name: str, body: dict[str, Any], status: int
) -> None:
    asked = call(client, name, **body)
    plain = call(client, name, accept="*/*", **body)
    assert asked.status_code == plain.status_code == status
    assert asked.content == plain.content
    assert asked.headers["content-type"] == "application/json"


def test_beyond_the_queue_is_429() -> None:
    with worker(Climb(), queue=0) as url, httpx.Client(base_url=url, timeout=10) as client:
        first = threading.Thread(target=climb, args=(client, 1), kwargs={"end": "hang"})
        first.start()
        time.sleep(0.1)
        refused = climb(client, 1)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        RELEASE.set()
        first.join()


def test_a_client_that_goes_away_leaves_the_queue() -> None:
    slow = Slow()
    with worker(slow) as url, httpx.Client(base_url=url, timeout=10) as client:
        arguments = {"seconds": 0.5}
        first = threading.Thread(
            target=call, args=(client, "slow"), kwargs={"arguments": arguments}
        )
        first.start()
        time.sleep(0.1)
        with httpx.Client(base_url=url, timeout=0.1) as hasty, pytest.raises(httpx.ReadTimeout):
            call(hasty, "slow", arguments={"seconds": 0})
        first.join()
        assert call(client, "slow", arguments={"seconds": 0}).status_code == 200
        assert slow.runs == 2


def test_a_client_that_goes_away_amid_its_lines_costs_nobody_else(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"id": "call_1", "arguments": {"steps": 5, "pause": 0.12}}
    headers = {"Accept": STREAM_TYPE}
    with client.stream("POST", "/v1/skills/climb", json=body, headers=headers) as response:
        assert json.loads(next(response.iter_lines())) == line(1, 5)
    after = climb(client, 2, pause=0.12)
    assert json.loads(after.content.splitlines()[-1])["text"] == "there"
    assert caplog.records == [r for r in caplog.records if r.name == "httpx"]
