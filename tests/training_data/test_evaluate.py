"""The evaluation: what counts as right, and what the report says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from llava_plus.model.conversation import Conversation, SkillMessage
from llava_plus.model.lmm import LMM, Event
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills import ImageStore, SkillProblem, SkillResult, SkillUse
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.baselines import BagOfWords, WordOverlap
from llava_plus.training_data.commands.evaluate import command
from llava_plus.training_data.evaluate import (
    Case,
    Report,
    describe,
    evaluate,
    interval,
    read_cases,
)
from llava_plus.training_data.report import write_page
from llava_plus.training_data.turns import MOST_CALLS, is_faithful


def case(request: str, *expect: dict[str, Any]) -> Case:
    return Case.model_validate({"id": request, "request": request, "expect": list(expect)})


def use(name: str, **arguments: Any) -> SkillUse:
    return SkillUse(id="c", name=name, arguments=arguments)


def judged(one: Case, *replies: Any) -> Report:
    return asyncio.run(evaluate(ScriptedLMM(replies), [one]))


DETECT = {"name": "detect", "arguments": {"labels": ["red cars", "dog"]}}


@pytest.mark.parametrize(
    ("reply", "right", "exact", "valid"),
    [
        (use("detect", labels=["the dog", "Red car"], image="img_1"), True, True, True),
        (use("detect", labels=["dog"], image="img_1"), True, False, True),
        (
            use("detect", labels=["dog", "red cars"], image="img_1", threshold=0.5),
            True,
            False,
            True,
        ),
        (use("detect", labels="dog", image="img_1"), True, False, False),
        (use("ocr", image="img_1"), False, False, True),
        (use("nowhere"), False, False, False),
        ("I see a dog.", False, False, True),
    ],
)
def test_what_counts(reply: Any, right: bool, exact: bool, valid: bool) -> None:
    (verdict,) = judged(case("find the dog and red cars", DETECT), reply, "Found it.").verdicts
    assert (verdict.right_skill, verdict.exact, verdict.valid) == (right, exact, valid)


def test_figures_and_text() -> None:
    cases = [case("hello"), case("read it", {"name": "ocr"}), case("hm")]
    read = use("ocr", image="img_1")
    lmm = ScriptedLMM(["hi", read, lambda seen: f"I read {seen.messages[-1].text}", read, "hm"])
    report = asyncio.run(evaluate(lmm, cases))
    figures = report.figures()
    assert figures["right_skill"] == figures["calls_valid"] == 1
    assert figures["no_skill_left_alone"] == 0.5
    assert report.by_skill() == {"none": (2, 1, 1), "ocr": (1, 1, 1)}
    assert report.confusions() == [("none", "ocr", 1)]
    text = "\n".join(describe(report))
    assert re.search(r"no_skill_left_alone +50.0%  \(9.5% to 90.5%; 1 of 2\)", text)
    assert "'hm'" in text


def test_a_turn_is_complete_when_it_stops_in_time() -> None:
    plan = Case.model_validate(
        {"id": "p", "request": "blur the dog", "expect": [DETECT], "then": ["adjust"]}
    )
    find = use("detect", labels=["dog"], image="img_1")
    blur = use("adjust", operation="blur", image="img_1")
    for replies, complete in [
        ([find, blur, "Done."], True),
        ([find, "There is a dog."], False),
        ([find, blur, blur, "Done."], False),
        ([blur, "Done."], False),
        ([find] * MOST_CALLS, False),
    ]:
        figures = judged(plan, *replies).figures()
        assert figures["plan_complete"] == figures["turn_complete"] == complete


def test_a_mask_that_is_spoken_of_was_made_before() -> None:
    one = case("put a lake there", {"name": "inpaint", "arguments": {"mask": "mask_2"}})
    lmm = ScriptedLMM([use("inpaint", image="img_1", mask="mask_2", prompt="lake"), "Done: img_2."])
    (verdict,) = asyncio.run(evaluate(lmm, [one])).verdicts
    assert list(lmm.asked[0].masks) == ["mask_1", "mask_2"]
    assert verdict.right_skill
    assert verdict.stopped


class Looking(ScriptedLMM):
    """Notes the sizes of the images that it is shown."""

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        self.seen = [store.image(ref).size for ref in conversation.images.values()]
        async for event in super().reply(conversation, store, calls_allowed=calls_allowed):
            yield event


async def test_an_image_that_a_skill_makes_can_be_looked_at() -> None:
    lmm = Looking([use("adjust", image="img_1", operation="blur"), "Here is img_2."])
    await evaluate(lmm, [case("Blur it.").model_copy(update={"images": 1})])
    assert lmm.seen == [(640, 480)]


def found(text: str, **fields: Any) -> SkillMessage:
    return SkillMessage(result=SkillResult(id="c", name="x", text=text, **fields))


FAILED = SkillProblem(kind="SkillFailed", message="the image is too small to work on")


@pytest.mark.parametrize(
    ("message", "answer", "faithful"),
    [
        (found("Found 2 dogs and 1 cat."), "I see 2 dogs and 1 cat.", True),
        (found("Found 2 dogs and 1 cat."), "I see 2 dogs and 11 cats.", False),
        (found("Read 2 lines:\nNO PARKING\nuntil 18:30"), "It says: no parking, until 18:30", True),
        (found("Read 2 lines:\nNO PARKING\nuntil 18:30"), "It says NO PARKING.", False),
        (found("", error=FAILED), "Sorry: the image is too small to work on.", True),
        (found("", error=FAILED), "I blurred it.", False),
        (found("A dog sleeps near a lamp in a park."), "A dog sleeps near a lamp in a park.", True),
        (found("A dog sleeps near a lamp in a park."), "I hope that helps.", False),
    ],
)
def test_answers_are_held_against_findings(
    message: SkillMessage, answer: str, faithful: bool
) -> None:
    assert is_faithful([message], answer) is faithful


@pytest.mark.parametrize(
    ("good", "cases", "low", "high"), [(8, 10, 0.49, 0.943), (0, 20, 0, 0.161)]
)
def test_intervals_are_those_of_wilson(good: int, cases: int, low: float, high: float) -> None:
    assert interval(good, cases) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


async def picked(lmm: LMM, request: str) -> str:
    report = await evaluate(lmm, [case(request)])
    return report.verdicts[0].chosen


async def test_baselines_pick_by_words() -> None:
    assert await picked(WordOverlap(), "read the text written on this sign") == "ocr"
    assert await picked(WordOverlap(), "zzz") == "none"
    assert await picked(BagOfWords(), "how many sheep can you count?") == "detect"
    assert await picked(BagOfWords(), "thanks a lot") == "none"


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "a", "request": "x", "expect": []}\n{"id": "b"}\n')
    with pytest.raises(BadInput, match=r"cases.jsonl:2: request: Field required"):
        read_cases(path)


def test_the_command_prints_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text('{"id": "a", "request": "hello", "expect": []}\n')
    lmm = ScriptedLMM(["hi"])
    monkeypatch.setattr("llava_plus.agent.session.open_lmm", lambda name, device: lmm)
    page = tmp_path / "report.html"
    result = CliRunner().invoke(command, [str(path), "--json", "--html", str(page)])
    assert json.loads(result.output)["no_skill_left_alone"] == 1
    assert "no skill left alone" in page.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--looks", "3", "--unseen", "6"], "leave out --unseen"),
        (["--looks", "3", "--html", "x.html"], "leave out --html"),
        (["--html", "no/such/page.html"], "there is no folder no/such"),
        (["--unseen", "100"], "100 skills cannot be on offer"),
        (["--lmm", "some/folder"], "leave out --lmm"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(words: list[str], told: str) -> None:
    result = CliRunner().invoke(command, ["--baseline", "word-overlap", *words])
    assert told in (result.output + str(result.exception))


def test_skills_of_a_file_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "skills.txt"
    path.write_text(
        "tides(place: string): Tell when the tide is high at a place.\n"
        "when is the tide high in Bergen | place=Bergen\n= High at 14:20.\n"
    )
    words = [str(path), "--unseen", "3", "--baseline", "word-overlap", "--json"]
    result = CliRunner().invoke(command, words)
    assert json.loads(result.output)["right_skill"] == 1


def test_the_page_shows_requests_as_text(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_page(judged(case("<script>alert(1)</script>", DETECT), "no"), "<b>odd</b>", page)
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;alert(1)" in page.read_text()
