"""Turns against real workers over HTTP, with an LMM that says what it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from llava_plus.agent.dispatcher import HttpDispatcher
from llava_plus.agent.fleet import start_fleet
from llava_plus.agent.loop import (
    Agent,
    CallProgressed,
    CallsDecided,
    ResultArrived,
    StepFinished,
    TextDelta,
    TextWithdrawn,
    TurnEvent,
    TurnFinished,
)
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage
from llava_plus.model.lmm import Event, Replied, Usage
from llava_plus.model.scripted import Scripted, ScriptedLMM
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.errors import (
    BadConfiguration,
    BadReply,
    DeadlineExceeded,
    LlavaPlusError,
    WorkerUnavailable,
)
from llava_plus.skills.progress import Progress

from ..serving import TOYS, install_toys, png, worker

SKILLS = ("noop", "look", "paint", "cover", "slow", "hang", "nonsense", "refuse", "crash", "climb")


def use(name: str, id_: str = "a", **arguments: object) -> SkillUse:
    return SkillUse(id=id_, name=name, arguments=arguments)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with worker(*(toy() for toy in TOYS.values() if toy.name in SKILLS)) as url:
        yield url


@pytest.fixture
async def dispatcher(url: str) -> AsyncIterator[HttpDispatcher]:
    dispatcher = HttpDispatcher([url])
    yield dispatcher
    await dispatcher.aclose()


class Turn:
    """A turn that was taken, and all that it told."""

    def __init__(self, events: list[TurnEvent], lmm: ScriptedLMM) -> None:
        assert isinstance(events[-1], TurnFinished)
        assert sum(isinstance(event, TurnFinished) for event in events) == 1
        self.events = events
        self.lmm = lmm
        self.finished = events[-1]
        self.conversation = self.finished.conversation
        self.error = self.finished.error
        self.results = [m.result for m in self.conversation.messages if isinstance(m, SkillMessage)]
        check_whole(self.conversation)


def check_whole(conversation: Conversation) -> None:
    """No call without its result, and no result without its call."""
    calls = [
        use.id
        for message in conversation.messages
        if isinstance(message, AssistantMessage)
        for use in message.skill_uses
    ]
    results = [m.result.id for m in conversation.messages if isinstance(m, SkillMessage)]
    assert calls == results
    assert len(set(calls)) == len(calls)


async def take(
    dispatcher: HttpDispatcher, *replies: Scripted, max_steps: int = 6, seconds: float = 20
) -> Turn:
    lmm = ScriptedLMM(replies)
    agent = Agent(lmm, dispatcher, max_steps=max_steps, turn_seconds=seconds)
    store = ImageStore()
    conversation = Conversation(skills=tuple(await dispatcher.specs()))
    asked = conversation.ask("Go on.", [store.add(png())])
    return Turn([event async for event in agent.turn(asked, store)], lmm)


async def test_answers_without_a_call(dispatcher: HttpDispatcher) -> None:
    turn = await take(dispatcher, "It is blue.")
    assert turn.conversation.answer == "It is blue."
    assert "".join(e.text for e in turn.events if isinstance(e, TextDelta)) == "It is blue."
    assert turn.error is None
    assert len(turn.finished.steps) == 1
    turn.finished.raise_for_error()


async def test_goes_on_from_a_result(dispatcher: HttpDispatcher) -> None:
    turn = await take(dispatcher, use("look", image="img_1"), "Small.")
    assert turn.results[0].text == "8 x 6, (0, 0, 255)"
    kinds = [type(event) for event in turn.events]
    assert kinds == [
        CallsDecided,
        ResultArrived,
        StepFinished,
        TextDelta,
        StepFinished,
        TurnFinished,
    ]
    assert turn.finished.steps[0].skill_seconds["a"] > 0
    assert turn.lmm.asked[1].messages[-1].text == "8 x 6, (0, 0, 255)"


async def test_tells_how_far_a_call_has_come(dispatcher: HttpDispatcher) -> None:
    climb = use("climb", steps=2, pause=0.15)
    turn = await take(dispatcher, climb, "Up.")
    assert turn.events[1:3] == [
        CallProgressed(climb, Progress(done=step, total=2)) for step in (1, 2)
    ]
    kinds = [type(event) for event in turn.events]
    assert kinds[:5] == [CallsDecided, CallProgressed, CallProgressed, ResultArrived, StepFinished]


async def test_hands_a_made_image_to_a_later_call(dispatcher: HttpDispatcher) -> None:
    turn = await take(
        dispatcher, use("paint", colour="red"), use("look", "b", image="img_2"), "Red."
    )
    assert turn.results[1].text == "8 x 8, (255, 0, 0)"
    assert list(turn.conversation.images) == ["img_1", "img_2"]


async def test_runs_the_calls_of_a_reply_at_once_and_keeps_their_order(
    dispatcher: HttpDispatcher,
) -> None:
    calls = [use("slow", "a", seconds=0.4), use("noop", "b"), use("paint", "c", colour="red")]
    turn = await take(dispatcher, calls, "Done.")
    arrived = [event.result.id for event in turn.events if isinstance(event, ResultArrived)]
    assert arrived[-1] == "a"
    assert [result.id for result in turn.results] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("call", "kind", "told"),
    [
        (use("fly"), "UnknownSkill", "there is no skill 'fly'; there is: noop, look"),
        (use("look"), "BadSkillUse", "look: 'image' is a required property"),
        (use("look", image=3), "BadSkillUse", "look: image: 3 is not of type 'string'"),
        (use("look", image="img_1", zoom=2), "BadSkillUse", "'zoom' was unexpected"),
        (use("look", image="img_9"), "BadSkillUse", "there is: img_1"),
        (use("noop", text="x" * 9000, image=1), "BadSkillUse", "noop: image: 1 is not of type"),
        (use("refuse"), "SkillFailed", "nothing to find"),
        (use("nonsense"), "SkillFailed", "returned int"),
        (use("crash"), "SkillFailed", "crash"),
    ],
)
async def test_tells_the_model_what_went_wrong(
    dispatcher: HttpDispatcher, call: SkillUse, kind: str, told: str
) -> None:
    turn = await take(dispatcher, call, "I could not.")
    (result,) = turn.results
    assert result.error
    assert result.error.kind == kind
    assert told in result.error.message
    assert turn.conversation.answer == "I could not."


async def test_tells_the_model_that_it_called_this_before(dispatcher: HttpDispatcher) -> None:
    again = [use("noop", "b", text="x"), use("noop", "c", text="y")]
    turn = await take(dispatcher, use("noop", text="x"), again, "Well.")
    first, repeated, other = turn.results
    assert first.error is None
    assert other.error is None
    assert repeated.error
    assert "already called" in repeated.error.message


async def test_a_model_that_only_repeats_itself_comes_to_an_end(
    dispatcher: HttpDispatcher,
) -> None:
    calls = [use("noop", str(number)) for number in range(20)]
    turn = await take(dispatcher, *calls, max_steps=3)
    assert isinstance(turn.error, BadReply)
    assert [result.error is None for result in turn.results] == [True, False]


async def test_the_last_step_must_be_an_answer(dispatcher: HttpDispatcher) -> None:
    turn = await take(dispatcher, use("noop"), "Enough.", max_steps=2)
    assert turn.conversation.answer == "Enough."
    failed = await take(dispatcher, use("noop"), use("look"), use("look"), max_steps=2)
    assert isinstance(failed.error, BadReply)
    assert len(failed.results) == 1


async def test_asks_again_after_a_reply_that_cannot_be_read(dispatcher: HttpDispatcher) -> None:
    turn = await take(dispatcher, BadReply("gibberish"), "Better.")
    assert turn.conversation.answer == "Better."
    assert any(isinstance(event, TextWithdrawn) for event in turn.events)


async def test_gives_up_after_two_replies_without_a_word(dispatcher: HttpDispatcher) -> None:
    turn = await take(dispatcher, "", "  ")
    assert isinstance(turn.error, BadReply)
    assert turn.conversation.messages[-1].role == "user"


class Half(ScriptedLMM):
    """Says some words, then breaks off."""

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncIterator[Event]:
        yield TextDelta("It may ")
        yield TextDelta("be blue.")
        raise BadReply("the rest cannot be read")


async def test_the_text_of_a_second_bad_reply_stands(dispatcher: HttpDispatcher) -> None:
    asked = Conversation().ask("What is it?")
    events = [event async for event in Agent(Half([]), dispatcher).turn(asked, ImageStore())]
    assert isinstance(events[-1], TurnFinished)
    assert events[-1].conversation.answer == "It may be blue."


async def test_a_hanging_skill_ends_the_turn_not_the_conversation(
    dispatcher: HttpDispatcher,
) -> None:
    began = time.monotonic()
    turn = await take(
        dispatcher, use("noop"), [use("noop", "b", text="x"), use("hang", "c")], seconds=0.8
    )
    assert isinstance(turn.error, DeadlineExceeded)
    assert time.monotonic() - began < 3
    assert [result.id for result in turn.results] == ["a"], "the reply that failed is dropped"
    with pytest.raises(DeadlineExceeded, match="hang"):
        turn.finished.raise_for_error()


async def test_a_worker_killed_mid_call_ends_the_turn_not_the_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", install_toys(tmp_path))
    async with start_fleet([["die", "noop"]]) as fleet:
        dispatcher = fleet.dispatcher()
        turn = await take(dispatcher, use("noop"), use("die", "b"), "Never said.")
        await dispatcher.aclose()
    assert turn.error.kind == WorkerUnavailable.__name__
    assert "died" in str(turn.error)
    assert [result.id for result in turn.results] == ["a"]


class Stuck(ScriptedLMM):
    """Never says anything; knows whether it was stopped."""

    stopped = False

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncIterator[Event]:
        try:
            await asyncio.sleep(60)
            yield Replied(AssistantMessage(text="late"), Usage())
        finally:
            self.stopped = True


async def test_a_stuck_model_is_stopped_at_the_deadline(dispatcher: HttpDispatcher) -> None:
    lmm = Stuck([])
    agent = Agent(lmm, dispatcher, turn_seconds=0.1)
    asked = Conversation().ask("What is it?")
    events = [event async for event in agent.turn(asked, ImageStore())]
    assert isinstance(events[-1], TurnFinished)
    assert isinstance(events[-1].error, DeadlineExceeded)
    assert lmm.stopped


async def test_leaving_a_turn_cancels_the_calls_in_flight(dispatcher: HttpDispatcher) -> None:
    lmm = ScriptedLMM([use("slow", seconds=30)])
    specs = tuple(await dispatcher.specs())
    asked = Conversation(skills=specs).ask("Go on.")
    began = time.monotonic()
    async with aclosing(Agent(lmm, dispatcher).turn(asked, ImageStore())) as events:
        async for event in events:
            if isinstance(event, CallsDecided):
                break
    assert time.monotonic() - began < 2
    assert len(asyncio.all_tasks()) == 1


async def test_cancelling_the_reader_stops_the_model(dispatcher: HttpDispatcher) -> None:
    lmm = Stuck([])

    async def read() -> None:
        async with aclosing(Agent(lmm, dispatcher).turn(asked, ImageStore())) as events:
            async for _ in events:
                pass

    asked = Conversation().ask("What is it?")
    reading = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert lmm.stopped


async def test_calls_get_ids_of_their_own(dispatcher: HttpDispatcher) -> None:
    twins = [use("noop", "a", text="x"), use("noop", "a", text="y")]
    turn = await take(dispatcher, twins, use("noop", "a", text="z"), use("noop", ""), "Done.")
    assert len({result.id for result in turn.results}) == 4


async def test_a_turn_can_be_taken_again_after_an_error(dispatcher: HttpDispatcher) -> None:
    lmm = ScriptedLMM([use("noop"), WorkerUnavailable("the server is gone"), "Here I am."])
    agent, store = Agent(lmm, dispatcher), ImageStore()
    asked = Conversation(skills=tuple(await dispatcher.specs())).ask("Go on.")
    events = [event async for event in agent.turn(asked, store)]
    assert isinstance(events[-1], TurnFinished)
    assert str(events[-1].error) == "the server is gone"
    again = [event async for event in agent.turn(events[-1].conversation, store)]
    assert isinstance(again[-1], TurnFinished)
    assert again[-1].conversation.answer == "Here I am."
    check_whole(again[-1].conversation)


async def test_a_fault_of_ours_is_raised(dispatcher: HttpDispatcher) -> None:
    agent = Agent(ScriptedLMM([ZeroDivisionError("oh")]), dispatcher)
    with pytest.raises(ZeroDivisionError):
        async for _ in agent.turn(Conversation().ask("Go on."), ImageStore()):
            pass


async def test_a_plan_runs_nothing(dispatcher: HttpDispatcher) -> None:
    agent = Agent(ScriptedLMM([use("hang")]), dispatcher)
    conversation = Conversation(skills=tuple(await dispatcher.specs()))
    planned = await agent.plan(conversation.ask_about("Go on.", ["img_1"]), ImageStore())
    assert [use.name for use in planned.message.skill_uses] == ["hang"]


@pytest.mark.parametrize("limits", [{"max_steps": 0}, {"turn_seconds": 0}])
def test_a_turn_needs_steps_and_time(limits: dict[str, int]) -> None:
    with pytest.raises(LlavaPlusError) as caught:
        Agent(ScriptedLMM([]), None, **limits)  # type: ignore[arg-type]
    assert isinstance(caught.value, BadConfiguration)
