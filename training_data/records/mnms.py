"""m&ms (Ma et al. 2024): requests with plans of 33 tools, which nobody has carried out.

`{id, user_request, plan_str, alt_plans_str, code_str}`, a plan being Python's way of writing
`[{id, name, args}]`. A record has the request and one reply with every call; the call of node 0
has the id `node-0`, by which later arguments speak of what it brings: `<node-0>.text`.
Its authors ask not to train on it.
"""

from __future__ import annotations

from typing import Any

from ...model.llava_plus.literals import read_literal
from ...skills.calls import SkillSpec, SkillUse
from ...skills.skill import HANDLE_PATTERNS
from .draft import Draft
from .imported import Imported, Raw, Reason, Refusal, Repair

__all__ = ["TOOLS", "is_mnms", "read"]

_READ = "id user_request plan plan_str alt_plans alt_plans_str code_str".split()
_IMAGE_NAMES = (".jpg", ".jpeg", ".png")

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_IMAGE = {"type": "string", "pattern": HANDLE_PATTERNS["image"]}
_ANY: dict[str, Any] = {}
_KINDS = {
    **dict.fromkeys("text question prompt date city movie_title movie_year lon lat".split(), _TEXT),
    **dict.fromkeys("first_name second_name audio emoji object_name".split(), _TEXT),
    **dict.fromkeys("year number".split(), _NUMBER),
    **dict.fromkeys("object objects".split(), _ANY),
    "image": _IMAGE,
}

TOOLS: dict[str, tuple[str, str]] = {
    "text generation": ("text", "Continue a text."),
    "text summarization": ("text", "Sum up a paragraph in a few sentences."),
    "text classification": ("text", "Name the class of a text, such as its mood."),
    "question answering": ("text question", "Answer a question from a text."),
    "image generation": ("text", "Make an image of what a text says."),
    "image captioning": ("image", "Describe an image in words."),
    "optical character recognition": ("image", "Read the text in an image."),
    "image classification": ("image", "Name what an image shows."),
    "image editing": ("image prompt", "Change an image as told in words."),
    "object detection": ("image", "Find the objects in an image, with their boxes and labels."),
    "image segmentation": ("image", "Divide an image into objects with masks and labels."),
    "automatic speech recognition": ("audio", "Write down what is said in a recording."),
    "visual question answering": ("image question", "Answer a question about an image."),
    "image crop": ("image object", "Cut an object out of an image by its box."),
    "image crop left": ("image", "Keep the left part of an image."),
    "image crop right": ("image", "Keep the right part of an image."),
    "image crop top": ("image", "Keep the upper part of an image."),
    "image crop bottom": ("image", "Keep the lower part of an image."),
    "background blur": ("image object", "Blur all of an image but an object."),
    "color pop": ("image object", "Take the colour from all of an image but an object."),
    "count": ("objects", "Count objects."),
    "tag": ("image objects", "Write the labels of objects into an image."),
    "select object": ("objects object_name", "Choose an object from a list by its name."),
    "emoji": ("image object emoji", "Put an emoji over an object in an image."),
    "get date fact": ("date", "Tell something about a date, given as month/day."),
    "get year fact": ("year", "Tell something about a year."),
    "get math fact": ("number", "Tell something mathematical about a number."),
    "get trivia fact": ("number", "Tell something curious about a number."),
    "love calculator": ("first_name second_name", "Tell how well two names go together."),
    "get location": ("city", "Find the longitude and latitude of a city or an address."),
    "search movie": ("movie_title movie_year", "Look up a film."),
    "get weather": ("lon lat", "Tell the weather forecast for a place."),
    "wikipedia simple search": ("text", "Sum up the page of Wikipedia that fits a search best."),
}
"""The arguments of each tool, and what it does."""


def is_mnms(raw: Raw) -> bool:
    """Whether it is a request with a plan."""
    return "user_request" in raw and ("plan_str" in raw or "plan" in raw)


def read(raw: Raw) -> Imported:
    """A request with its plan as one reply. Raises `Refusal`."""
    request = raw.get("user_request")
    if not isinstance(request, str):
        raise Refusal(Reason.NOT_THIS_FORMAT, "it has no text `user_request`")
    draft = Draft(str(raw.get("id", "")), "mnms")
    draft.leave_out(name for name in raw if name not in _READ)
    plan = _literal(raw.get("plan", raw.get("plan_str")), draft)
    alternatives = raw.get("alt_plans", raw.get("alt_plans_str"))
    if alternatives not in (None, "", "[]", []):
        draft.repaired(Repair.ALTERNATIVES_LEFT_OUT)
    images = _images(plan)
    draft.ask(request, list(images))
    draft.reply_with([_use(node, images) for node in plan], "")
    return draft.finished([_spec(name) for name in TOOLS])


def _literal(plan: Any, draft: Draft) -> list[Raw]:
    if isinstance(plan, str):
        literal = read_literal(plan.strip())
        plan = literal.value if literal else None
        if literal and literal.is_python:
            draft.repaired(Repair.PYTHON_REPR)
    if not isinstance(plan, list) or not plan or not all(isinstance(node, dict) for node in plan):
        raise Refusal(Reason.BAD_CALL, "its plan is no list of calls")
    if not all(isinstance(node.get("args"), dict) for node in plan):
        raise Refusal(Reason.BAD_CALL, "a call of its plan has no object `args`")
    return plan


def _images(plan: list[Raw]) -> dict[str | None, str]:
    """The images that the plan begins from, with their handles."""
    values = [value for node in plan for value in node["args"].values()]
    names = (value for value in values if str(value).lower().endswith(_IMAGE_NAMES))
    return {name: f"img_{place}" for place, name in enumerate(dict.fromkeys(names), 1)}


def _use(node: Raw, images: dict[str | None, str]) -> SkillUse:
    name = node.get("name")
    if name not in TOOLS:
        raise Refusal(Reason.UNKNOWN_TOOL, f"{name!r} is none of the 33 tools")
    arguments = {
        key: images.get(value, value) if isinstance(value, str) else value
        for key, value in node["args"].items()
    }
    id = str(node.get("id"))
    return SkillUse(id=f"node-{id.removeprefix('node-')}", name=_name(name), arguments=arguments)


def _spec(tool: str) -> SkillSpec:
    arguments, description = TOOLS[tool]
    names = arguments.split()
    properties = {name: _KINDS[name] for name in names}
    return SkillSpec(
        name=_name(tool),
        description=description,
        parameters={"type": "object", "properties": properties, "required": names},
    )


def _name(tool: str) -> str:
    return tool.replace(" ", "_")
