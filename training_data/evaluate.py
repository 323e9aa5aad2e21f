"""Measuring whether an LMM picks the right skill: held-out requests, planned and compared."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
from pydantic import BaseModel, ConfigDict, ValidationError

from ..model.conversation import AssistantMessage, Conversation
from ..model.lmm import LMM, Replied
from ..skills.calls import SkillSpec
from ..skills.errors import BadInput, BadReply
from ..skills.images import ImageStore
from ..skills.skill import describe_validation
from ..skills.wording import singular
from .catalogue import catalogue

__all__ = ["HELD_OUT", "Case", "Report", "Verdict", "evaluate", "read_cases"]

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


@dataclass(frozen=True)
class Verdict:
    """What the LMM did with one case."""

    case: Case
    reply: AssistantMessage
    valid: bool
    seconds: float

    @property
    def chosen(self) -> str:
        """The name of the first skill called."""
        return self.reply.skill_uses[0].name if self.reply.skill_uses else NO_SKILL

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

    def share(self, good: Callable[[Verdict], bool], among: Callable[[Verdict], bool]) -> float:
        """The share of the verdicts `among` which are `good`; not a number when there are none."""
        chosen = [verdict for verdict in self.verdicts if among(verdict)]
        return sum(map(good, chosen)) / len(chosen) if chosen else float("nan")

    def figures(self) -> dict[str, float]:
        """The main figures, each from 0 to 1, and the median seconds to a plan."""

        def needs(verdict: Verdict) -> bool:
            return bool(verdict.case.expect)

        def calls(verdict: Verdict) -> bool:
            return bool(verdict.reply.skill_uses)

        seconds = sorted(verdict.seconds for verdict in self.verdicts)
        return {
            "right_skill": self.share(lambda v: v.right_skill, needs),
            "arguments_exact": self.share(lambda v: v.exact, needs),
            "no_skill_left_alone": self.share(lambda v: v.right_skill, lambda v: not needs(v)),
            "calls_valid": self.share(lambda v: v.valid, calls),
            "median_seconds": seconds[len(seconds) // 2] if seconds else float("nan"),
        }

    def by_skill(self) -> dict[str, tuple[int, int, int]]:
        """For each wanted skill: cases, right skill, exact."""
        table = {}
        for name in sorted({verdict.case.wanted for verdict in self.verdicts}):
            own = [verdict for verdict in self.verdicts if verdict.case.wanted == name]
            table[name] = (len(own), sum(v.right_skill for v in own), sum(v.exact for v in own))
        return table

    def confusions(self) -> list[tuple[str, str, int]]:
        """Wanted and chosen skill where they differ, most frequent first."""
        wrong = Counter((v.case.wanted, v.chosen) for v in self.verdicts if not v.right_skill)
        return [(wanted, chosen, count) for (wanted, chosen), count in wrong.most_common()]

    def failures(self) -> list[Verdict]:
        """Every case that is not exactly right."""
        return [verdict for verdict in self.verdicts if not verdict.exact]


def read_cases(path: Path) -> list[Case]:
    """Read a held-out file, one case a line. Raises `BadInput` naming the line."""
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            cases.append(Case.model_validate_json(line))
        except ValidationError as error:
            raise BadInput(f"{path.name}:{number}: {describe_validation(error)}") from error
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
    conversation = Conversation(skills=specs).ask_about(case.request, handles)
    started = asyncio.get_running_loop().time()
    reply = AssistantMessage()
    try:
        async for event in lmm.reply(conversation, ImageStore()):
            if isinstance(event, Replied):
                reply = event.message
    except BadReply as error:
        # Wrong, but one case among many.
        reply = AssistantMessage(text=f"(no reply: {error})")
    seconds = asyncio.get_running_loop().time() - started
    schemas = {spec.name: spec.parameters for spec in specs}
    valid = all(_fits(use.arguments, schemas.get(use.name)) for use in reply.skill_uses)
    return Verdict(case, reply, valid, seconds)


def _fits(arguments: dict[str, Any], schema: dict[str, Any] | None) -> bool:
    if schema is None:
        return False
    return jsonschema.Draft202012Validator(schema).is_valid(arguments)


def _comparable(arguments: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Arguments without images, with words normalised; what was not asked for does not count."""
    return {
        key: _normal(value)
        for key, value in arguments.items()
        if key in wanted or not _is_image(value)
    }


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"img_\d+", value) is not None


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


def describe(report: Report) -> Iterator[str]:
    """The report as lines of text: figures, table by skill, confusions, failing cases."""
    for name, figure in report.figures().items():
        yield f"{name}: {figure:.3f}"
    yield ""
    for name, (cases, right, exact) in report.by_skill().items():
        yield f"{name:18} {right:3} of {cases:3} right skill, {exact:3} exact"
    yield ""
    for wanted, chosen, count in report.confusions():
        yield f"{count:3} x {wanted} -> {chosen}"
    yield ""
    for verdict in report.failures():
        calls = [{"name": u.name, **u.arguments} for u in verdict.reply.skill_uses]
        said = json.dumps(calls, ensure_ascii=False) if calls else verdict.reply.text
        expected = [{"name": c.name, **c.arguments} for c in verdict.case.expect]
        yield f"{verdict.case.id} {verdict.case.request!r}"
        yield f"    wanted {json.dumps(expected, ensure_ascii=False)}"
        yield f"    got    {said}"
