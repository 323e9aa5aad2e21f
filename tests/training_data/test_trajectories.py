"""Composed trajectories: valid calls, handles that exist, answers that say what was found."""

from __future__ import annotations

import random
import re

import jsonschema
import pytest
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage
from llava_plus.training_data.embedded import EmbeddedSource
from llava_plus.training_data.lettering import draw_line, draw_name
from llava_plus.training_data.slots import Filler, fill_value, roughen
from llava_plus.training_data.topics import draw_topic_skill


@pytest.fixture(scope="module")
def composed() -> list[Conversation]:
    source = EmbeddedSource(group_size=8, scenes=30, corpus_groups=1)
    return [example.conversation for index in range(120) for example in source.group(index)]


def test_every_call_fits_its_spec(composed: list[Conversation]) -> None:
    for conversation in composed:
        schemas = {spec.name: spec.parameters for spec in conversation.skills}
        for message in conversation.messages:
            for use in getattr(message, "skill_uses", ()):
                jsonschema.validate(use.arguments, schemas[use.name])


def test_every_handle_has_been_made_or_named(composed: list[Conversation]) -> None:
    for conversation in composed:
        known: set[str] = set()
        for message in conversation.messages:
            if isinstance(message, AssistantMessage):
                named = re.findall(
                    r'"(img_\d+|mask_\d+)"',
                    str([u.tool_call() for u in message.skill_uses]).replace("\\", ""),
                )
                if known:
                    assert set(named) <= known | {"img_1"}, conversation.messages
            else:
                known |= set(message.images)
                known |= set(re.findall(r"img_\d+", message.text))
                known |= set(getattr(message, "masks", ()))
                marks = getattr(message, "marks", None)
                known |= set(marks.masks if marks else ())


def test_every_conversation_ends_with_an_answer(composed: list[Conversation]) -> None:
    assert all(conversation.answer for conversation in composed)


def test_no_slot_is_left_open(composed: list[Conversation]) -> None:
    for conversation in composed:
        for message in conversation.messages:
            assert not re.search(r"\{(a|b|c|as|bs|cs|n|text|h|m)\}", message.text)


def test_answers_say_what_was_found(composed: list[Conversation]) -> None:
    """Every number in the first line of a result is in the answer that follows it."""
    checked = 0
    for conversation in composed:
        for message, following in zip(
            conversation.messages, conversation.messages[1:], strict=False
        ):
            if isinstance(message, SkillMessage) and isinstance(following, AssistantMessage):
                if following.skill_uses or message.result.error:
                    continue
                numbers = re.findall(r"\d+", message.result.text.split("\n")[0])
                if message.result.text.startswith("Read"):
                    continue
                assert all(number in following.text for number in numbers)
                checked += bool(numbers)
    assert checked > 50


def test_all_kinds_of_turns_occur(composed: list[Conversation]) -> None:
    calls = [
        [len(m.skill_uses) for m in c.messages if isinstance(m, AssistantMessage)] for c in composed
    ]
    flat = [number for several in calls for number in several]
    assert any(several == [0] for several in calls), "an answer without a skill"
    assert 2 in flat, "two calls at once"
    assert any(several[:3] == [1, 1, 0] for several in calls), "two steps"
    errors = [m for c in composed for m in c.messages if m.text.startswith("Error: ")]
    assert errors, "skills that fail"


def test_a_group_shares_its_skills_and_depends_on_its_number_alone() -> None:
    one, other = (EmbeddedSource(group_size=4, scenes=5, corpus_groups=1) for _ in range(2))
    assert [e.conversation for e in one.group(7)] == [e.conversation for e in other.group(7)]
    assert one.group(7)[0].conversation != one.group(8)[0].conversation
    first, *others = one.group(7)
    assert all(e.conversation.skills == first.conversation.skills for e in others)
    assert EmbeddedSource(seed=1, scenes=5).group(7)[0].conversation not in [
        e.conversation for e in one.group(7)
    ]


def test_slots_are_filled_alike_and_with_their_article() -> None:
    filler = Filler(random.Random(0), [("apple", "apples")])
    filler.chosen = {"a": "apple", "as": "apples"}
    assert filler.fill("a {a}, two {as}, A {a}") == "an apple, two apples, An apple"
    assert fill_value("[{a}, red {a}]", filler) == ["apple", "red apple"]
    assert fill_value("-{n}0", Filler(random.Random(0), [], chosen={"n": "4"})) == -40
    assert fill_value("0.5", filler) == 0.5
    assert fill_value("true", filler) is True


def test_roughening_keeps_what_is_copied() -> None:
    rng = random.Random(1)
    for _ in range(300):
        rough = roughen("Find the traffic light over there", ["traffic light"], rng, ["I am here."])
        assert "traffic light" in rough


def test_lines_are_varied_and_fit_in_one_line() -> None:
    rng = random.Random(0)
    lines = [draw_line(rng, [("apple", "apples")]) for _ in range(1000)]
    assert len(set(lines)) > 700, "hardly one line comes twice, so they have to be copied"
    assert not any("\n" in line or line != line.strip() or not line for line in lines)
    assert any(re.search(r"\d:\d\d", line) for line in lines), "times"
    assert any(re.search(r"\d\.\d\d", line) for line in lines), "prices"
    assert len({draw_name(rng) for _ in range(100)}) > 90


def test_topic_skills_are_asked_for_without_their_name() -> None:
    rng = random.Random(0)
    topics = {"umbrella": ["getting wet", "parasol", "drizzle"], "ox": ["strong animal", "yoke"]}
    for _ in range(200):
        skill = draw_topic_skill(rng, topics, {"umbrella": "umbrellas", "ox": "oxen"})
        thing = "umbrella" if "umbrella" in skill.spec.description else "ox"
        assert "{" not in skill.spec.description
        for request in skill.requests:
            assert thing not in request.text.split()
            assert any(phrase in request.text for phrase in topics[thing])
        assert "{x}" not in str(skill.requests)
