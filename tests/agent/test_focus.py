"""Hundreds of skills: an LMM sees the likely ones, and finds the others when it asks."""

from __future__ import annotations

import pytest
from llava_plus.agent.focus import FIND_SKILLS, FocusedLMM
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import Event, Replied, SkillUseDelta
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.model.shortlist import Shortlist
from llava_plus.skills import ImageStore, SkillUse
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.bank import read_invented
from llava_plus.training_data.unseen import UNSEEN

SKILLS = tuple(skill.spec for skill in read_invented(UNSEEN))
SHORTLIST = Shortlist()


def use(name: str, id: str = "1", **arguments: object) -> SkillUse:
    return SkillUse(id=id, name=name, arguments=arguments)


async def reply(
    lmm: FocusedLMM, conversation: Conversation, *, calls_allowed: bool = True
) -> list[Event]:
    stream = lmm.reply(conversation, ImageStore(), calls_allowed=calls_allowed)
    return [event async for event in stream]


def names(conversation: Conversation) -> list[str]:
    return [spec.name for spec in conversation.skills]


async def test_the_likely_skills_are_offered_in_their_order() -> None:
    inner = ScriptedLMM(["Hm."])
    lmm = FocusedLMM(inner, offered=5, shortlist=SHORTLIST)
    asked = Conversation(skills=SKILLS).ask("what is the average colour of this photo?")
    await reply(lmm, asked)
    offered = names(inner.asked[0])
    assert "average_colour" in offered
    assert offered[-1] == FIND_SKILLS.name
    assert len(offered) == 6
    own = [name for name in names(asked) if name in offered]
    assert offered[:-1] == own


async def test_what_is_looked_for_is_offered_then() -> None:
    """The search stays between the two: neither events nor the message tell of it."""
    search = use("find_skills", query="mean colour of the pixels")
    inner = ScriptedLMM([search, use("average_colour", "2", image="img_1")])
    lmm = FocusedLMM(inner, offered=3, shortlist=SHORTLIST)
    asked = Conversation(skills=SKILLS).ask("Will Ryanair make me pay for this backpack?")
    events = await reply(lmm, asked)
    before, after = map(names, inner.asked)
    assert "average_colour" not in before
    assert "average_colour" in after
    told = inner.asked[1].messages[-1]
    assert "average_colour" in told.text
    deltas = [event.use.name for event in events if isinstance(event, SkillUseDelta)]
    assert deltas == ["average_colour"]
    last = events[-1]
    assert isinstance(last, Replied)
    assert [use.name for use in last.message.skill_uses] == ["average_colour"]
    assert last.usage.completion_tokens == 2


async def test_searching_has_an_end() -> None:
    inner = ScriptedLMM([use("find_skills", query="x")] * 2 + ["There is none."])
    lmm = FocusedLMM(inner, offered=2, shortlist=SHORTLIST)
    events = await reply(lmm, Conversation(skills=SKILLS).ask("sing"))
    assert FIND_SKILLS.name not in names(inner.asked[-1])
    assert isinstance(events[-1], Replied)
    assert events[-1].message == AssistantMessage(text="There is none.")


async def test_a_search_beside_other_calls_is_left_out() -> None:
    inner = ScriptedLMM([[use("find_skills", query="x"), use("image_info", "2", image="img_1")]])
    lmm = FocusedLMM(inner, offered=2, shortlist=SHORTLIST)
    events = await reply(lmm, Conversation(skills=SKILLS).ask("is that a PNG?"))
    assert isinstance(events[-1], Replied)
    assert [use.name for use in events[-1].message.skill_uses] == ["image_info"]


async def test_a_skill_called_before_stays_on_offer() -> None:
    inner = ScriptedLMM(["Sure."])
    lmm = FocusedLMM(inner, offered=2, shortlist=SHORTLIST)
    begun = Conversation(skills=SKILLS).ask("is that a PNG?")
    begun = begun.reply(AssistantMessage(skill_uses=(use("stitchery", image="img_1"),)))
    await reply(lmm, begun)
    assert "stitchery" in names(inner.asked[0])


@pytest.mark.parametrize(("count", "calls_allowed"), [(3, True), (60, False)])
async def test_few_skills_or_none_allowed_pass_as_they_are(count: int, calls_allowed: bool) -> None:
    inner = ScriptedLMM(["Fine."])
    asked = Conversation(skills=SKILLS[:count]).ask("hello")
    await reply(FocusedLMM(inner, offered=3), asked, calls_allowed=calls_allowed)
    assert inner.asked == [asked]


def test_one_skill_is_too_few() -> None:
    with pytest.raises(BadConfiguration, match="2 skills or more, not 1"):
        FocusedLMM(ScriptedLMM([]), offered=1)
