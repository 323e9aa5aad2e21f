"""Calls that are run together, and skills that are put to sleep when memory is short."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from llava_plus.skills import ImageStore, Skill, SkillUse
from llava_plus.skills.calls import SkillResult
from llava_plus.skills.errors import DeadlineExceeded, SkillFailed
from llava_plus.skills.runner import SkillRunner
from llava_plus.skills.wire import SkillCrashed

from ..toy_skills import Said

MEGABYTE = 1_000_000


class Together(Skill):
    """Says how many calls were run at once; the one that says `first` waits to be let go on."""

    name = "together"
    description = "Tell how many calls were run at once."
    batch = 4

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()

    def run(self, text: str) -> Said:
        if text == "first":
            self.entered.set()
            self.go_on.wait(10)
        if text == "bad":
            raise ValueError("it is bad")
        return Said(said=f"{text} of 1")

    def run_batch(self, calls: Sequence[dict[str, Any]]) -> Sequence[Said]:
        texts = [arguments["text"] for arguments in calls]
        if "bad" in texts:
            raise ValueError("one of them is bad")
        return [Said(said=f"{text} of {len(texts)}") for text in texts]


async def call(
    runner: SkillRunner, name: str, seconds: float = 10, **arguments: Any
) -> SkillResult:
    return await runner.call(
        SkillUse(id="call_1", name=name, arguments=arguments),
        images={},
        masks={},
        store=ImageStore(MEGABYTE),
        deadline=time.monotonic() + seconds,
    )


async def _after_the_first(skill: Together, *texts: Any) -> list[Any]:
    """What comes of calls that gather while the first one holds the only slot."""
    runner = SkillRunner([skill])
    first = asyncio.create_task(call(runner, skill.name, text="first"))
    await asyncio.to_thread(skill.entered.wait, 10)
    others = [asyncio.create_task(call(runner, skill.name, text=text)) for text in texts]
    await asyncio.sleep(0)
    skill.go_on.set()
    assert (await first).text == "first of 1"
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    runner.close()
    return [o.text if isinstance(o, SkillResult) else o for o in outcomes]


@pytest.mark.asyncio
async def test_calls_that_have_gathered_are_run_together_up_to_the_batch() -> None:
    told = await _after_the_first(Together(), *"abcdef")
    assert told == ["a of 4", "b of 4", "c of 4", "d of 4", "e of 2", "f of 2"]


@pytest.mark.asyncio
async def test_a_fault_of_one_call_does_not_take_the_others_of_its_batch() -> None:
    a, bad, no_text, b = await _after_the_first(Together(), "a", "bad", 7, "b")
    assert (a, b) == ("a of 1", "b of 1")
    assert isinstance(bad, SkillCrashed)
    assert "it is bad" in str(bad)
    assert "valid string" in str(no_text)


class Heavy(Skill):
    """Holds a megabyte of weights while it is awake."""

    description = "Say how often it was set up."

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]
        self.setups = 0
        self.model: torch.nn.Module | None = None

    def setup(self, device: str) -> None:
        self.setups += 1
        self.model = torch.nn.Linear(250, 1000, bias=False, device=device)

    def teardown(self) -> None:
        self.model = None

    def run(self, seconds: float = 0) -> Said:
        assert self.model is not None
        time.sleep(seconds)
        return Said(said=f"set up {self.setups} times")


@pytest.mark.asyncio
async def test_the_longest_unused_sleeps_when_memory_is_short_and_wakes_when_called() -> None:
    a, b, c = skills = [Heavy(name) for name in "abc"]
    runner = SkillRunner(skills, memory=2 * MEGABYTE)
    for name in "abab":
        await call(runner, name)
    assert runner.held == 2 * MEGABYTE
    await call(runner, "c")
    assert [skill.model is None for skill in skills] == [True, False, False]
    assert runner.held == 2 * MEGABYTE
    assert (await call(runner, "a")).text == "set up 2 times"
    assert [skill.model is None for skill in (a, b, c)] == [False, True, False]
    assert {state.state for state in runner.states.values()} == {"ready"}
    runner.close()


@pytest.mark.asyncio
async def test_a_skill_at_work_is_not_put_to_sleep() -> None:
    runner = SkillRunner([Heavy("a"), Heavy("b")], memory=MEGABYTE)
    await call(runner, "a")
    at_work = asyncio.create_task(call(runner, "a", seconds=0.2))
    await asyncio.sleep(0)
    assert (await call(runner, "b")).text == "set up 1 times"
    assert (await at_work).text == "set up 1 times"
    runner.close()


@pytest.mark.asyncio
async def test_weights_that_skills_share_count_once() -> None:
    a, b = Heavy("a"), Heavy("b")
    runner = SkillRunner([a, b])
    await runner.setup()
    assert runner.held == 2 * MEGABYTE
    b.model = a.model
    assert runner.held == MEGABYTE
    runner.close()


class Greedy(Skill):
    name = "greedy"
    description = "Ask for more memory than there is."

    def run(self, gigabytes: int) -> Said:
        return Said(said=str(torch.empty(gigabytes * 10**9, dtype=torch.uint8).shape))


@pytest.mark.asyncio
async def test_running_out_of_memory_is_told_and_survived() -> None:
    runner = SkillRunner([Greedy()])
    with pytest.raises(SkillFailed, match=r"greedy ran out of memory; try a smaller image"):
        await call(runner, "greedy", gigabytes=10**9)
    assert (await call(runner, "greedy", gigabytes=0)).text == "torch.Size([0])"
    runner.close()


@pytest.mark.asyncio
async def test_a_call_that_nobody_waits_for_any_more_is_not_run() -> None:
    skill = Together()
    runner = SkillRunner([skill])
    first = asyncio.create_task(call(runner, skill.name, text="first"))
    await asyncio.to_thread(skill.entered.wait, 10)
    with pytest.raises(DeadlineExceeded, match="no free slot"):
        await call(runner, skill.name, seconds=0.01, text="late")
    skill.go_on.set()
    await first
    assert (await call(runner, skill.name, text="next")).text == "next of 1"
    runner.close()
