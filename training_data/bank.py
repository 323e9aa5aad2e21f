"""Reading the request bank: hand-written requests in plain text (`bank/FORMAT.md`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..skills.calls import SkillSpec
from ..skills.errors import BadInput
from ..skills.skill import HANDLE_PATTERNS

__all__ = [
    "Bank",
    "InventedSkill",
    "Plan",
    "Request",
    "Step",
    "numbered_lines",
    "read_invented",
    "split_arguments",
]

FOLDER = Path(__file__).parent / "bank"

_TYPES: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "pattern": HANDLE_PATTERNS["image"]},
    "mask": {"type": "string", "pattern": HANDLE_PATTERNS["mask"]},
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
    "boxes": {
        "type": "array",
        "items": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "minItems": 4,
            "maxItems": 4,
        },
    },
}
_SIGNATURE = re.compile(r"(\w+)\((.*?)\): (.+)")


@dataclass(frozen=True)
class Request:
    """One hand-written request; `arguments` still hold slots such as `{a}`."""

    text: str
    arguments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One call of a plan; `arguments` may name what an earlier step made (`$boxes`)."""

    skill: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """A request of several steps; the calls of one round are made at once."""

    text: str
    rounds: tuple[tuple[Step, ...], ...]

    @cached_property
    def skills(self) -> list[str]:
        """The skills that it takes, in order."""
        return [step.skill for steps in self.rounds for step in steps]


@dataclass(frozen=True)
class InventedSkill:
    """A skill that exists only to teach reading specs: its spec, requests and one result."""

    spec: SkillSpec
    requests: tuple[Request, ...]
    result: str
    descriptions: tuple[str, ...] = ()
    """The same in other words."""

    @property
    def takes_image(self) -> bool:
        """Whether one of the arguments is an image."""
        return any("img" in kind for kind in self.kinds)

    @property
    def kinds(self) -> list[str]:
        """The pattern of every argument, empty where there is none."""
        properties = self.spec.parameters["properties"].values()
        return [schema.get("pattern", "") for schema in properties]


@dataclass(frozen=True)
class Bank:
    """The whole bank of one folder. Raises `BadInput` with file and line for what is malformed."""

    folder: Path = FOLDER

    @cached_property
    def skills(self) -> dict[str, list[Request]]:
        """Requests by catalogue skill; `detect-b.txt` adds to `detect.txt`."""
        found: dict[str, list[Request]] = {}
        for path in sorted((self.folder / "skills").glob("*.txt")):
            requests = found.setdefault(path.stem.split("-")[0], [])
            for place, line in _lines(path):
                text, _, arguments = line.partition(" | ")
                requests.append(Request(text.strip(), split_arguments(arguments, place)))
        return found

    @cached_property
    def plans(self) -> list[Plan]:
        """Requests of several steps."""
        return self._read_plans("plans")

    @cached_property
    def marked(self) -> list[Plan]:
        """Requests about a place that the person marked: `$box`, `$point` or `$sketch`."""
        return self._read_plans("marked")

    def _read_plans(self, name: str) -> list[Plan]:
        plans = []
        for place, (text, calls) in self._pairs(name):
            rounds = tuple(
                tuple(_step(call, place) for call in part.split(" & "))
                for part in calls.split("=>")
            )
            plans.append(Plan(text, rounds))
        return plans

    @cached_property
    def none(self) -> list[tuple[str, str]]:
        """Requests that need no skill, with their answers."""
        return [pair for _, pair in self._pairs("none")]

    @cached_property
    def missing(self) -> list[tuple[str, str]]:
        """Requests that nothing on offer fits, with what it would take."""
        return [pair for _, pair in self._pairs("missing")]

    @cached_property
    def repeat(self) -> list[tuple[str, str]]:
        """Requests to say something again, with the answers."""
        return [pair for _, pair in self._pairs("repeat")]

    @cached_property
    def looks(self) -> dict[str, list[str]]:
        """Questions about the look of an image, by what is asked."""
        found: dict[str, list[str]] = {}
        for _, (text, asked) in self._pairs("looks"):
            found.setdefault(asked, []).append(text)
        return found

    @cached_property
    def topics(self) -> dict[str, list[str]]:
        """Things, each with related words that do not name it."""
        return {thing: words.split(", ") for _, (thing, words) in self._pairs("topics")}

    @cached_property
    def prompts(self) -> list[str]:
        """Pictures to make, described."""
        return [line for _, line in _lines(self.folder / "prompts.txt")]

    @cached_property
    def changes(self) -> list[str]:
        """What to change in a picture, as an order."""
        return [line for _, line in _lines(self.folder / "changes.txt")]

    @cached_property
    def nouns(self) -> list[tuple[str, str]]:
        """Visible things, singular and plural."""
        found = []
        for place, line in _lines(self.folder / "nouns.txt"):
            one, slash, many = line.partition("/")
            if not slash:
                raise BadInput(f"{place}: {line!r} has no plural behind a slash")
            found.append((one.strip(), many.strip()))
        return found

    @cached_property
    def invented(self) -> list[InventedSkill]:
        """Skills that exist nowhere else."""
        paths = sorted((self.folder / "invented").glob("*.txt"))
        return [skill for path in paths for skill in read_invented(path)]

    @cached_property
    def findings(self) -> list[str]:
        """What invented skills find."""
        return [skill.result for skill in self.invented]

    @cached_property
    def other_names(self) -> dict[str, tuple[list[str], list[str]]]:
        """Other names and other descriptions of the catalogue skills."""
        found: dict[str, tuple[list[str], list[str]]] = {}
        names: list[str] = []
        says: list[str] = []
        for _, line in _lines(self.folder / "other_names.txt"):
            key, colon, rest = line.partition(": ")
            if key == "names":
                names.extend(rest.split(", "))
            elif key == "says":
                says.append(rest)
            elif not colon:
                names, says = found.setdefault(line, ([], []))
        return found

    def _pairs(self, stem: str) -> Iterator[tuple[str, tuple[str, str]]]:
        for path in sorted(self.folder.glob(f"{stem}*.txt")):
            for place, line in _lines(path):
                left, bar, right = line.partition(" | ")
                if not bar:
                    raise BadInput(f"{place}: {line!r} has no part behind a bar")
                yield place, (left.strip(), right.strip())


def read_invented(path: Path) -> list[InventedSkill]:
    """Read one file of invented skills. Raises `BadInput` with the line of what is malformed."""
    found = []
    block: list[tuple[str, str]] = []
    for place, line in [*_lines(path, keep_empty=True), (str(path), "")]:
        if line:
            block.append((place, line))
        elif block:
            found.append(_invented(block))
            block = []
    return found


def split_arguments(text: str, place: str) -> dict[str, str]:
    """Read `key=value; key=value`; a part without `=` belongs to the value before it."""
    arguments: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split("; "))):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise BadInput(f"{place}: {part!r} is not of the form key=value")
        arguments[key] = value.strip()
    return arguments


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file behind their places. Raises `BadInput` when it is not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not text in UTF-8: {error.reason} at {error.start}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"{path.name}:{number}", line


def _lines(path: Path, *, keep_empty: bool = False) -> list[tuple[str, str]]:
    return [
        (place, line.strip())
        for place, line in numbered_lines(path)
        if not line.startswith("#") and (keep_empty or line.strip())
    ]


def _step(call: str, place: str) -> Step:
    skill, _, arguments = call.strip().partition(" ")
    return Step(skill, split_arguments(arguments, place))


def _invented(block: list[tuple[str, str]]) -> InventedSkill:
    place, head = block[0]
    match = _SIGNATURE.fullmatch(head)
    if not match:
        raise BadInput(f"{place}: {head!r} is not of the form name(arg: type): description")
    name, arguments, description = match.groups()
    properties: dict[str, Any] = {}
    required = []
    for argument in filter(None, arguments.split(", ")):
        key, _, kind = argument.partition(": ")
        if not key.endswith("?"):
            required.append(key)
        properties[key.removesuffix("?")] = _type(kind.strip(), place)
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    others = [line.removeprefix("~ ") for _, line in block[1:] if line.startswith("~ ")]
    *requests, (last_place, last) = [pair for pair in block[1:] if not pair[1].startswith("~ ")]
    if not last.startswith("= "):
        raise BadInput(f"{last_place}: the block of {name} does not end with a result line")
    return InventedSkill(
        SkillSpec(name=name, description=description, parameters=parameters),
        tuple(_request(line, place) for place, line in requests),
        last.removeprefix("= "),
        tuple(others),
    )


def _request(line: str, place: str) -> Request:
    text, _, arguments = line.partition(" | ")
    return Request(text.strip(), split_arguments(arguments, place))


def _type(kind: str, place: str) -> dict[str, Any]:
    if kind in _TYPES:
        return json.loads(json.dumps(_TYPES[kind]))  # type: ignore[no-any-return]
    if "/" in kind:
        return {"type": "string", "enum": kind.split("/")}
    raise BadInput(f"{place}: {kind!r} is no type; known: {', '.join(_TYPES)}, or a/b/c")
