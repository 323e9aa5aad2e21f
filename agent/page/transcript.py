"""Turns as the messages of gradio's chatbot, each call a fold-out with its pictures below."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from gradio import FileData

from ...model.conversation import Conversation
from ...skills.calls import SkillResult, SkillUse
from ...skills.images import ImageRef
from ...skills.wording import shorten
from ..report import plain, result_text
from ..store.values import NotKept, TurnState
from .escaping import answer, fenced, literal
from .pictures import Pictures
from .turns import Called, Said, ShownTurn

__all__ = ["Row", "rows_of"]

Row = dict[str, Any]
"""A message of the chatbot, in the form that its documentation gives."""

_LONGEST_LOG = 90
_LONGEST_ALT = 160

_UNFINISHED = "There is no answer yet"
_ENDS = {
    TurnState.STOPPED: "Stopped before the answer.",
    TurnState.INTERRUPTED: "The server went down before the answer.",
}


async def rows_of(
    turn: ShownTurn, value: Conversation, owner: str, pictures: Pictures, *, drawings: bool
) -> list[Row]:
    """The rows of one turn; `value` knows the images and masks up to its end.

    Without `drawings` pictures show as they are, without marks and findings.
    """
    shown = _Rows(value, owner, pictures, drawings)
    rows = [row async for row in shown.request(turn)]
    for part in turn.parts:
        if isinstance(part, Said):
            rows.append(_row("assistant", answer(part.text)))
        elif isinstance(part, Called):
            rows.append(_call_row(part, running=turn.state is TurnState.RUNNING))
            rows += [row async for row in shown.brought(part)]
        else:
            thought = {"title": "Thoughts", "status": "done"}
            rows.append(_row("assistant", answer(part.text), thought))
    if turn.problem:
        rows.append(_row("assistant", literal(f"{_UNFINISHED}: {turn.problem.message}")))
    elif turn.state in _ENDS:
        rows.append(_row("assistant", f"*{_ENDS[turn.state]}*"))
    return rows


class _Rows:
    """Rows with pictures, for which images must be had."""

    def __init__(self, value: Conversation, owner: str, pictures: Pictures, drawings: bool) -> None:
        self._value = value
        self._owner = owner
        self._pictures = pictures
        self._drawings = drawings

    async def request(self, turn: ShownTurn) -> AsyncIterator[Row]:
        """The images of a request, the marked one with its marks, and its text."""
        asked = turn.request
        if asked is None:
            return
        marks = asked.marks
        images = [handle for handle in asked.images if handle in self._value.images]
        if marks and self._drawings and marks.image in self._value.images:
            images = [*(handle for handle in images if handle != marks.image), marks.image]
        for handle in images:
            ref = self._value.images[handle]
            path = None
            if marks and self._drawings and handle == marks.image:
                masks = tuple(self._value.masks[name] for name in marks.masks)
                path = await self._pictures.marked(self._owner, ref, marks, masks)
            path = path or await self._pictures.plain(self._owner, ref)
            yield _row("user", _picture(path, f"{handle}, given with the request"))
        yield _row("user", literal(asked.text))

    async def brought(self, call: Called) -> AsyncIterator[Row]:
        """What a call found, drawn over the picture that it looked at, and what it made.

        While the turn runs, an image may not be at hand yet; it shows when the turn has ended.
        """
        if call.result is None:
            return
        try:
            async for path, shows in self._brought(call.use, call.result, call.handles):
                yield _row("assistant", _picture(path, shows))
        except NotKept:
            return

    async def _brought(
        self, use: SkillUse, result: SkillResult, handles: tuple[str, ...]
    ) -> AsyncIterator[tuple[Path, str]]:
        asked = self._asked(use)
        if asked and self._drawings:
            found = await self._pictures.found(self._owner, asked[0], result)
            if found:
                told = shorten(result.text, _LONGEST_ALT)
                yield found, f"{next(self._named(use))}, with what {use.name} found: {told}"
        sheet = await self._pictures.sheet(self._owner, result, handles)
        if sheet:
            yield sheet, f"all images that {use.name} made"
            return
        for artifact in result.artifacts:
            if artifact.image:
                made = await self._pictures.plain(self._owner, artifact.image)
                yield made, f"made by {use.name}"

    def _asked(self, use: SkillUse) -> list[ImageRef]:
        return [self._value.images[handle] for handle in self._named(use)]

    def _named(self, use: SkillUse) -> Iterator[str]:
        """The handles of the images that a call names."""
        named = (value for value in use.arguments.values() if isinstance(value, str))
        return (handle for handle in named if handle in self._value.images)


def _call_row(call: Called, *, running: bool) -> Row:
    arguments = json.dumps(call.use.arguments, ensure_ascii=False, indent=2)
    parts = ["Arguments", fenced(arguments, "json")]
    metadata: dict[str, Any] = {"title": literal(shorten(call.use.name, 64)), "status": "done"}
    if call.result:
        problem = call.result.error
        told = problem.message if problem else call.result.text
        parts += ["Problem" if problem else "Result", fenced(told)]
        brief = plain(problem.message) if problem else result_text(call.result)
        metadata["log"] = shorten(brief.split("\n")[0], _LONGEST_LOG)
    elif running:
        metadata["status"] = "pending"
        metadata["log"] = shorten(call.progress, _LONGEST_LOG) or "runs"
    else:
        metadata["log"] = "did not come back"
    if call.seconds is not None:
        metadata["duration"] = round(call.seconds, 2)
    return _row("assistant", "\n\n".join(parts), metadata)


def _picture(path: Path, shows: str) -> dict[str, Any]:
    """As a component, for gradio drops the alternative text of a file."""
    return {
        "type": "component",
        "component": "image",
        "value": FileData(path=str(path), mime_type="image/jpeg").model_dump(),
        "constructor_args": {},
        "props": {"alt_text": shows},
    }


def _row(
    role: str, content: str | dict[str, Any], metadata: Mapping[str, Any] | None = None
) -> Row:
    part = {"type": "text", "text": content} if isinstance(content, str) else content
    return {"role": role, "content": [part], **({"metadata": dict(metadata)} if metadata else {})}
