"""The APIs of LLaVA-Plus as calls of our skills, and back.

`docs/bridge.md` has the same table for requests over HTTP; in its data a call has fewer fields,
because its web page adds the first image, the mask of an earlier call, and what a person drew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from typing import Any, Literal

from ...skills.calls import SkillSpec, SkillUse
from ...skills.discovery import installed_skills, load_skill
from ...skills.errors import BadInput
from ...skills.peer_wire import caption_of, labels_in
from ...skills.skill import is_handle, tidy_schema
from ..conversation import Marks

__all__ = [
    "APIS",
    "Call",
    "CallRead",
    "Problem",
    "Said",
    "Scene",
    "UnreadableCall",
    "api_params",
    "call_of",
    "known_spec",
    "read_params",
    "said_as_api",
    "skills_of_apis",
]

Values = Mapping[str, Any]

_HANDLES: dict[str, Literal["image", "mask"]] = {
    "image": "image",
    "reference": "image",
    "mask": "mask",
}
_PLACES: Values = {"type": "array", "items": {"type": "array"}, "minItems": 1}
_SENTENCE: Values = {"type": "string", "minLength": 1}
_WRAPPED: Values = {
    "type": "object",
    "properties": {"caption": _SENTENCE},
    "required": ["caption"],
}


class Problem(StrEnum):
    """Why a call cannot be read."""

    BAD_CALL = "bad-call"
    UNKNOWN_SKILL = "unknown-tool"
    NO_ARGUMENT = "missing-argument"
    NO_IMAGE = "image-not-given"


class UnreadableCall(BadInput):
    """A call is no call of an API, or of one that no skill stands for; `problem` says which."""

    def __init__(self, problem: Problem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class Scene:
    """What LLaVA-Plus's web page adds to a call."""

    image: str | None = None
    mask: str | None = None
    marks: Marks | None = None

    def seen(
        self, images: Sequence[str] = (), masks: Sequence[str] = (), marks: Marks | None = None
    ) -> Scene:
        """With what a message brought: the first image stays, the newest mask and marks count."""
        return replace(
            self,
            image=self.image or next(iter(images), None),
            mask=next(iter(masks), self.mask),
            marks=marks or self.marks,
        )

    def given(self, argument: str) -> Any:
        """The argument that the page would fill in, or None."""
        boxes = [list(box) for box in self.marks.boxes] if self.marks else []
        points = [list(point) for point in self.marks.points] if self.marks else []
        match argument:
            case "image" | "reference":
                return self.image
            case "mask":
                return self.mask
            case "box":
                return boxes[0] if boxes else None
            case "point":
                return points[0] if points else _centre(boxes[0]) if boxes else None
        return None


@dataclass(frozen=True)
class _Field:
    """One of the API's parameters, and the argument that it stands for.

    It has the argument's JSON schema unless it is written in another form, which has `schema`.
    """

    param: str
    argument: str
    read: Callable[[Any], Any] = lambda value: value
    write: Callable[[Any], Any] = lambda value: value
    schema: Values | None = None


@dataclass(frozen=True)
class Call:
    """How one API is said as one call of a skill.

    `filled` are arguments that the web page fills in, `fixed` those that the API stands for,
    `implied` parameters that say nothing new.
    """

    skill: str
    fields: tuple[_Field, ...] = ()
    filled: tuple[str, ...] = ("image",)
    fixed: Values = field(default_factory=dict)
    implied: tuple[str, ...] = ()


def _centre(box: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = box
    return [round((x0 + x1) / 2, 3), round((y0 + y1) / 2, 3)]


def _words(value: Any) -> str:
    """Words that may be wrapped: `{"caption": ...}`."""
    words = value["caption"] if isinstance(value, dict) else value
    if not isinstance(words, str) or not words.strip():
        raise ValueError("there are no words in it")
    return words


def _labels(value: Any) -> list[str]:
    labels = labels_in(_words(value))
    if not labels:
        raise ValueError("it names nothing")
    return labels


def _rows(value: Any) -> list[Any]:
    """A list of boxes or points, though it may have been given as one of them."""
    if not isinstance(value, list) or not value:
        raise ValueError("it is no list of places")
    return value if isinstance(value[0], list) else [value]


def _places(value: Any) -> list[Any]:
    """Points, whether or not those of one thing are in a list of their own."""
    return [point for thing in _rows(value) for point in _rows(thing)]


_CAPTION = _Field("caption", "labels", _labels, caption_of, _SENTENCE)
_PROMPT = _Field("prompt", "prompt", _words)
_DETECT = Call("detect", (_CAPTION, _Field("box_threshold", "threshold")))
_SEGMENT_NAMED = Call("segment", (_CAPTION,))
_SEGMENT = Call(
    "segment",
    (
        _Field("boxes", "boxes", _rows),
        _Field("points", "points", _places, lambda points: [[point] for point in points], _PLACES),
    ),
    implied=("point_labels",),
)
_LEVELS = Call(
    "segment_levels",
    (
        _Field("point", "point", lambda value: _places(value)[0], lambda point: [point], _PLACES),
        _Field("boxes", "point", lambda value: _centre(_rows(value)[0]), schema=_PLACES),
    ),
    filled=("image", "point"),
)
_LIKE = Call("segment_like", filled=("image", "reference", "box"), implied=("refimg", "refmask"))
_LABEL = Call("label_regions", implied=("mode",))
_RESTYLE = Call(
    "restyle",
    (_Field("prompt", "prompt", _words, lambda words: {"caption": words}, _WRAPPED),),
    fixed={"control": "regions"},
    implied=("mode", "mask"),
)
_INPAINT = Call("inpaint", (_PROMPT,), filled=("image", "mask"))
_GENERATE = Call("generate", (_PROMPT,), filled=())
_EDIT = Call("edit", (_Field("prompt", "instruction", _words),))
_OCR, _RETRIEVE = Call("ocr"), Call("retrieve")

APIS = {
    "grounding_dino": _DETECT,
    "grounding_dino+sam": _SEGMENT_NAMED,
    "grounded_sam": _SEGMENT_NAMED,
    "sam": _SEGMENT,
    "semantic_sam": _LEVELS,
    "semantic-sam": _LEVELS,
    "seem": _LIKE,
    "openseed": _LABEL,
    "controlnet": _RESTYLE,
    "inpainting": _INPAINT,
    "stable-diffusion": _GENERATE,
    "sd": _GENERATE,
    "instruct-pix2pix": _EDIT,
    "ip2p": _EDIT,
    "blip2": Call("caption"),
    "ram": Call("tag"),
    "ocr": _OCR,
    "easyocr": _OCR,
    "retrieval": _RETRIEVE,
    "clip": _RETRIEVE,
    "blip2+grounding_dino": Call("ground_caption"),
    "ram+grounding_dino": Call("detect_all"),
}
"""The call that each API stands for; of several names the first is the usual one."""


def call_of(api: str, params: Values) -> Call:
    """The call that an API stands for with these parameters."""
    return _LABEL if api == "controlnet" and params.get("mode") == "openseed" else APIS[api]


@dataclass(frozen=True)
class CallRead:
    """The arguments that parameters stand for, and the names of those that say nothing.

    `placeholder` is whether an image was named by something that is no handle.
    """

    arguments: dict[str, Any]
    placeholder: bool = False
    left_out: tuple[str, ...] = ()


def read_params(call: Call, params: Values, scene: Scene) -> CallRead:
    """What a call with these parameters asks for. Raises `UnreadableCall` when none can tell."""
    if _has_background(params.get("point_labels")):
        raise UnreadableCall(Problem.BAD_CALL, "it is called with points of the background")
    rest = {name: value for name, value in params.items() if value is not None}
    arguments: dict[str, Any] = dict(call.fixed)
    placeholder = False
    for known in call.fields:
        if known.param in rest and known.argument not in arguments:
            arguments[known.argument] = _read(known, rest.pop(known.param))
    for name in call.filled:
        if name in _HANDLES and name in rest and not is_handle(rest[name], _HANDLES[name]):
            del rest[name]  # such as `<imagepath>`
            placeholder = True
        arguments.setdefault(name, rest.pop(name, scene.given(name)))
    properties = known_spec(call.skill).parameters["properties"]
    arguments |= {name: rest.pop(name) for name in list(rest) if name in properties}
    ordered = {n: arguments[n] for n in properties if arguments.get(n) is not None}
    _check_whole(call, ordered)
    unknown = (f"API_params.{name}" for name in rest if name not in call.implied)
    return CallRead(ordered, placeholder, tuple(unknown))


def _has_background(labels: Any) -> bool:
    rows = labels if isinstance(labels, list) else []
    return any(0 in row for row in rows if isinstance(row, list))


def _check_whole(call: Call, arguments: Values) -> None:
    """Raises `UnreadableCall` when something is missing that the skill or else the page gives."""
    for name in (*known_spec(call.skill).parameters.get("required", ()), *call.filled):
        if name in arguments or (name == "image" and "query" in arguments):
            continue
        if name in ("image", "reference"):
            raise UnreadableCall(Problem.NO_IMAGE, f"{call.skill} is called without an image")
        raise UnreadableCall(Problem.NO_ARGUMENT, f"{call.skill} is called without {name}")


def _read(known: _Field, value: Any) -> Any:
    try:
        return known.read(value)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        problem = f"{known.param} {value!r} cannot be read: {error}"
        raise UnreadableCall(Problem.BAD_CALL, problem) from error


@dataclass(frozen=True)
class Said:
    """A call in the parameters of an API; `foreign` is how many of them the API does not know."""

    api: str
    params: dict[str, Any]
    foreign: int = 0


def said_as_api(use: SkillUse, scene: Scene) -> Said:
    """A call in the words of the API that knows most of its parameters, or else in its own."""
    said = [
        known
        for api, call in APIS.items()
        if call.skill == use.name and (known := _as_params(api, call, use.arguments, scene))
    ]
    return min(said, key=lambda one: one.foreign, default=Said(use.name, use.arguments))


def _as_params(api: str, call: Call, arguments: Values, scene: Scene) -> Said | None:
    """How an API says a call, or None where it would be read as another one."""
    try:
        said = _written(api, call, arguments, scene)
        same = read_params(call, said.params, scene).arguments == dict(arguments)
    except (UnreadableCall, ValueError, TypeError, AttributeError):  # of some other type
        return None
    return said if same else None


def _written(api: str, call: Call, arguments: Values, scene: Scene) -> Said:
    by_argument = {known.argument: known for known in reversed(call.fields)}
    params: dict[str, Any] = {}
    foreign = 0
    for name, value in arguments.items():
        if known := by_argument.get(name):
            params[known.param] = known.write(value)
        elif call.fixed.get(name) != value and not (
            name in call.filled and value == scene.given(name)
        ):
            params[name] = value
            foreign += name not in call.filled
    if call is _SEGMENT and "points" in params:
        params["point_labels"] = [[1] for _ in params["points"]]
    return Said(api, params, foreign)


def api_params(spec: SkillSpec) -> dict[str, dict[str, Any]]:
    """The JSON schemas of the parameters of every API that stands for a skill, by its name."""
    arguments = tidy_schema(spec.parameters).get("properties", {})
    return {
        api: _params(call, arguments, spec.parameters.get("required", ()))
        for api, call in APIS.items()
        if call.skill == spec.name and all(known.argument in arguments for known in call.fields)
    }


def _params(call: Call, arguments: Values, required: Sequence[str]) -> dict[str, Any]:
    """What the web page does not fill in must be there; handles may be named."""
    needed = set(required) - {*call.filled, *call.fixed}
    named = [name for name in call.filled if name in _HANDLES and name in arguments]
    return {
        "type": "object",
        "properties": {
            **{known.param: known.schema or arguments[known.argument] for known in call.fields},
            **{name: {} for name in call.implied},
            **{name: arguments[name] for name in named},
        },
        "required": [known.param for known in call.fields if known.argument in needed],
    }


@cache
def known_spec(skill: str) -> SkillSpec:
    """The spec of an installed skill. Raises `UnreadableCall` when there is none of that name."""
    if skill not in installed_skills():
        problem = f"no skill {skill!r} is installed, and the record does not describe it"
        raise UnreadableCall(Problem.UNKNOWN_SKILL, problem)
    return SkillSpec.from_tool(load_skill(skill).spec.tool())


@cache
def skills_of_apis() -> tuple[SkillSpec, ...]:
    """Every skill that an API stands for: what LLaVA-Plus has at hand in every conversation."""
    names = dict.fromkeys(call.skill for call in APIS.values())
    return tuple(known_spec(name) for name in names)
