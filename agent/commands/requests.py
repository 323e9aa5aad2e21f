"""Requests as a person or a batch file gives them, and what comes of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...model.conversation import Conversation
from ...skills.calls import SkillSpec, SkillUse
from ...skills.errors import BadConfiguration, BadInput, LlavaPlusError, SkillError
from ...skills.images import ImageStore
from ...skills.skill import describe_validation
from ..checking import UseChecker
from ..loop import Step, StepFinished, TurnEvent, TurnFinished
from ..outputs import Outputs, Written
from ..record import append_record
from ..report import error_object, turn_object
from ..session import Session
from .marks import Marking
from .options import read_images

__all__ = [
    "Answered",
    "Asked",
    "Request",
    "answer_request",
    "plan_request",
    "read_tools",
    "save_answered",
]

_PLANNED_IMAGE = ("img_1",)
"""What a plan without an image is asked about."""


class Request(Marking):
    """One request: a line of a batch file, or what `ask` was given."""

    request: str
    images: tuple[Path, ...] = ()
    tools: tuple[Any, ...] | None = None

    @classmethod
    def parse(cls, line: bytes, folder: Path) -> Request:
        """Read a line of a batch file in `folder`. Raises `BadInput`."""
        try:
            request = cls.model_validate_json(line)
        except ValidationError as error:
            raise BadInput(f"the line is no request: {describe_validation(error)}") from error
        paths = tuple(folder / path for path in request.images)
        sketch = request.sketch and folder / request.sketch
        return request.model_copy(update={"images": paths, "sketch": sketch})


@dataclass(frozen=True)
class Asked:
    """A conversation that ends with a request, and the files that its handles stand for."""

    conversation: Conversation
    store: ImageStore
    files: dict[str, str]
    has_skills: bool

    @classmethod
    def of(cls, request: Request, *, plan: bool) -> Asked:
        """Check a request and put it as a conversation. Raises `BadInput`."""
        if request.tools is not None and not plan:
            raise BadInput("tools only go with a plan: there is nothing to run them")
        store, paths = ImageStore(), request.images
        skills = () if request.tools is None else read_tools(request.tools)
        conversation = Conversation(skills=skills)
        refs = read_images(paths, store)
        if plan and not refs:
            asked = conversation.ask_about(request.request, _PLANNED_IMAGE)
        else:
            asked = conversation.ask(request.request, refs)
        asked = request.add_to(asked)
        files = dict(zip(asked.images, map(str, paths), strict=True))
        return cls(asked, store, files, request.tools is not None)

    def offering(self, skills: tuple[SkillSpec, ...]) -> Asked:
        """The same with `skills` on offer, unless the request brought its own."""
        if self.has_skills:
            return self
        offered = self.conversation.model_copy(update={"skills": skills})
        return replace(self, conversation=offered)


@dataclass(frozen=True)
class Answered:
    """What came of a request: the object that `--json` prints, and what it is made from."""

    report: dict[str, Any]
    conversation: Conversation = field(default_factory=Conversation)
    error: LlavaPlusError | None = None


async def answer_request(
    asked: Asked,
    session: Session,
    outputs: Outputs,
    watch: Callable[[TurnEvent, list[Written]], None] = lambda event, written: None,
) -> Answered:
    """Take the turn; `watch` sees every event, and the files that were written because of it."""
    began = time.monotonic()
    outputs.files.update(asked.files)
    finished = TurnFinished(asked.conversation, ())
    async with aclosing(session.agent.turn(asked.conversation, asked.store)) as events:
        async for event in events:
            written = []
            if isinstance(event, StepFinished):
                written = outputs.write_step(event.conversation, asked.store)
            elif isinstance(event, TurnFinished):
                finished = event
            watch(event, written)
    report = turn_object(
        finished.conversation,
        images=outputs.files,
        steps=finished.steps,
        seconds=time.monotonic() - began,
    )
    report |= {"annotated": outputs.annotated, "sheets": outputs.sheets}
    if finished.error:
        report |= error_object(finished.error)
    return Answered(report, finished.conversation, finished.error)


def save_answered(answered: Answered, asked: Asked, path: Path) -> None:
    """Add what was answered to a file of records; a turn that failed is none. Raises `OSError`."""
    if answered.error is None:
        append_record(answered.conversation, asked.store, path)


async def plan_request(asked: Asked, session: Session) -> tuple[tuple[SkillUse, ...], Answered]:
    """The calls that the LMM would make first, and the object that `--json` prints of them."""
    began = time.monotonic()
    planned = await session.agent.plan(asked.conversation, asked.store)
    report = turn_object(
        planned.conversation,
        images=asked.files,
        steps=[Step(planned.usage)],
        seconds=time.monotonic() - began,
    )
    checker = UseChecker(asked.conversation.skills)
    report["calls"] = [_call_object(use, checker) for use in planned.message.skill_uses]
    return planned.message.skill_uses, Answered(report, planned.conversation)


def read_tools(tools: object) -> tuple[SkillSpec, ...]:
    """Specs in the OpenAI `tools` form. Raises `BadInput`."""
    if not isinstance(tools, list | tuple):
        raise BadInput("tools must be a list in the form of OpenAI's `tools`")
    specs = []
    for number, tool in enumerate(tools, 1):
        try:
            specs.append(SkillSpec.from_tool(tool))
        except ValidationError as error:
            raise BadInput(f"tool {number}: {describe_validation(error)}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise BadInput(f"tool {number} is not in the form of OpenAI's `tools`") from error
    if len({spec.name for spec in specs}) < len(specs):
        raise BadInput("two of the tools have one name")
    try:
        UseChecker(specs)
    except BadConfiguration as error:
        raise BadInput(str(error)) from error
    return tuple(specs)


def _call_object(use: SkillUse, checker: UseChecker) -> dict[str, Any]:
    call = {"id": use.id, "name": use.name, "arguments": use.arguments}
    try:
        checker.check(use)
    except SkillError as error:
        call["problem"] = str(error)
    return call
