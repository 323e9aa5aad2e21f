"""Made-up results of catalogue skills in the words of the real ones, and true answers to them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

from ..skills.adjust import Operation
from ..skills.calls import Artifact, SkillProblem, SkillResult, SkillUse
from ..skills.geometry import Corners, Mask
from ..skills.images import ImageRef
from ..skills.wording import adjusted_text, detections_text, ocr_text, segments_text
from .slots import _SIGNS

__all__ = ["answer_to", "fail", "invent_result", "retell_differently"]

MASK = Mask(size=(4, 4), counts="0`0")
"""Stands for any mask: the LMM sees handles, never pixels of a mask."""

_PLACES = "a beach|a kitchen|a busy street|a park|an office|a farm|a snowy hill|a train station"
_ACTIONS = "stands|sits|plays|walks|waits|sleeps|looks up|runs|leans on a wall"
_TAGS = (
    "outdoors indoors sky water people food animal building street night sunset portrait "
    "nature city sport travel family text plant vehicle vintage winter summer"
).split()
_PAST = (
    "Found Outlined Blurred Pixelated Cropped Rotated Flipped Mirrored Converted Brightened "
    "Darkened Raised Increased Sharpened Highlighted Removed Inverted Made Painted Edited "
    "Repainted Described Changed Applied Lowered Toned Turned Saturated"
).split()


def fail(use: SkillUse, rng: random.Random) -> SkillResult:
    """A call that brought nothing but a problem."""
    labels = use.arguments.get("labels") or use.arguments.get("objects") or ["that"]
    messages = (
        f"this detector does not know {', '.join(map(str, labels))}; it knows: person, face, eye, "
        "cat face, QR code. The backend 'grounding-dino' knows any label.",
        "the image is too small to work on",
        "the model ran out of memory",
        "nothing in the image can be worked on",
        f"{use.name} is not available right now",
    )
    message = rng.choice(messages)
    return SkillResult(
        id=use.id, name=use.name, error=SkillProblem(kind="SkillFailed", message=message)
    )


def retell_differently(text: str, rng: random.Random, nouns: Sequence[tuple[str, str]]) -> str:
    """Another finding than the bank's example, so that answers are read off and not known.

    Half the time its digits are others, else it is a sentence of random things.
    """
    if rng.random() < 0.5:
        return re.sub(r"\d", lambda _: str(rng.randint(0, 9)), text)
    amount = f" About {rng.randint(2, 999)} {rng.choice(nouns)[1]}." if rng.random() < 0.5 else ""
    return _sentence(rng, nouns) + amount


def answer_to(messages: Sequence[Any]) -> str:
    """The true answer to the results of one reply's calls: what they say, retold."""
    return " ".join(_retell(message) for message in messages)


def _retell(message: Any) -> str:
    result: SkillResult = message.result
    if result.error:
        return f"That did not work: {message.text.removeprefix('Error: ')}"
    lines = result.text.split("\n")
    if re.fullmatch(r"Read \d+ lines?:", lines[0]):
        text = f"It says: {' / '.join(lines[1:9])}"
    else:
        text = lines[0].removesuffix(":")
        first, _, rest = text.partition(" ")
        text = f"I {first[0].lower()}{first[1:]} {rest}" if first in _PAST else text
    if message.images:
        return f"{text.rstrip('.')}: see {', '.join(message.images)}."
    return text


def invent_result(
    kind: str, use: SkillUse, rng: random.Random, nouns: Sequence[tuple[str, str]], image: ImageRef
) -> SkillResult:
    """A plausible finding of the catalogue skill `kind` for the call `use`."""
    text, artifacts = _INVENT[kind](list(use.arguments.values()), use.arguments, rng, nouns, image)
    return SkillResult(id=use.id, name=use.name, text=text, artifacts=tuple(artifacts))


Outcome = tuple[str, Sequence[Artifact]]


def _labels(arguments: dict[str, Any]) -> list[str]:
    lists = [value for value in arguments.values() if isinstance(value, list)]
    found = [str(item) for item in lists[0] if isinstance(item, str)] if lists else []
    return found or ["region"]


def _box(rng: random.Random) -> Corners:
    x, y = rng.uniform(0, 0.8), rng.uniform(0, 0.8)
    width, height = rng.uniform(0.03, 0.95 - x), rng.uniform(0.03, 0.95 - y)
    return Corners(round(x, 2), round(y, 2), round(x + width, 2), round(y + height, 2))


def _detect(_: Any, arguments: dict[str, Any], rng: random.Random, *__: Any) -> Outcome:
    labels = _labels(arguments)
    objects = []
    for label in labels:
        count = rng.choice((0, 1, 1, 1, 2, 2, 3, 4)) if len(labels) < 4 else rng.choice((0, 1, 2))
        objects += [(label, _box(rng)) for _ in range(count)]
    if rng.random() < 0.05 and len(labels) == 1:
        objects = [(labels[0], _box(rng)) for _ in range(rng.randint(5, 16))]
    unknown = [labels[-1]] if len(labels) > 1 and rng.random() < 0.1 else []
    found = [(label, box) for label, box in objects if label not in unknown]
    note = f'Decoded: "{rng.choice(_SIGNS)}".' if rng.random() < 0.03 else ""
    if rng.random() < 0.03:
        note = f"Any person counts as {labels[0]} to this detector."
    return detections_text(found, labels, unknown=unknown, note=note), ()


def _segment(_: Any, arguments: dict[str, Any], rng: random.Random, *__: Any) -> Outcome:
    labels = [label for label in _labels(arguments) if rng.random() < 0.92]
    regions = [(label, rng.randint(1, 70) / 100) for label in labels]
    artifacts = [Artifact(label=label, mask=MASK) for label in labels]
    return segments_text(regions, _labels(arguments)), artifacts


def _adjust(
    _: Any, arguments: dict[str, Any], rng: random.Random, nouns: Any, image: ImageRef
) -> Outcome:
    operation = next((v for v in arguments.values() if v in OPERATIONS), "blur")
    target = next((v for v in arguments.values() if isinstance(v, list)), None)
    regions = len(target) if target else 1 if "mask" in str(arguments) else 0
    amount = next((v for v in arguments.values() if isinstance(v, int | float)), None)
    size = (rng.randint(100, 3000), rng.randint(100, 3000))
    text = adjusted_text(operation, regions, size=size, degrees=90 if amount is None else amount)
    return text, [Artifact(image=image)]


OPERATIONS = get_args(Operation)


def _ocr(_: Any, __: Any, rng: random.Random, nouns: Any, ___: ImageRef) -> Outcome:
    count = rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
    lines = []
    for _ in range(count):
        line = rng.choice(_SIGNS) if rng.random() < 0.5 else rng.choice(nouns)[0]
        if rng.random() < 0.4:
            line += f" {rng.randint(1, 99)}.{rng.randint(10, 99)}"
        lines.append(line.upper() if rng.random() < 0.3 else line)
    return ocr_text(lines), ()


def _sentence(rng: random.Random, nouns: Sequence[tuple[str, str]]) -> str:
    place, action = rng.choice(_PLACES.split("|")), rng.choice(_ACTIONS.split("|"))
    return f"A {rng.choice(nouns)[0]} {action} near a {rng.choice(nouns)[0]} in {place}."


def _caption(_: Any, __: Any, rng: random.Random, nouns: Any, ___: ImageRef) -> Outcome:
    return _sentence(rng, nouns), ()


def _tag(_: Any, __: Any, rng: random.Random, nouns: Any, ___: ImageRef) -> Outcome:
    tags = rng.sample(_TAGS, rng.randint(2, 5)) + [rng.choice(nouns)[0] for _ in range(3)]
    return f"{len(tags)} tags: {', '.join(tags)}.", ()


def _retrieve(
    _: Any, arguments: dict[str, Any], rng: random.Random, nouns: Any, image: ImageRef
) -> Outcome:
    wanted = next((v for v in arguments.values() if isinstance(v, int)), rng.randint(2, 5))
    count = 0 if rng.random() < 0.1 else min(wanted, 6)
    text = f"Found {count} similar pictures." if count else "Found no similar pictures."
    return text, [Artifact(image=image) for _ in range(count)]


def _made(text: str) -> Callable[..., Outcome]:
    def outcome(_: Any, __: Any, ___: Any, ____: Any, image: ImageRef) -> Outcome:
        return text, [Artifact(image=image)]

    return outcome


def _describe_regions(_: Any, __: Any, rng: random.Random, nouns: Any, ___: ImageRef) -> Outcome:
    count = rng.randint(2, 4)
    lines = [f"{list(_box(rng))} {_sentence(rng, nouns)}" for _ in range(count)]
    return "\n".join([f"Described {count} regions:", *lines]), ()


_INVENT: dict[str, Callable[..., Outcome]] = {
    "ocr": _ocr,
    "detect": _detect,
    "segment": _segment,
    "adjust": _adjust,
    "caption": _caption,
    "tag": _tag,
    "retrieve": _retrieve,
    "generate": _made("Made the picture."),
    "edit": _made("Edited the image."),
    "inpaint": _made("Repainted the masked area."),
    "describe_regions": _describe_regions,
}
