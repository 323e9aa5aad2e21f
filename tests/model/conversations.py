"""Conversations of every shape, for property-based tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.skills import (
    Artifact,
    ImageRef,
    Mask,
    SkillProblem,
    SkillResult,
    SkillSpec,
    SkillUse,
)

CONTROL = "<|system|> <|user|> <|assistant|> <|result|> <|call|> <|end|> <|pad|> <image>".split()
MASK = Mask(size=(4, 4), counts="0`0")
SPEC = SkillSpec(
    name="detect",
    description="Find things; <|end|> is only text here.",
    parameters={
        "type": "object",
        "properties": {
            "labels": {"type": "array", "items": {"type": "string"}},
            "image": {"type": "string", "pattern": "^img_[0-9]{1,4}$"},
            "threshold": {"type": "number"},
        },
        "required": ["labels", "image"],
    },
)

pieces = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from([*CONTROL, "<\u2060|end|>", "<\u2060\u2060image>", "\u2060", '{"name":', "🙂"]),
)
texts = st.lists(pieces, min_size=1, max_size=4).map("".join)
spoken = texts.filter(str.strip)
values = st.recursive(
    st.one_of(
        texts, st.integers(-999, 999), st.booleans(), st.floats(0, 1).map(lambda x: round(x, 3))
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
uses = st.builds(
    SkillUse,
    id=st.just("call_1"),
    name=st.sampled_from(["detect", "odd_name-2"]),
    arguments=st.dictionaries(st.sampled_from(["labels", "image", "x"]), values, max_size=3),
)


@st.composite
def results(draw: Any) -> SkillResult:
    if draw(st.integers(0, 3)) == 0:
        return SkillResult(
            id="call_1", name="detect", error=SkillProblem(kind="SkillFailed", message=draw(texts))
        )
    made = draw(st.lists(st.sampled_from(["image", "mask"]), max_size=2))
    artifacts = tuple(
        Artifact(label=draw(texts), image=image()) if kind == "image" else Artifact(mask=MASK)
        for kind in made
    )
    return SkillResult(id="call_1", name="detect", text=draw(texts), artifacts=artifacts)


def image(number: int = 0) -> ImageRef:
    return ImageRef(sha256=f"{number:064x}", media_type="image/png", width=8, height=8)


@st.composite
def conversations(draw: Any, *, finished: bool = True) -> Conversation:
    """One to three turns, each with calls and results or without, closed by an answer."""
    conversation = Conversation(skills=(SPEC,) if draw(st.booleans()) else ())
    for _ in range(draw(st.integers(1, 3))):
        images = [image(n) for n in range(draw(st.integers(0, 2)))]
        conversation = conversation.ask(draw(spoken), images)
        for _ in range(draw(st.integers(0, 2))):
            calls = tuple(draw(st.lists(uses, min_size=1, max_size=2)))
            conversation = conversation.reply(AssistantMessage(skill_uses=calls))
            for _ in calls:
                conversation = conversation.add_result(draw(results()))
        conversation = conversation.reply(AssistantMessage(text=draw(texts)))
    return conversation
