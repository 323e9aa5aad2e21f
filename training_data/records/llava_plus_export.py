"""Records as LLaVA-Plus's trainer reads them.

What its format has no place for goes into fields that its reader passes over. Findings are told
as its workers tell them where they come back the same, else as the text that they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...model.conversation import AssistantMessage, SkillMessage, UserMessage, made_text
from ...model.llava_plus.calls import APIS, Said, Scene, said_as_api
from ...model.llava_plus.responses import Finding, as_response, read_response
from ...model.llava_plus.turns import places_text
from ...model.record import Record
from ...skills.calls import SkillUse
from ...skills.peer_wire import INTERNAL_ERROR
from .imported import Raw, Reason, Refusal
from .llava_plus import read
from .llava_plus_turns import IMAGE, without_images

__all__ = ["write"]

_CLOSING = "Please summarize the model outputs and answer my first question: "


def write(record: Record) -> Raw:
    """The record for LLaVA-Plus, of which `llava_plus.read` makes the same record again.

    Raises `Refusal` when there is no such thing.
    """
    raw = _Writing(record).raw()
    try:
        same = read(raw).record == record
    except Refusal as problem:
        raise Refusal(Reason.NOT_EXPRESSIBLE, f"it would be refused: {problem}") from problem
    if not same:
        raise Refusal(Reason.NOT_EXPRESSIBLE, "it would come back as another one")
    return raw


@dataclass(frozen=True)
class _Action:
    """A call of ours, and as LLaVA-Plus has it."""

    use: SkillUse
    said: Said

    @property
    def api(self) -> str:
        """The name of the API."""
        return self.said.api

    def to_json(self) -> Raw:
        """As it stands in a turn."""
        return {"API_name": self.api, "API_params": self.said.params}


class _Writing:
    """One record, message by message; `_scene` is what reading it will know by then."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._scene = Scene()
        self._results = {m.result.id: m for m in record.messages if isinstance(m, SkillMessage)}
        self._actions: list[_Action] = []

    def raw(self) -> Raw:
        """All of it. Raises `Refusal`."""
        record, turns = self._record, list(self._turns())
        if any(one["from"] == other["from"] for one, other in pairwise(turns)):
            raise Refusal(Reason.NOT_EXPRESSIBLE, "its turns do not alternate")
        shown = [record.images[handle] for handle in record.shown]
        made = {name: file for name, file in record.images.items() if name not in record.shown}
        masks = {name: mask.model_dump(mode="json") for name, mask in record.masks.items()}
        replies = [m for m in record.messages if isinstance(m, AssistantMessage)]
        ids = [use.id for reply in replies for use in reply.skill_uses]
        fields: Raw = {
            "unique_id": record.id,
            "image": shown[0] if len(shown) == 1 else shown,
            "data_source": record.source,
            "conversations": turns,
            "made": made,
            "masks": masks,
            "call_ids": [] if ids == [f"call_{n}" for n in range(1, len(ids) + 1)] else ids,
        }
        return {name: value for name, value in fields.items() if value} | {"tools": record.tools()}

    def _turns(self) -> Iterator[Raw]:
        question, results = "", list[SkillMessage]()
        for message in (*self._record.messages, None):
            if isinstance(message, SkillMessage):
                results.append(message)
                continue
            if isinstance(message, UserMessage):
                question = self._request(message)
            if results:
                again, _ = without_images(question)
                yield {"from": "human", "value": f"{self._told(results)}{_CLOSING}{again}"}
                results = []
            elif isinstance(message, UserMessage):
                yield {"from": "human", "value": question}
            if isinstance(message, AssistantMessage):
                yield self._reply(message)

    def _request(self, message: UserMessage) -> str:
        if missing := [name for name in message.images if name not in self._record.images]:
            raise Refusal(Reason.NOT_EXPRESSIBLE, f"{', '.join(missing)} is not at hand")
        self._scene = self._scene.seen(message.images, (), message.marks)
        images = f"{IMAGE}\n" * len(message.images)
        places = places_text(message.marks) if message.marks else ""
        return f"{images}{message.text}{places}"

    def _reply(self, message: AssistantMessage) -> Raw:
        self._actions = [_Action(use, said_as_api(use, self._scene)) for use in message.skill_uses]
        return {
            "from": "gpt",
            "thoughts": message.thoughts,
            "actions": [action.to_json() for action in self._actions],
            "value": message.text,
        }

    def _told(self, results: Sequence[SkillMessage]) -> str:
        """What the results of the last actions say, one after another."""
        told = [(action.api, self._outputs(action)) for action in self._actions]
        for message in results:
            self._scene = self._scene.seen(message.images, message.masks)
        return "".join(f"{api} model outputs: {answer!r}\n\n" for api, answer in told)

    def _outputs(self, action: _Action) -> Raw:
        """The answer to an action: its API's, or a text. Raises `Refusal` when there is none."""
        answer = self._answer(action)
        if answer is not None:
            return answer
        message = self._results.get(action.use.id)
        if message is None:
            raise Refusal(Reason.NOT_EXPRESSIBLE, f"{action.use.name} has no result")
        result = message.result
        data = {"data": result.data} if result.data else {}
        if result.error:
            return {"text": result.error.message, "error_code": INTERNAL_ERROR, **data}
        return {"text": result.text, **data}

    def _answer(self, action: _Action) -> Raw | None:
        """The answer of an API which is read as just this result, or None."""
        message = self._results.get(action.use.id)
        if message is None or action.api not in APIS:
            return None
        use = action.use
        try:
            answer = dict(as_response(use.name, action.api, message.result.data))
            found = read_response(use.name, use.arguments, answer)
        except (ValueError, TypeError, KeyError):
            return None
        return answer if _says(found, message) else None


def _says(finding: Finding, message: SkillMessage) -> bool:
    """Whether a finding makes just this message."""
    result, images, masks = message.result, message.images, message.masks
    if (finding.images, len(finding.masks)) != (len(images), len(masks)):
        return False
    made = [*((image, "") for image in images), *zip(masks, finding.masks, strict=True)]
    told = made_text(finding.text, made)
    return not result.error and (told, finding.data) == (result.text, result.data)
