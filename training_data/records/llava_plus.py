"""LLaVA-Plus's conversations (Liu et al. 2023), and LLaVA's, which have no calls in them.

`{unique_id, image | image_id and file_name | id, data_source, conversations}`, where a turn is
`{from: "human", value}` or `{from: "gpt", thoughts, actions, value}`; the result of a call is a
human turn. What we write has further fields for what theirs has no place for: `tools`, `made`,
`masks` and `call_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from ...model.llava_plus.calls import (
    APIS,
    Scene,
    call_of,
    known_spec,
    read_params,
    skills_of_apis,
)
from ...model.llava_plus.responses import PAYLOAD, Finding, read_response, unknown_fields
from ...model.llava_plus.turns import EMOJI_KEYS, Action
from ...skills.calls import SkillSpec, SkillUse
from ...skills.geometry import Mask
from ...skills.peer_wire import INTERNAL_ERROR, OUT_OF_MEMORY
from ...skills.skill import describe_validation
from .draft import Draft, NamedCall
from .imported import Imported, Raw, Reason, Refusal, Repair
from .llava_plus_turns import (
    IMAGE,
    Result,
    plain_text,
    read_reply,
    read_request,
    read_results,
    refusing,
    without_images,
)
from .openai_messages import read_tools

__all__ = ["is_llava", "is_llava_plus", "read", "read_llava"]

_READ = (
    *("unique_id", "id", "image_id", "image", "file_name", "image_file_name", "data_source"),
    *("conversations", "tools", "made", "masks", "call_ids"),
)
_IMAGE_NAMES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_HUMAN = ("human", "user")
_GPT = ("gpt", "assistant")


def is_llava(raw: Raw) -> bool:
    """Whether it has turns as LLaVA's records have them."""
    turns = raw.get("conversations")
    return isinstance(turns, list) and all(isinstance(t, dict) and "from" in t for t in turns)


def is_llava_plus(raw: Raw) -> bool:
    """Whether it has turns with thoughts and actions, be it as fields or in a text."""
    return is_llava(raw) and any(
        any(key in turn for key in ("thoughts", "actions", *EMOJI_KEYS))
        or any(mark in str(turn.get("value")) for mark in (*EMOJI_KEYS, "<actions>"))
        for turn in raw["conversations"]
    )


def read(raw: Raw) -> Imported:
    """A record of LLaVA-Plus; without `tools` of its own it has all of LLaVA-Plus's skills."""
    with refusing():
        return _Reading(raw).imported(skills_of_apis())


def read_llava(raw: Raw) -> Imported:
    """A record of LLaVA: conversation, detail or complex reasoning; no skill is on offer."""
    with refusing():
        return _Reading(raw).imported(())


class _Reading:
    """One record, turn by turn."""

    def __init__(self, raw: Raw) -> None:
        turns = raw.get("conversations")
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise Refusal(Reason.NOT_THIS_FORMAT, "it has no list of turns, `conversations`")
        id = next((raw[key] for key in ("unique_id", "id", "image_id") if key in raw), "")
        self._raw = raw
        self._turns: list[Raw] = turns
        self._draft = Draft(str(id), str(raw.get("data_source") or ""))
        self._draft.leave_out(name for name in raw if name not in _READ)
        self._waiting: list[tuple[Action, SkillUse]] = []
        self._asked: set[str] = set()
        self._mask: str | None = None
        self._images, repairs = _images_of(raw)
        self._draft.repaired(*repairs)
        self._tokens = _tokens_in_requests(turns)

    def imported(self, usual: Sequence[SkillSpec]) -> Imported:
        """All of it. Raises `Refusal`."""
        for turn in self._turns:
            speaker = turn.get("from")
            if speaker in _HUMAN:
                self._hear(turn)
            elif speaker in _GPT:
                self._reply(turn)
            else:
                raise Refusal(Reason.BAD_TURN, f"nobody known speaks: from {speaker!r}")
        self._draft.leave_out(["image"] * bool(self._images))
        return self._with_own_fields(usual)

    def _hear(self, turn: Raw) -> None:
        value, repairs = plain_text(turn.get("value"))
        self._draft.repaired(*repairs)
        text, tokens = without_images(value)
        self._asked.add(_squeezed(text))
        if self._waiting:
            self._hear_results(text, tokens)
            return
        files = self._shown(tokens)
        request, marks = read_request(text, self._draft.newest_image(len(files)))
        if marks:
            self._draft.repaired(Repair.MARKS_FROM_TEXT)
            self._asked.add(_squeezed(request))
        self._draft.ask(request, files, marks)

    def _shown(self, tokens: int) -> list[str]:
        """The images that a request shows. Raises `Refusal` when there is none to show."""
        if not self._draft.messages and self._tokens < len(self._images):
            self._draft.repaired(Repair.IMAGE_ADDED)
            tokens += len(self._images) - self._tokens
        files, self._images = self._images[:tokens], self._images[tokens:]
        if len(files) < tokens:
            if not self._draft.first_image and not files:
                raise Refusal(Reason.IMAGE_NOT_GIVEN, f"it says {IMAGE} and names none")
            self._draft.repaired(Repair.IMAGE_REPEATED)
        return files

    def _reply(self, turn: Raw) -> None:
        reply = read_reply(turn)
        self._draft.repaired(*reply.repairs)
        calls = [self._call(action) for action in reply.actions]
        self._draft.reply(reply.value, reply.thoughts, calls)
        pending = self._draft.pending  # nothing when it stood before the first request
        self._waiting = list(zip(reply.actions, pending, strict=bool(pending)))

    def _call(self, action: Action) -> NamedCall:
        if action.api not in APIS:
            if "tools" not in self._raw:
                known_spec(action.api)
            return action.api, action.params
        draft, call = self._draft, call_of(action.api, action.params)
        scene = Scene(image=draft.first_image, mask=self._mask, marks=draft.marks)
        known = read_params(call, action.params, scene)
        draft.repaired(*[Repair.IMAGE_PLACEHOLDER] * known.placeholder)
        draft.leave_out(known.left_out)
        return call.skill, known.arguments

    def _hear_results(self, text: str, tokens: int) -> None:
        results, request = read_results(text)
        if tokens:
            self._draft.repaired(Repair.IMAGE_REPEATED)
        if not results:
            results, request = [Result(self._waiting[0][0].api, text, None)], ""
            self._draft.repaired(Repair.RESULT_AS_TEXT)
        if len(results) != len(self._waiting):
            problem = f"{len(self._waiting)} calls have {len(results)} results"
            raise Refusal(Reason.MISSING_RESULT, problem)
        for (action, use), result in zip(self._waiting, results, strict=True):
            self._result(action, use, result)
        self._waiting = []
        if request and _squeezed(request) not in self._asked:
            self._draft.repaired(Repair.NEW_REQUEST)
            self._draft.ask(request)

    def _result(self, action: Action, use: SkillUse, result: Result) -> None:
        if result.is_python:
            self._draft.repaired(Repair.PYTHON_REPR)
        if result.tool != action.api and {result.tool, action.api} != {"controlnet", "openseed"}:
            self._draft.repaired(Repair.RESULT_RENAMED)
        values = dict(result.values or {})
        if values.get("error_code") in (INTERNAL_ERROR, OUT_OF_MEMORY):
            self._draft.repaired(Repair.ERROR_TOLD)
            self._draft.error(use, str(values.get("text", "")), _data(values))
        elif set(values) in ({"text"}, {"text", "data"}):
            self._draft.result_as_read(use, str(values["text"]), _data(values))
        else:
            self._find(action, use, result, values)
        self._remember_mask()

    def _find(self, action: Action, use: SkillUse, result: Result, values: dict[str, Any]) -> None:
        """Take a result in the words of our skill, or as the text that it is."""
        payload = [name for name in PAYLOAD if values.pop(name, None) is not None]
        if payload:
            self._draft.repaired(Repair.PAYLOAD_LEFT_OUT)
        try:
            if result.values is None or action.api not in APIS:
                raise ValueError("it is no answer of an API")
            found = read_response(use.name, use.arguments, values)
            self._draft.leave_out(unknown_fields(use.name, values))
        except (ValueError, TypeError, KeyError, AttributeError):
            self._draft.repaired(Repair.RESULT_AS_TEXT)
            found = Finding(str(values) if payload else result.text)
        images = [None] * found.images
        self._draft.result(use, found.text, data=found.data, images=images, masks=found.masks)

    def _remember_mask(self) -> None:
        """The first mask of the newest call that made some is what `inpainting` repaints."""
        masks = getattr(self._draft.messages[-1], "masks", ())
        self._mask = masks[0] if masks else self._mask

    def _with_own_fields(self, usual: Sequence[SkillSpec]) -> Imported:
        """The finished record, with what only our own exports tell. Raises `Refusal`."""
        raw, draft = self._raw, self._draft
        try:
            draft.masks = {name: Mask.model_validate(m) for name, m in raw.get("masks", {}).items()}
            draft.images |= {str(name): str(file) for name, file in raw.get("made", {}).items()}
            skills = read_tools(raw["tools"], draft) if "tools" in raw else None
            if "call_ids" in raw:
                draft.rename_calls([str(id) for id in raw["call_ids"]])
        except ValidationError as error:
            raise Refusal(Reason.BAD_TOOL, describe_validation(error)) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise Refusal(
                Reason.NOT_THIS_FORMAT, f"its own fields cannot be read: {error}"
            ) from error
        return draft.finished(_offered(draft, usual) if skills is None else skills)


def _images_of(raw: Raw) -> tuple[list[str], tuple[Repair, ...]]:
    """The names of a record's images, wherever they stand. Raises `Refusal`."""
    image = raw.get("image") or raw.get("file_name") or raw.get("image_file_name")
    if image is None and str(raw.get("id", "")).lower().endswith(_IMAGE_NAMES):
        return [str(raw["id"])], (Repair.IMAGE_FROM_ID,)
    names = image if isinstance(image, list) else [] if image is None else [image]
    if not all(isinstance(name, str) for name in names):
        raise Refusal(Reason.NOT_THIS_FORMAT, f"the image {image!r:.80} is no name")
    return names, ()


def _tokens_in_requests(turns: Sequence[Raw]) -> int:
    """How many images the requests show; a result may repeat a request, `<image>` and all."""
    said = [{}, *turns]
    return sum(
        str(turn.get("value")).count(IMAGE)
        for before, turn in pairwise(said)
        if turn.get("from") in _HUMAN and not _calls_something(before)
    )


def _calls_something(turn: Raw) -> bool:
    actions = turn.get("actions") or turn.get("actions🚀")
    return bool(actions) or "API_name" in str(turn.get("value"))


def _offered(draft: Draft, usual: Sequence[SkillSpec]) -> Sequence[SkillSpec]:
    """The usual skills, and before them those that are called beside these."""
    names = {spec.name for spec in usual}
    called = dict.fromkeys(name for name in draft.called if name not in names)
    return (*(known_spec(name) for name in called), *usual)


def _data(values: Mapping[str, Any]) -> dict[str, Any]:
    data = values.get("data", {})
    return data if isinstance(data, dict) else {}


def _squeezed(text: str) -> str:
    return " ".join(text.split())
