"""Measuring whether an LMM picks the right skill: held-out requests, planned and compared."""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import BaseModel, ConfigDict, ValidationError

from ..model.conversation import AssistantMessage, Conversation, Message, SkillMessage
from ..model.lmm import LMM, Event
from ..skills.calls import Artifact, SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadInput
from ..skills.images import ImageStore
from ..skills.skill import describe_validation, is_handle
from ..skills.wording import segments_text, singular
from .bank import numbered_lines
from .catalogue import catalogue
from .outcomes import MASK, TELLING
from .turns import is_faithful, play_turn

__all__ = [
    "HELD_OUT",
    "Case",
    "Report",
    "Verdict",
    "describe",
    "evaluate",
    "interval",
    "read_cases",
]

HELD_OUT = Path(__file__).parent / "heldout" / "free.jsonl"
NO_SKILL = "none"


class ExpectedCall(BaseModel):
    """A call that a good assistant makes; image arguments are left out."""

    model_config = ConfigDict(extra="forbid")

    name: str
    arguments: dict[str, Any] = {}


class Case(BaseModel):
    """One held-out request and the calls that are right for it; no call when there are none."""

    model_config = ConfigDict(extra="forbid")

    id: str
    request: str
    images: int = 1
    tools: list[dict[str, Any]] | None = None
    expect: list[ExpectedCall]
    then: list[str] = []

    @property
    def wanted(self) -> str:
        """The name of the first expected skill."""
        return self.expect[0].name if self.expect else NO_SKILL

    @property
    def masks(self) -> int:
        """How many masks have to be there already for the expected calls."""
        said = str([call.arguments for call in self.expect])
        return max(map(int, re.findall(r"mask_(\d+)", said)), default=0)

    @property
    def plan(self) -> list[str]:
        """The names of all expected calls, in order."""
        return [call.name for call in self.expect] + self.then


@dataclass(frozen=True)
class Verdict:
    """What the LMM did with one case."""

    case: Case
    turn: Conversation
    valid: bool
    seconds: float

    @property
    def replies(self) -> list[AssistantMessage]:
        """All that the LMM said in the turn, which begins with the last request."""
        return [m for m in self.said if isinstance(m, AssistantMessage)]

    @property
    def said(self) -> list[Message]:
        """The messages of the turn, its request first."""
        return list(self.turn.turn)

    @property
    def reply(self) -> AssistantMessage:
        """The first reply."""
        return self.replies[0]

    @property
    def called(self) -> list[str]:
        """The names of all calls, in order."""
        return [use.name for reply in self.replies for use in reply.skill_uses]

    @property
    def stopped(self) -> bool:
        """Whether all expected calls were made, no others, and an answer closed the turn.

        After a call that failed it is right to stop.
        """
        failed = any(m.result.error for m in self.said if isinstance(m, SkillMessage))
        wanted = self.case.plan[: len(self.called)] if failed else self.case.plan
        return self.called == wanted and self.turn.answer is not None

    @property
    def faithful(self) -> bool | None:
        """Whether the answer says what was found; None where nothing was.

        That is what the last calls brought, and what was read or described on the way.
        """
        if self.turn.answer is None or not self.called:
            return None
        last = max(i for i, m in enumerate(self.said[:-1]) if m.role == "assistant")
        found = [
            message
            for place, message in enumerate(self.said)
            if isinstance(message, SkillMessage)
            and (place > last or message.result.name in TELLING)
        ]
        return is_faithful(found, self.turn.answer)

    @property
    def chosen(self) -> str:
        """The name of the first skill called."""
        return self.reply.skill_uses[0].name if self.reply.skill_uses else NO_SKILL

    @property
    def expected_text(self) -> str:
        """The calls that are right, as JSON."""
        calls = [{"name": call.name, **call.arguments} for call in self.case.expect]
        return json.dumps(calls, ensure_ascii=False)

    @property
    def given_text(self) -> str:
        """The calls of the first reply as JSON, or its text."""
        calls = [{"name": use.name, **use.arguments} for use in self.reply.skill_uses]
        return json.dumps(calls, ensure_ascii=False) if calls else self.reply.text

    @property
    def right_skill(self) -> bool:
        """Whether the first call has the right name, or none was made where none is needed."""
        return self.chosen == self.case.wanted

    @cached_property
    def exact(self) -> bool:
        """Whether name and arguments are right; words are compared normalised."""
        if not self.right_skill or not self.case.expect:
            return self.right_skill
        wanted = self.case.expect[0].arguments
        given = self.reply.skill_uses[0].arguments
        return _comparable(wanted, wanted) == _comparable(given, wanted)


@dataclass(frozen=True)
class Report:
    """The verdicts on a whole set."""

    verdicts: Sequence[Verdict]

    def figures(self) -> dict[str, float]:
        """The main figures, each from 0 to 1, and the median seconds to a plan."""

        seconds = sorted(verdict.seconds for verdict in self.verdicts)
        shares = {name: good / cases if cases else math.nan for name, good, cases in self.counts()}
        median = seconds[len(seconds) // 2] if seconds else math.nan
        return {**shares, "median_seconds": median}

    def counts(self) -> list[tuple[str, int, int]]:
        """Every figure's name, how many cases are right, and of how many."""
        needing = [v for v in self.verdicts if v.case.expect]
        calling = [v for v in self.verdicts if v.called]
        several = [v for v in self.verdicts if v.case.then]
        answered = [v for v in self.verdicts if v.faithful is not None]
        others = [v for v in self.verdicts if not v.case.expect]
        return [
            ("right_skill", sum(v.right_skill for v in needing), len(needing)),
            ("arguments_exact", sum(v.exact for v in needing), len(needing)),
            ("no_skill_left_alone", sum(v.right_skill for v in others), len(others)),
            ("calls_valid", sum(v.valid for v in calling), len(calling)),
            ("turn_complete", sum(v.stopped for v in needing), len(needing)),
            ("plan_complete", sum(v.stopped for v in several), len(several)),
            ("answer_faithful", sum(bool(v.faithful) for v in answered), len(answered)),
        ]

    def by_skill(self) -> dict[str, tuple[int, int, int]]:
        """For each wanted skill: cases, right skill, exact."""
        table = {}
        for name in sorted({verdict.case.wanted for verdict in self.verdicts}):
            own = [verdict for verdict in self.verdicts if verdict.case.wanted == name]
            table[name] = (len(own), sum(v.right_skill for v in own), sum(v.exact for v in own))
        return table

    def confusions(self) -> list[tuple[str, str, int]]:
        """Wanted and chosen skill where they differ, most frequent first."""
        return [
            (wanted, chosen, count)
            for (wanted, chosen), count in self.choices().most_common()
            if wanted != chosen
        ]

    def choices(self) -> Counter[tuple[str, str]]:
        """How often each skill was chosen where another, or itself, was wanted."""
        return Counter((v.case.wanted, v.chosen) for v in self.verdicts)

    def failures(self) -> list[Verdict]:
        """Every case that is not exactly right."""
        return [verdict for verdict in self.verdicts if not verdict.exact]


def read_cases(path: Path) -> list[Case]:
    """Read a held-out file, one case a line. Raises `BadInput` naming the line."""
    cases = []
    for place, line in numbered_lines(path):
        try:
            cases.append(Case.model_validate_json(line))
        except ValidationError as error:
            raise BadInput(f"{place}: {describe_validation(error)}") from error
    return cases


async def evaluate(
    lmm: LMM, cases: Sequence[Case], progress: Callable[[Verdict], None] = lambda verdict: None
) -> Report:
    """Let the LMM plan every case and compare; cases without tools get the whole catalogue."""
    verdicts = []
    for case in cases:
        tools = case.tools
        specs = [SkillSpec.from_tool(tool) for tool in tools] if tools else catalogue().values()
        verdict = await _judge(lmm, case, tuple(specs))
        verdicts.append(verdict)
        progress(verdict)
    return Report(verdicts)


async def _judge(lmm: LMM, case: Case, specs: tuple[SkillSpec, ...]) -> Verdict:
    handles = [f"img_{number}" for number in range(1, case.images + 1)]
    conversation = Conversation(skills=specs)
    if case.masks:
        conversation, handles = _with_masks(conversation, case.masks), []
    conversation = conversation.ask_about(case.request, handles)
    clock = _Clock(lmm)
    turn = await play_turn(clock, conversation, case.id)
    schemas = {spec.name: spec.parameters for spec in specs}
    uses = [use for m in turn.messages if isinstance(m, AssistantMessage) for use in m.skill_uses]
    valid = all(_fits(use.arguments, schemas.get(use.name)) for use in uses)
    return Verdict(case, turn, valid, clock.first_seconds)


def _with_masks(conversation: Conversation, count: int) -> Conversation:
    """An earlier turn in which the masks were made that a request speaks of."""
    use = SkillUse(id="call_0", name="segment", arguments={"image": "img_1", "labels": ["thing"]})
    text = segments_text([("thing", 0.2)] * count, ["thing"])
    made = tuple(Artifact(label="thing", mask=MASK) for _ in range(count))
    return (
        conversation.ask_about("Outline the things.", ["img_1"])
        .reply(AssistantMessage(skill_uses=(use,)))
        .add_result(SkillResult(id=use.id, name=use.name, text=text, artifacts=made))
        .reply(AssistantMessage(text=text.split("\n")[0]))
    )


class _Clock:
    """An LMM that notes how long its first reply took."""

    def __init__(self, lmm: LMM) -> None:
        self.name = lmm.name
        self.first_seconds = math.nan
        self._lmm = lmm

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        started = time.monotonic()
        async for event in self._lmm.reply(conversation, store, calls_allowed=calls_allowed):
            yield event
        if math.isnan(self.first_seconds):
            self.first_seconds = time.monotonic() - started

    async def aclose(self) -> None:
        await self._lmm.aclose()


def _fits(arguments: dict[str, Any], schema: dict[str, Any] | None) -> bool:
    if schema is None:
        return False
    return jsonschema.Draft202012Validator(schema).is_valid(arguments)


def _comparable(arguments: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Arguments without images, with words normalised; what was not asked for does not count."""
    return {
        key: _normal(value)
        for key, value in arguments.items()
        if key in wanted or not is_handle(value)
    }


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        words = re.sub(r"[^\w\s'%-]", " ", value.lower()).split()
        articles = {"a", "an", "the", "my", "your", "his", "her", "our", "their", "all", "every"}
        while words and words[0] in articles:
            words = words[1:]
        return singular(" ".join(words))
    if isinstance(value, list):
        return sorted((_normal(item) for item in value), key=str)
    return value


def interval(good: int, cases: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927)."""
    share, spread = good / cases, z * z / cases
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / cases + spread / cases / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def describe(report: Report) -> Iterator[str]:
    """The report as lines of text: figures, table by skill, confusions, failing cases."""
    for name, good, cases in report.counts():
        if cases:
            low, high = interval(good, cases)
            yield f"{name:20} {good / cases:6.1%}  ({low:.1%} to {high:.1%}; {good} of {cases})"
    yield f"{'median_seconds':20} {report.figures()['median_seconds']:6.3f}"
    yield ""
    for name, (cases, right, exact) in report.by_skill().items():
        yield f"{name:18} {right:3} of {cases:3} right skill, {exact:3} exact"
    yield ""
    for wanted, chosen, count in report.confusions():
        yield f"{count:3} x {wanted} -> {chosen}"
    yield ""
    for verdict in report.failures():
        yield f"{verdict.case.id} {verdict.case.request!r}"
        yield f"    wanted {verdict.expected_text}"
        yield f"    got    {verdict.given_text}"
