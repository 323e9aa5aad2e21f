"""Calls that nobody waits for any more: they end where their skill next reports its progress."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import Dispatcher, HttpDispatcher, LocalDispatcher
from llava_plus.skills import ImageStore, Skill, SkillUse, report_progress
from llava_plus.skills.composite import Composite, Step
from llava_plus.skills.errors import DeadlineExceeded
from llava_plus.skills.progress import Cancelled, Progress, reporting_each, reporting_to
from llava_plus.skills.runner import SkillRunner
from llava_plus.skills.wire import DEADLINE_HEADER, STREAM_TYPE

from ..serving import worker
from ..toy_skills import RELEASE, Hang, Said

LONG = 1000
"""Steps of a call that nobody is going to wait for: twenty seconds and more."""


class Walk(Skill):
    """Tells in `steps` how far it has come, and in `left` how often it was made to stop."""

    name = "walk"
    description = "Walk, and report every step."
    batch = 2

    def __init__(self) -> None:
        self.steps, self.left = 0, 0
        self.begun = threading.Event()

    def run(self, steps: int) -> Said:
        return self.run_batch([{"steps": steps}])[0]

    def run_batch(self, calls: Sequence[dict[str, Any]]) -> Sequence[Said]:
        self.begun.set()
        longest = max(call["steps"] for call in calls)
        try:
            for step in range(longest):
                time.sleep(0.02)
                self.steps += 1
                # Whoever makes do with what fails must not make do with being stopped.
                with contextlib.suppress(Exception):
                    report_progress(step + 1, longest)
        except BaseException:
            self.left += 1
            raise
        return [Said(said=f"{len(calls)} at once") for _ in calls]


def use(name: str, **arguments: Any) -> SkillUse:
    return SkillUse(id="call_1", name=name, arguments=arguments)


async def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


def call(url: str, steps: int, **headers: str) -> httpx.Response:
    body = json.dumps({"id": "call_1", "arguments": {"steps": steps}})
    return httpx.post(f"{url}/v1/skills/walk", content=body, headers=headers, timeout=10)


@pytest.mark.parametrize("accept", ["application/json", STREAM_TYPE])
def test_a_client_that_goes_away_frees_the_slot(accept: str) -> None:
    skill = Walk()
    with worker(skill) as url:
        leaving = HTTPConnection(url.removeprefix("http://"))
        body = json.dumps({"id": "call_1", "arguments": {"steps": LONG}})
        leaving.request("POST", "/v1/skills/walk", body, {"Accept": accept})
        assert skill.begun.wait(5)
        time.sleep(0.3)  # some of its progress has been sent
        leaving.close()
        assert call(url, 1).json()["text"] == "1 at once"
    assert skill.left == 1
    assert skill.steps < LONG / 2


def test_a_call_past_its_deadline_frees_the_slot() -> None:
    skill = Walk()
    with worker(skill) as url:
        late = call(url, LONG, **{DEADLINE_HEADER: "0.2"})
        assert (late.status_code, late.json()["error"]["kind"]) == (504, "DeadlineExceeded")
        assert call(url, 1).is_success
    assert skill.left == 1


@pytest.mark.parametrize("over_http", [False, True])
@pytest.mark.parametrize("how", ["cancelled", "late"])
async def test_a_dispatch_that_is_given_up_ends_its_skill(how: str, *, over_http: bool) -> None:
    skill = Walk()
    with worker(skill) if over_http else contextlib.nullcontext("") as url:
        dispatcher: Dispatcher = HttpDispatcher([url]) if over_http else LocalDispatcher([skill])
        seconds = 0.2 if how == "late" else 60
        scope = CallScope(
            store=ImageStore(), deadline=time.monotonic() + seconds, watch=lambda _: None
        )
        task = asyncio.create_task(dispatcher.dispatch(use("walk", steps=LONG), scope))
        await until(skill.begun.is_set)
        if how == "cancelled":
            task.cancel()
        with pytest.raises(DeadlineExceeded if how == "late" else asyncio.CancelledError):
            await task
        await until(lambda: skill.left == 1)
        scope = CallScope(store=ImageStore(), deadline=time.monotonic() + 10)
        assert (await dispatcher.dispatch(use("walk", steps=1), scope)).text == "1 at once"
        await dispatcher.aclose()


async def test_of_calls_that_run_together_the_last_to_leave_ends_the_work() -> None:
    skill = Walk()
    runner = SkillRunner([skill])

    def begin(steps: int) -> asyncio.Task[Any]:
        running = runner.call(
            use("walk", steps=steps),
            images={},
            masks={},
            store=ImageStore(),
            deadline=time.monotonic() + 10,
        )
        return asyncio.create_task(running)

    async def two_at_once(steps: int) -> list[asyncio.Task[Any]]:
        skill.begun.clear()
        first = begin(1)
        await until(skill.begun.is_set)
        pair = [begin(steps), begin(steps)]
        await first
        walked = skill.steps
        await until(lambda: skill.steps > walked)
        return pair

    leaving, staying = await two_at_once(25)
    leaving.cancel()
    assert (await staying).text == "2 at once"
    assert skill.left == 0
    for task in await two_at_once(LONG):
        task.cancel()
    await until(lambda: not runner.busy)
    assert skill.left == 1
    runner.close()


async def test_a_skill_that_reports_nothing_holds_its_slot_until_it_is_done() -> None:
    dispatcher = LocalDispatcher([Hang()])
    scope = CallScope(store=ImageStore(), deadline=time.monotonic() + 0.1)
    with pytest.raises(DeadlineExceeded, match="was not done"):
        await dispatcher.dispatch(use("hang"), scope)
    assert dispatcher.busy
    RELEASE.set()
    await until(lambda: not dispatcher.busy)
    RELEASE.clear()
    await dispatcher.aclose()


def test_a_composite_ends_where_one_of_its_parts_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = Walk()
    gone = threading.Event()

    class Tour(Composite):
        name = "tour"
        description = "Walk."
        steps = (Step(skill="walk", arguments=lambda _: {"steps": LONG}),)

        def run(self) -> Said:
            self.run_steps()
            return Said(said="back")

    monkeypatch.setattr("llava_plus.skills.composite.load_skill", lambda name: part)
    tour = Tour()
    tour.setup("cpu")
    heard: list[Progress] = []

    def watch(progress: Progress) -> None:
        heard.append(progress)
        gone.set()

    with reporting_to([watch], until=gone.is_set), pytest.raises(Cancelled):
        tour.run()
    assert (part.left, len(heard)) == (1, 1)


def test_pieces_are_reported_each_and_a_single_one_is_not() -> None:
    told: list[Progress] = []
    with reporting_to([told.append]):
        assert list(reporting_each(["a", "b"], "letters")) == ["a", "b"]
        assert list(reporting_each(["c"], "letters")) == ["c"]
    assert told == [Progress(done=n, total=2, what="letters") for n in (1, 2)]
