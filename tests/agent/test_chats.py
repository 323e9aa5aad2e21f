"""Kept conversations: turns that are taken, written down, stopped, repeated and branched."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from llava_plus.agent.chats import Asked, ChatEvent, Chats, TurnBegan, TurnKept, TurnOptions
from llava_plus.agent.dispatcher import LocalDispatcher
from llava_plus.agent.loop import CallsDecided, StepFinished, TextDelta, TurnFinished
from llava_plus.agent.store.store import ConversationStore, open_store
from llava_plus.agent.store.values import NotKept, StoreUnavailable, TurnState
from llava_plus.model.conversation import Conversation, SkillMessage, UserMessage
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.calls import SkillResult, SkillSpec
from llava_plus.skills.errors import BadInput, UnknownSkill, WorkerUnavailable

from ..serving import png
from ..toy_skills import Look, Noop, Paint, Slow

OWNER = "somebody"
LOOK_UP = SkillSpec(name="look_up", description="Look a word up.", parameters={"type": "object"})


def use(name: str, id_: str = "a", **arguments: object) -> SkillUse:
    return SkillUse(id=id_, name=name, arguments=arguments)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ConversationStore]:
    url = f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite"
    async with open_store(url, str(tmp_path / "artifacts")) as store:
        yield store


async def chats_of(store: ConversationStore, lmm: ScriptedLMM) -> Chats:
    dispatcher = LocalDispatcher([Noop(), Look(), Paint(), Slow()])
    return Chats(store, {"scripted": lmm}, dispatcher, await dispatcher.specs())


async def events_of(events: AsyncIterator[ChatEvent]) -> list[ChatEvent]:
    return [event async for event in events]


async def kept(events: AsyncIterator[ChatEvent]) -> TurnKept:
    *_, last = await events_of(events)
    assert isinstance(last, TurnKept)
    return last


def requests(lmm: ScriptedLMM, number: int) -> list[str]:
    return [m.text for m in lmm.asked[number].messages if isinstance(m, UserMessage)]


async def test_a_turn_is_told_as_it_happens_and_can_be_read_again(
    store: ConversationStore,
) -> None:
    lmm = ScriptedLMM([use("paint", colour="blue"), "A picture."])
    chats = await chats_of(store, lmm)
    asked = Asked("Paint something.", images=(png("red", 9, 7),), boxes=((0.1, 0.1, 0.5, 0.5),))
    events = await events_of(chats.ask(OWNER, asked))
    assert isinstance(events[0], TurnBegan)
    assert [type(event) for event in events].count(CallsDecided) == 1
    last = events[-1]
    assert isinstance(last, TurnKept)
    assert last.turn.state is TurnState.FINISHED
    assert last.conversation.answer == "A picture."
    again = await store.turn(last.turn.id, OWNER)
    assert again.messages == last.conversation.messages
    assert set(again.images) == {"img_1", "img_2"}
    ref, data = await chats.image(OWNER, again.images["img_2"].sha256)
    assert ref == again.images["img_2"]
    assert data.startswith(b"\x89PNG")
    with pytest.raises(NotKept):
        await chats.image("another", again.images["img_2"].sha256)


async def test_the_lmm_reads_a_request_while_it_is_written_down_and_nobody_hears_before(
    store: ConversationStore, tmp_path: Path
) -> None:
    lmm = ScriptedLMM(["Hello."])
    events = (await chats_of(store, lmm)).ask(OWNER, Asked("Hi."))
    with closing(sqlite3.connect(tmp_path / "chats.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write
        began = asyncio.ensure_future(anext(events))
        await asyncio.wait([began], timeout=0.2)
        assert (began.done(), len(lmm.asked)) == (False, 1)
        other.rollback()
    assert isinstance(await began, TurnBegan)
    assert (await kept(events)).turn.state is TurnState.FINISHED


async def test_a_client_that_leaves_while_its_request_is_written_down_has_stopped_the_turn(
    store: ConversationStore, tmp_path: Path
) -> None:
    chats = await chats_of(store, ScriptedLMM([use("slow", seconds=0.5), "Done."]))
    with closing(sqlite3.connect(tmp_path / "chats.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        began = asyncio.ensure_future(anext(chats.ask(OWNER, Asked("Hi."))))
        await asyncio.wait([began], timeout=0.2)
        began.cancel()
        await asyncio.wait([began], timeout=0.2)
        other.rollback()
    with pytest.raises(asyncio.CancelledError):
        await began
    (conversation,) = await store.conversations(OWNER)
    (turn,) = await store.turns(conversation.id, OWNER)
    assert turn.state is TurnState.STOPPED


async def test_where_a_request_cannot_be_written_down_its_turn_ends(
    store: ConversationStore, tmp_path: Path
) -> None:
    chats = await chats_of(store, ScriptedLMM([use("slow", seconds=5), "Done."]))
    with closing(sqlite3.connect(tmp_path / "chats.sqlite")) as other:
        other.execute("DROP TABLE turns")
    with pytest.raises(StoreUnavailable, match="no such table"):
        await kept(chats.ask(OWNER, Asked("Hi.")))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_conversation_goes_on_after_the_process_has_forgotten_it(
    store: ConversationStore,
) -> None:
    first = await chats_of(store, ScriptedLMM(["Red."]))
    turn = (await kept(first.ask(OWNER, Asked("Which colour?", images=(png("red", 3, 3),))))).turn
    lmm = ScriptedLMM([use("look", image="img_1"), "Three by three."])
    second = await chats_of(store, lmm)
    ended = await kept(second.ask(OWNER, Asked("How large?"), conversation=turn.conversation))
    assert requests(lmm, 0) == ["Which colour?", "How large?"]
    results = [m.result for m in ended.conversation.messages if isinstance(m, SkillMessage)]
    assert "3 x 3" in results[0].text
    assert ended.turn.parent == turn.id


async def test_a_request_is_repeated_and_put_in_other_words_beside_the_first(
    store: ConversationStore,
) -> None:
    lmm = ScriptedLMM(["One.", "Two.", "Three.", "Four."])
    chats = await chats_of(store, lmm)
    first = (await kept(chats.ask(OWNER, Asked("Count.", images=(png("red", 2, 2),))))).turn
    second = (await kept(chats.ask(OWNER, Asked("More."), conversation=first.conversation))).turn
    retried = (await kept(chats.retry(OWNER, second.id))).turn
    assert retried.parent == second.parent == first.id
    assert requests(lmm, 2) == ["Count.", "More."]
    edited = (await kept(chats.edit(OWNER, second.id, "Less."))).turn
    assert requests(lmm, 3) == ["Count.", "Less."]
    assert (await store.conversation(first.conversation, OWNER)).head == edited.id
    assert len(await store.turns(first.conversation, OWNER)) == 4


async def test_a_branch_begins_behind_an_earlier_answer(store: ConversationStore) -> None:
    lmm = ScriptedLMM(["One.", "Two.", "Three."])
    chats = await chats_of(store, lmm)
    first = (await kept(chats.ask(OWNER, Asked("A")))).turn
    await kept(chats.ask(OWNER, Asked("B"), conversation=first.conversation))
    await kept(chats.ask(OWNER, Asked("C"), conversation=first.conversation, parent=first.id))
    assert requests(lmm, 2) == ["A", "C"]


async def test_a_client_that_goes_away_stops_its_turn(store: ConversationStore) -> None:
    chats = await chats_of(store, ScriptedLMM([use("slow", seconds=2), "Done."]))
    began = None
    async with aclosing(chats.ask(OWNER, Asked("Be slow."))) as events:
        async for event in events:
            if isinstance(event, TurnBegan):
                began = event.turn
            if isinstance(event, CallsDecided):
                break
    assert began
    turn = await store.turn(began.id, OWNER)
    assert turn.state is TurnState.STOPPED
    assert [message.role for message in turn.messages] == ["user"]


async def test_a_stopped_turn_is_left_out_of_what_is_asked_next(store: ConversationStore) -> None:
    lmm = ScriptedLMM([use("slow", seconds=2), "Yes."])
    chats = await chats_of(store, lmm)
    async for event in chats.ask(OWNER, Asked("Be slow.")):
        if isinstance(event, TurnBegan):
            began = event.turn
        if isinstance(event, CallsDecided):
            assert await chats.stop(OWNER, began.id)
        last = event
    assert isinstance(last, TurnKept)
    assert last.turn.state is TurnState.STOPPED
    assert not await chats.stop(OWNER, began.id)
    await kept(chats.ask(OWNER, Asked("Is it?"), conversation=began.conversation))
    assert requests(lmm, 1) == ["Is it?"]


async def test_a_turn_that_failed_says_why_and_can_be_taken_again(
    store: ConversationStore,
) -> None:
    lmm = ScriptedLMM([WorkerUnavailable("the server is gone"), "Here."])
    chats = await chats_of(store, lmm)
    events = await events_of(chats.ask(OWNER, Asked("Hello?")))
    finished, last = events[-2:]
    assert isinstance(finished, TurnFinished)
    assert isinstance(last, TurnKept)
    assert last.turn.state is TurnState.FAILED
    assert last.turn.error
    assert last.turn.error.message == "the server is gone"
    again = await kept(chats.retry(OWNER, last.turn.id))
    assert again.conversation.answer == "Here."


async def test_calls_of_the_clients_own_tools_are_handed_back_and_their_results_taken_in(
    store: ConversationStore,
) -> None:
    lmm = ScriptedLMM(
        [[use("look_up", "a", word="x"), use("noop", "b", text="y")], "It is.", "Yes."]
    )
    chats = await chats_of(store, lmm)
    options = TurnOptions(client_tools=(LOOK_UP,))
    events = await events_of(chats.ask(OWNER, Asked("What is x?"), options=options))
    finished = next(event for event in events if isinstance(event, TurnFinished))
    assert [call.name for call in finished.handed_back] == ["look_up"]
    last = events[-1]
    assert isinstance(last, TurnKept)
    id_ = finished.handed_back[0].id
    conversation = last.turn.conversation
    with pytest.raises(BadInput, match=id_):
        await kept(chats.bring(OWNER, conversation, [SkillResult(id="z", name="look_up")]))
    result = SkillResult(id=id_, name="look_up", text="A letter.")
    ended = await kept(chats.bring(OWNER, conversation, [result], options=options))
    assert ended.conversation.answer == "It is."
    texts = [m.result.text for m in lmm.asked[1].messages if isinstance(m, SkillMessage)]
    assert texts == ["y", "A letter."]
    await kept(chats.ask(OWNER, Asked("Thanks."), conversation=conversation))
    assert [spec.name for spec in lmm.asked[2].skills] == ["noop", "look", "paint", "slow"]


async def test_nothing_is_asked_while_the_clients_results_are_waited_for(
    store: ConversationStore,
) -> None:
    chats = await chats_of(store, ScriptedLMM([use("look_up", "a", word="x")]))
    options = TurnOptions(client_tools=(LOOK_UP,))
    turn = (await kept(chats.ask(OWNER, Asked("What is x?"), options=options))).turn
    with pytest.raises(BadInput, match="waited for"):
        await kept(chats.ask(OWNER, Asked("And y?"), conversation=turn.conversation))


async def test_an_image_is_to_be_had_as_soon_as_it_is_made(store: ConversationStore) -> None:
    chats = await chats_of(store, ScriptedLMM([use("paint", colour="blue"), "A picture."]))
    seen = []
    async for event in chats.ask(OWNER, Asked("Paint something.")):
        if isinstance(event, StepFinished) and event.conversation.images:
            made = event.conversation.images["img_1"]
            seen.append((await chats.image(OWNER, made.sha256))[0] == made)
            with pytest.raises(NotKept):
                await chats.image("another", made.sha256)
    assert seen == [True, True]


async def test_a_history_that_a_client_brings_is_kept_as_a_conversation(
    store: ConversationStore,
) -> None:
    lmm = ScriptedLMM([use("look", image="img_1"), "Small."])
    chats = await chats_of(store, lmm)
    images = ImageStore()
    value = Conversation().ask("How large?", [images.add(png("blue", 5, 4))])
    ended = await kept(chats.go_on(OWNER, value, images))
    assert ended.conversation.answer == "Small."
    assert (await store.turn(ended.turn.id, OWNER)).images.keys() == {"img_1"}


async def test_nothing_is_written_down_when_the_client_does_not_want_it(
    store: ConversationStore,
) -> None:
    chats = await chats_of(store, ScriptedLMM(["Yes."]))
    ended = await kept(chats.ask(OWNER, Asked("Really?"), options=TurnOptions(keep=False)))
    assert ended.conversation.answer == "Yes."
    assert await store.conversations(OWNER) == []


@pytest.mark.parametrize(
    ("asked", "options", "error"),
    [
        (Asked(" "), TurnOptions(), BadInput),
        (Asked("Hi", images=(b"no image",)), TurnOptions(), BadInput),
        (Asked("Hi", boxes=((0.1, 0.1, 0.2, 0.2),)), TurnOptions(), BadInput),
        (Asked("Hi"), TurnOptions(lmm="other"), BadInput),
        (Asked("Hi"), TurnOptions(skills=("other",)), UnknownSkill),
    ],
)
async def test_what_cannot_be_asked_is_refused_before_anything_is_kept(
    store: ConversationStore, asked: Asked, options: TurnOptions, error: type[Exception]
) -> None:
    chats = await chats_of(store, ScriptedLMM([]))
    with pytest.raises(error):
        await kept(chats.ask(OWNER, asked, options=options))
    assert await store.conversations(OWNER) == []


async def test_the_skills_of_a_turn_can_be_chosen(store: ConversationStore) -> None:
    lmm = ScriptedLMM(["Yes.", "No."])
    chats = await chats_of(store, lmm)
    turn = (await kept(chats.ask(OWNER, Asked("A"), options=TurnOptions(skills=("noop",))))).turn
    assert [spec.name for spec in lmm.asked[0].skills] == ["noop"]
    chosen = TurnOptions(skills=("look", "noop"))
    await kept(chats.ask(OWNER, Asked("B"), conversation=turn.conversation, options=chosen))
    assert [spec.name for spec in lmm.asked[1].skills] == ["look", "noop"]


async def test_other_peoples_conversations_are_out_of_reach(store: ConversationStore) -> None:
    chats = await chats_of(store, ScriptedLMM(["Yes."]))
    turn = (await kept(chats.ask(OWNER, Asked("A")))).turn
    for attempt in (
        chats.ask("another", Asked("B"), conversation=turn.conversation),
        chats.retry("another", turn.id),
        chats.edit("another", turn.id, "B"),
    ):
        with pytest.raises(NotKept):
            await kept(attempt)
    with pytest.raises(NotKept):
        await chats.stop("another", turn.id)


async def test_many_turns_at_once_are_not_mixed_up(store: ConversationStore) -> None:
    def answer(seen: Conversation) -> str:
        asked = seen.messages[-1]
        assert isinstance(asked, UserMessage)
        return f"You said {asked.text}."

    lmm = ScriptedLMM([answer] * 20)
    chats = await chats_of(store, lmm)

    async def one(number: int) -> Sequence[str | None]:
        events = await events_of(chats.ask(OWNER, Asked(str(number))))
        last = events[-1]
        assert isinstance(last, TurnKept)
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        return said, last.conversation.answer

    told = await asyncio.gather(*(one(number) for number in range(20)))
    assert told == [(f"You said {number}.", f"You said {number}.") for number in range(20)]
