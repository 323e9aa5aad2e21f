"""Progress reported inside a skill, and who hears of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

import pytest
from llava_plus.skills import ImageStore, Skill, SkillUse, report_progress
from llava_plus.skills.progress import Cancelled, Progress, Watch
from llava_plus.skills.runner import SkillRunner

from ..toy_skills import RELEASE, Climb, Said


class Delegating(Skill):
    """Works in a thread of its own."""

    name = "delegating"
    description = "Let another thread do it."

    def run(self) -> Said:
        thread = threading.Thread(target=copy_context().run, args=(report_progress, 1, 2, "pages"))
        thread.start()
        thread.join()
        return Said(said="done")


class Together(Skill):
    """Runs what has gathered while the first call waited; with `fails`, not at once."""

    name = "together"
    description = "Run calls together."
    batch = 8

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.entered, self.go_on = fails, threading.Event(), threading.Event()

    def run(self, text: str) -> Said:
        if text == "first":
            self.entered.set()
            self.go_on.wait(10)
        report_progress(1, 1, text)
        return Said(said=text)

    def run_batch(self, calls: Sequence[dict[str, Any]]) -> Sequence[Said]:
        report_progress(1, 1, "batch")
        time.sleep(0.15)
        if self.fails:
            raise ValueError("not together")
        return [Said(said="together") for _ in calls]


async def run(runner: SkillRunner, name: str, watch: Watch | None, **arguments: Any) -> str:
    result = await runner.call(
        SkillUse(id="call_1", name=name, arguments=arguments),
        images={},
        masks={},
        store=ImageStore(),
        deadline=time.monotonic() + 10,
        watch=watch,
    )
    return result.text


def test_outside_of_a_call_a_report_is_heard_by_nobody() -> None:
    report_progress(1, 2)


async def test_it_is_heard_in_the_event_loop() -> None:
    runner = SkillRunner([Climb()])
    heard: list[tuple[int, threading.Thread]] = []
    here = threading.current_thread()

    def watch(progress: Progress) -> None:
        heard.append((progress.done, threading.current_thread()))

    assert await run(runner, "climb", watch, steps=3, pause=0.12) == "there"
    assert heard == [(1, here), (2, here), (3, here)]
    assert await run(runner, "climb", None, steps=3) == "there"
    assert len(heard) == 3
    runner.close()


async def test_what_is_reported_at_once_is_heard_before_the_result() -> None:
    runner = SkillRunner([Climb()])
    heard: list[Progress] = []
    await run(runner, "climb", heard.append, steps=500)
    assert heard[-1] == Progress(done=500, total=500)
    assert len(heard) < 5
    runner.close()


async def test_nothing_is_heard_after_the_caller_has_gone() -> None:
    runner = SkillRunner([Climb()])
    heard: list[Progress] = []
    waiting = asyncio.create_task(run(runner, "climb", heard.append, steps=4, pause=0.12))
    while not heard:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    before = list(heard)
    while runner.busy:
        await asyncio.sleep(0.01)
    assert heard == before
    runner.close()


def test_a_skill_that_outlives_the_event_loop_ends_with_its_next_report() -> None:
    ended = threading.Event()

    class Outliving(Skill):
        name = "outliving"
        description = "Report when nobody is there."

        def run(self) -> Said:
            report_progress(1, 2)
            RELEASE.wait(10)
            try:
                report_progress(2, 2)
            except Cancelled:
                ended.set()
                raise
            return Said(said="done")

    async def leave() -> None:
        runner = SkillRunner([Outliving()])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run(runner, "outliving", lambda _: None), 0.1)

    RELEASE.clear()
    asyncio.run(leave())
    RELEASE.set()
    assert ended.wait(5)
    RELEASE.clear()


async def test_a_thread_in_the_context_of_the_call_belongs_to_it() -> None:
    runner = SkillRunner([Delegating()])
    heard: list[Progress] = []
    await run(runner, "delegating", heard.append)
    assert heard == [Progress(done=1, total=2, what="pages")]
    runner.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_every_call_of_a_batch_hears_of_it(*, fails: bool) -> None:
    skill = Together(fails=fails)
    runner = SkillRunner([skill])
    heard: dict[str, list[str]] = {"first": [], "a": [], "b": []}

    def call(text: str) -> asyncio.Task[str]:
        watch = heard[text].append
        calling = run(runner, "together", lambda told: watch(told.what), text=text)
        return asyncio.create_task(calling)

    first = call("first")
    await asyncio.to_thread(skill.entered.wait, 10)
    others = [call("a"), call("b")]
    await asyncio.sleep(0.01)
    skill.go_on.set()
    await asyncio.gather(first, *others)
    runner.close()
    alone = {"a": ["a"], "b": ["b"]} if fails else {"a": [], "b": []}
    assert heard == {"first": ["first"]} | {text: ["batch", *alone[text]] for text in alone}
