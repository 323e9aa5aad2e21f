"""The scripted LMM does what its script says and keeps what it was asked."""

from __future__ import annotations

import pytest
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.lmm import LMM, Event, Replied, SkillUseDelta, TextDelta
from llava_plus.model.scripted import Scripted, ScriptedLMM
from llava_plus.skills.calls import SkillUse
from llava_plus.skills.errors import BadConfiguration, BadReply, WorkerUnavailable
from llava_plus.skills.images import ImageStore

pytestmark = pytest.mark.asyncio

ASKED = Conversation().ask("What does it say?")
OCR = SkillUse(id="call_1", name="ocr", arguments={"image": "img_1"})
LOOK = SkillUse(id="call_2", name="look", arguments={})


async def events(lmm: LMM, conversation: Conversation = ASKED, **options: bool) -> list[Event]:
    return [event async for event in lmm.reply(conversation, ImageStore(), **options)]


async def test_text_comes_word_by_word() -> None:
    *pieces, replied = await events(ScriptedLMM(["  It says\nhi there. "]))
    assert pieces == [TextDelta(t) for t in ("  It", " says", "\nhi", " there.", " ")]
    assert isinstance(replied, Replied)
    assert replied.message == AssistantMessage(text="  It says\nhi there. ")
    assert replied.usage.completion_tokens == 5


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (OCR, AssistantMessage(skill_uses=(OCR,))),
        ([OCR, LOOK], AssistantMessage(skill_uses=(OCR, LOOK))),
        (AssistantMessage(text="So:", skill_uses=(OCR,)),) * 2,
        ("", AssistantMessage()),
    ],
)
async def test_every_kind_of_reply(reply: Scripted, message: AssistantMessage) -> None:
    *pieces, replied = await events(ScriptedLMM([reply]))
    assert isinstance(replied, Replied)
    assert replied.message == message
    uses = [piece.use for piece in pieces if isinstance(piece, SkillUseDelta)]
    assert uses == list(message.skill_uses)


async def test_errors_are_raised_and_the_script_goes_on() -> None:
    lmm = ScriptedLMM([WorkerUnavailable("it is down"), "Back again."])
    with pytest.raises(WorkerUnavailable, match="it is down"):
        await events(lmm)
    assert TextDelta(" again.") in await events(lmm)


async def test_a_reply_may_depend_on_the_conversation_and_all_are_kept() -> None:
    later = ASKED.reply(AssistantMessage(text="hi")).ask("And now?")
    lmm = ScriptedLMM([lambda seen: f"{len(seen.messages)} messages", lambda seen: OCR])
    assert TextDelta("1") in await events(lmm)
    assert SkillUseDelta(OCR) in await events(lmm, later)
    assert lmm.asked == [ASKED, later]


async def test_a_script_that_runs_out_says_so() -> None:
    lmm = ScriptedLMM(["One."])
    await events(lmm)
    with pytest.raises(BadConfiguration, match="the script has 1 replies and was asked for 2"):
        await events(lmm)


async def test_calls_where_none_is_allowed_are_a_bad_reply() -> None:
    with pytest.raises(BadReply, match="reply 1 of the script calls ocr"):
        await events(ScriptedLMM([OCR]), calls_allowed=False)


async def test_it_is_an_lmm() -> None:
    lmm: LMM = ScriptedLMM([], name="double")
    assert lmm.name == "double"
    await lmm.aclose()
