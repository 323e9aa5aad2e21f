"""Hundreds of skills: an LMM sees the likely ones, and finds the others when it asks."""

from __future__ import annotations

import pytest
from llava_plus.agent.focus import FIND_SKILLS, FocusedLMM, open_shortlist
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import Event, Replied, SkillUseDelta, TextDelta
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.model.shortlist import Shortlist
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.errors import BadConfiguration, BadReply
from llava_plus.training_data.bank import read_invented
from llava_plus.training_data.unseen import UNSEEN

SKILLS = tuple(skill.spec for skill in read_invented(UNSEEN))


@pytest.fixture(scope="module")
def shortlist() -> Shortlist:
    return open_shortlist()


def use(name: str, id: str = "1", **arguments: object) -> SkillUse:
    return SkillUse(id=id, name=name, arguments=arguments)


async def reply(
    lmm: FocusedLMM, conversation: Conversation, *, calls_allowed: bool = True
) -> list[Event]:
    stream = lmm.reply(conversation, ImageStore(), calls_allowed=calls_allowed)
    return [event async for event in stream]


def names(conversation: Conversation) -> list[str]:
    return [spec.name for spec in conversation.skills]


def called(events: list[Event]) -> list[str]:
    last = events[-1]
    assert isinstance(last, Replied)
    return [use.name for use in last.message.skill_uses]


async def test_the_likely_skills_are_offered_in_their_order(shortlist: Shortlist) -> None:
    inner = ScriptedLMM(["Hm."])
    asked = Conversation(skills=SKILLS).ask("what is the average colour of this photo?")
    await reply(FocusedLMM(inner, shortlist, offered=5), asked)
    offered = names(inner.asked[0])
    assert "average_colour" in offered
    assert offered[-1] == FIND_SKILLS.name
    assert len(offered) == 6
    assert offered[:-1] == [name for name in names(asked) if name in offered]


async def test_several_requests_share_the_offer(shortlist: Shortlist) -> None:
    inner = ScriptedLMM(["Sure."])
    begun = Conversation(skills=SKILLS).ask("what is the average colour of this photo?")
    begun = begun.reply(AssistantMessage(text="Grey.")).ask("Will Ryanair take this backpack?")
    await reply(FocusedLMM(inner, shortlist, offered=4), begun)
    offered = names(inner.asked[0])
    assert {"average_colour", "carry_on"} <= set(offered)
    assert len(offered) == 5


async def test_what_is_looked_for_is_offered_then(shortlist: Shortlist) -> None:
    """The search stays between the two: neither events nor the message tell of it."""
    search = use("find_skills", query="mean colour of the pixels")
    inner = ScriptedLMM([search, use("average_colour", "2", image="img_1")])
    asked = Conversation(skills=SKILLS).ask("Will Ryanair make me pay for this backpack?")
    events = await reply(FocusedLMM(inner, shortlist, offered=3), asked)
    before, after = map(names, inner.asked)
    assert "average_colour" not in before
    assert "average_colour" in after
    assert not set(before[:-1]) & set(inner.asked[1].messages[-1].text.split())
    assert [e.use.name for e in events if isinstance(e, SkillUseDelta)] == ["average_colour"]
    assert called(events) == ["average_colour"]
    assert isinstance(events[-1], Replied)
    assert events[-1].usage.completion_tokens == 2


async def test_words_before_a_search_stay_in_the_reply(shortlist: Shortlist) -> None:
    search = AssistantMessage(text="Let me look.", skill_uses=(use("find_skills", query="x"),))
    inner = ScriptedLMM([search, "There is none."])
    lmm = FocusedLMM(inner, shortlist, offered=2)
    events = await reply(lmm, Conversation(skills=SKILLS).ask("sing"))
    assert isinstance(events[-1], Replied)
    streamed = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert streamed == events[-1].message.text == "Let me look.\n\nThere is none."


async def test_a_search_for_nothing_is_told_what_it_lacks(shortlist: Shortlist) -> None:
    inner = ScriptedLMM([use("find_skills", query=" "), "Then not."])
    events = await reply(
        FocusedLMM(inner, shortlist, offered=2), Conversation(skills=SKILLS).ask("sing")
    )
    assert inner.asked[1].messages[-1].text.startswith("Error: find_skills: query is ' '")
    assert called(events) == []


async def test_searching_has_an_end(shortlist: Shortlist) -> None:
    searches = [use("find_skills", query="x")] * 2
    inner = ScriptedLMM([*searches, "There is none."])
    lmm = FocusedLMM(inner, shortlist, offered=2)
    events = await reply(lmm, Conversation(skills=SKILLS).ask("sing"))
    assert FIND_SKILLS.name not in names(inner.asked[-1])
    assert isinstance(events[-1], Replied)
    assert events[-1].message == AssistantMessage(text="There is none.")
    stubborn = FocusedLMM(ScriptedLMM([*searches, searches[0]]), shortlist, offered=2)
    with pytest.raises(BadReply, match="looks for skills once more, after 2 times"):
        await reply(stubborn, Conversation(skills=SKILLS).ask("sing"))


async def test_a_search_beside_other_calls_is_left_out(shortlist: Shortlist) -> None:
    inner = ScriptedLMM([[use("find_skills", query="x"), use("image_info", "2", image="img_1")]])
    lmm = FocusedLMM(inner, shortlist, offered=2)
    events = await reply(lmm, Conversation(skills=SKILLS).ask("is that a PNG?"))
    assert called(events) == ["image_info"]


async def test_a_skill_called_before_stays_on_offer(shortlist: Shortlist) -> None:
    inner = ScriptedLMM(["Sure."])
    begun = Conversation(skills=SKILLS).ask("is that a PNG?")
    begun = begun.reply(AssistantMessage(skill_uses=(use("stitchery", image="img_1"),)))
    await reply(FocusedLMM(inner, shortlist, offered=2), begun)
    assert "stitchery" in names(inner.asked[0])


async def test_the_last_step_of_a_turn_sees_no_more_than_the_others(shortlist: Shortlist) -> None:
    """No calls are allowed in it, so there is nothing to look for either."""
    inner = ScriptedLMM([use("image_info", image="img_1")])
    asked = Conversation(skills=SKILLS).ask("is that a PNG?")
    with pytest.raises(BadReply, match="none is allowed"):
        await reply(FocusedLMM(inner, shortlist, offered=3), asked, calls_allowed=False)
    assert len(names(inner.asked[0])) == 3
    assert FIND_SKILLS.name not in names(inner.asked[0])


async def test_few_skills_are_all_offered_as_they_are(shortlist: Shortlist) -> None:
    inner = ScriptedLMM(["Fine."])
    asked = Conversation(skills=SKILLS[:3]).ask("hello")
    await reply(FocusedLMM(inner, shortlist, offered=3), asked)
    assert inner.asked == [asked]


async def test_closing_the_reply_closes_the_one_behind_it(shortlist: Shortlist) -> None:
    closed = []

    class Endless(ScriptedLMM):
        async def reply(self, *args, **options):
            try:
                async for event in super().reply(*args, **options):
                    yield event
            finally:
                closed.append(True)

    lmm = FocusedLMM(Endless(["one two three"]), shortlist, offered=2)
    stream = lmm.reply(Conversation(skills=SKILLS).ask("hello"), ImageStore())
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


async def test_names_and_numbers_that_cannot_be_are_refused(shortlist: Shortlist) -> None:
    with pytest.raises(BadConfiguration, match="2 skills or more, not 1"):
        FocusedLMM(ScriptedLMM([]), shortlist, offered=1)
    taken = Conversation(skills=(*SKILLS, FIND_SKILLS)).ask("hello")
    with pytest.raises(BadConfiguration, match="a skill is called 'find_skills'"):
        await reply(FocusedLMM(ScriptedLMM(["Hi."]), shortlist, offered=2), taken)
