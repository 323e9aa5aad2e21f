"""Running m&ms plans for real: a plan that was written down, or calls one after another."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...agent.call_scope import CallScope
from ...agent.checking import problem_of
from ...agent.dispatcher import Dispatcher
from ...model.conversation import AssistantMessage, Conversation, SkillMessage
from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.errors import BadSkillUse, DeadlineExceeded
from ...skills.images import ImageStore
from .mnms_plans import REFERENCE, Node, plan_from_text
from .players import OneReply, Stage, WholeTurn, failed
from .suite import Answer, Case

__all__ = ["NOT_RUN", "PlanCase", "StepByStep", "WrittenPlan", "file_names"]

NOT_RUN = {"not_run": True}
"""The data of the result of a call whose tool is on offer, but not installed."""


class PlanCase(Case):
    """A request for a plan of these tools."""

    tools: tuple[SkillSpec, ...]


def file_names(case: Case) -> dict[str, str]:
    """The names of the request's image files, by the handles that they get."""
    return {f"img_{place}": path.name for place, path in enumerate(case.images, start=1)}


class StepByStep(WholeTurn):
    """Lets the LMM call one tool after another, and gives it what each call brings.

    A tool that is on offer but not installed brings the name by which its output can be used.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(replace(stage, dispatcher=_Naming(stage)))


class _Naming:
    """The skills that are installed, and for any other tool the name of what it would bring."""

    def __init__(self, stage: Stage) -> None:
        self._dispatcher: Dispatcher = stage.dispatcher
        self._installed = {spec.name for spec in stage.skills}

    async def specs(self) -> list[SkillSpec]:
        return await self._dispatcher.specs()

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        if use.name not in self._installed:
            text = f"Done. Its outputs can be used as <{use.id}>.image, <{use.id}>.text, ..."
            return SkillResult(id=use.id, name=use.name, text=text, data=NOT_RUN)
        return await self._dispatcher.dispatch(use, scope)

    async def aclose(self) -> None:
        """The dispatcher is closed by whoever opened it."""


class WrittenPlan:
    """Asks for the whole plan as JSON, and runs it when all of its tools are installed.

    Its calls stand in the answer behind the reply, in the form in which an LMM makes them, up to
    the first one that fails.
    """

    def __init__(self, stage: Stage) -> None:
        self._one = OneReply(stage)
        self._stage = stage
        self._installed = {spec.name for spec in stage.skills}

    async def play(self, case: PlanCase, conversation: Conversation, store: ImageStore) -> Answer:
        """The reply with the plan, and what its calls brought."""
        answer = await self._one.play(case, conversation, store)
        plan = plan_from_text(answer.text)
        missing = {spec.name for spec in case.tools} - self._installed
        if not plan or missing & {node.name for node in plan}:
            return answer
        asked = len(conversation.messages)
        replied = conversation.reply(AssistantMessage(text=answer.text))
        handles = {name: handle for handle, name in file_names(case).items()}
        try:
            ran = await self._run(plan, replied, _Outputs(handles), store)
        except DeadlineExceeded as error:
            return failed(error, said=answer.said, seconds=answer.seconds)
        return answer.model_copy(update={"said": ran.messages[asked:]})

    async def _run(
        self, plan: tuple[Node, ...], grown: Conversation, outputs: _Outputs, store: ImageStore
    ) -> Conversation:
        deadline = time.monotonic() + self._stage.turn_seconds
        for node in plan:
            use = SkillUse(id=f"node_{node.id}", name=node.name, arguments=node.args)
            try:
                use = use.model_copy(update={"arguments": outputs.resolved(node)})
                result = await self._stage.dispatcher.dispatch(
                    use,
                    CallScope(
                        images=grown.images, masks=grown.masks, store=store, deadline=deadline
                    ),
                )
            except BadSkillUse as error:
                result = SkillResult(id=use.id, name=use.name, error=problem_of(error))
            grown = grown.reply(AssistantMessage(skill_uses=(use,))).add_result(result)
            if result.error:
                break
            outputs.add(node.id, use, grown)
        return grown


class _Outputs:
    """What references to earlier nodes, and the names of the request's files, stand for."""

    def __init__(self, handles: Mapping[str, str]) -> None:
        self._made: dict[int, Mapping[str, Any]] = {}
        self._handles = handles

    def resolved(self, node: Node) -> dict[str, Any]:
        """The arguments of a node as its skill takes them. Raises `BadSkillUse`."""
        return {key: self._value(value) for key, value in node.args.items()}

    def add(self, node: int, use: SkillUse, conversation: Conversation) -> None:
        """Take in what the call of a node brought, which is the last message."""
        message = conversation.messages[-1]
        assert isinstance(message, SkillMessage)
        made: dict[str, Any] = {"text": message.result.text, **message.result.data}
        if "image" in use.arguments:
            made["image"] = use.arguments["image"]  # one that makes none hands on what it got
        if message.images:
            made["image"] = message.images[0]
        if message.masks:
            made |= {"mask": message.masks[0], "masks": list(message.masks)}
        self._made[node] = made

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if not isinstance(value, str):
            return value
        if whole := REFERENCE.fullmatch(value.strip()):
            return self._output(whole[1], whole[2])
        value = REFERENCE.sub(lambda found: str(self._output(found[1], found[2])), value)
        return self._handles.get(value, value)

    def _output(self, node: str, name: str) -> Any:
        made = self._made.get(int(node))
        if made is None:
            raise BadSkillUse(f"<node-{node}> has not been run before this node")
        if name not in made:
            raise BadSkillUse(f"<node-{node}> has no output {name!r}; it has: {', '.join(made)}")
        return made[name]
