"""Made-up results of catalogue skills in the words of the real ones, and true answers to them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from ..skills.adjust import Operation
from ..skills.calls import Artifact, SkillProblem, SkillResult, SkillUse
from ..skills.geometry import Corners, Mask
from ..skills.images import ImageRef
from ..skills.wording import (
    adjusted_text,
    detections_text,
    ocr_text,
    regions_text,
    retrieved_text,
    segments_text,
    tags_text,
)
from .lettering import draw_line, draw_name

__all__ = ["TELLING", "answer_to", "fail", "invent_result", "tell_differently"]

MASK = Mask(size=(4, 4), counts="0`0")
"""Stands for any mask: the LMM sees handles, never pixels of a mask."""

TELLING = frozenset(("ocr", "caption", "tag", "describe_regions"))
"""Skills whose finding is asked for itself, also when further steps follow."""

LONGEST_READING = 12
"""So many lines of text are told; of a longer text, its first lines."""

Nouns = Sequence[tuple[str, str]]

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


def tell_differently(bank: Sequence[str], rng: random.Random, nouns: Nouns) -> str:
    """A finding that no request foretells, so that answers are read off and not known.

    It is one of the bank's findings with other digits and a name put in, or a sentence of random
    things, or lines of random text.
    """
    kind = rng.random()
    if kind < 0.6:
        text = re.sub(r"\d", lambda _: str(rng.randint(0, 9)), rng.choice(bank))
        return f"{draw_name(rng)}: {text}" if rng.random() < 0.15 else text
    if kind < 0.8:
        amount = f" About {rng.randint(2, 999)} {rng.choice(nouns)[1]}."
        return _sentence(rng, nouns) + rng.choice(("", amount))
    return ", ".join(draw_line(rng, nouns) for _ in range(rng.randint(1, 4))) + "."


def answer_to(messages: Sequence[Any]) -> str:
    """The true answer to the results of one reply's calls: what they say, retold."""
    return " ".join(_retell(message) for message in messages)


def _retell(message: Any) -> str:
    result: SkillResult = message.result
    if result.error:
        return f"That did not work: {message.text.removeprefix('Error: ')}"
    lines = result.text.split("\n")
    if re.fullmatch(r"Read \d+ lines?:", lines[0]):
        shown = lines[1 : LONGEST_READING + 1]
        text = f"It {'says' if shown == lines[1:] else 'begins'}: {' / '.join(shown)}"
    else:
        text = lines[0].removesuffix(":")
        first, _, rest = text.partition(" ")
        text = f"I {first[0].lower()}{first[1:]} {rest}" if first in _PAST else text
    if message.images:
        return f"{text.rstrip('.')}: see {', '.join(message.images)}."
    return text


@dataclass(frozen=True)
class _Call:
    """What a made-up result is drawn from."""

    arguments: dict[str, Any]
    rng: random.Random
    nouns: Nouns
    image: ImageRef


def invent_result(
    kind: str, use: SkillUse, rng: random.Random, nouns: Nouns, image: ImageRef
) -> SkillResult:
    """A plausible finding of the catalogue skill `kind` for the call `use`."""
    text, artifacts = _INVENT[kind](_Call(use.arguments, rng, nouns, image))
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


def _detect(call: _Call) -> Outcome:
    rng, labels = call.rng, _labels(call.arguments)
    objects = []
    for label in labels:
        count = rng.choice((0, 1, 1, 1, 2, 2, 3, 4)) if len(labels) < 4 else rng.choice((0, 1, 2))
        objects += [(label, _box(rng)) for _ in range(count)]
    if rng.random() < 0.05 and len(labels) == 1:
        objects = [(labels[0], _box(rng)) for _ in range(rng.randint(5, 16))]
    unknown = [labels[-1]] if len(labels) > 1 and rng.random() < 0.1 else []
    found = [(label, box) for label, box in objects if label not in unknown]
    note = f'Decoded: "{draw_line(rng, call.nouns)}".' if rng.random() < 0.03 else ""
    if rng.random() < 0.03:
        note = f"Any person counts as {labels[0]} to this detector."
    return detections_text(found, labels, unknown=unknown, note=note), ()


def _segment(call: _Call) -> Outcome:
    wanted = _labels(call.arguments)
    labels = [label for label in wanted if call.rng.random() < 0.92]
    if len(labels) == 1 and call.rng.random() < 0.3:
        labels *= call.rng.randint(2, 5)
    regions = [(label, call.rng.randint(1, 70) / 100) for label in labels]
    artifacts = [Artifact(label=label, mask=MASK) for label in labels]
    return segments_text(regions, wanted), artifacts


def _adjust(call: _Call) -> Outcome:
    values = list(call.arguments.values())
    operation = next((v for v in values if v in OPERATIONS), "blur")
    target = next((v for v in values if isinstance(v, list)), None)
    regions = len(target) if target else 1 if "mask" in str(values) else 0
    amount = next((v for v in values if isinstance(v, int | float)), 90)
    size = (call.rng.randint(100, 3000), call.rng.randint(100, 3000))
    text = adjusted_text(operation, regions, size=size, degrees=amount)
    return text, [Artifact(image=call.image)]


OPERATIONS = get_args(Operation)


def _ocr(call: _Call) -> Outcome:
    count = call.rng.choice((0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8, 11, 14))
    return ocr_text([draw_line(call.rng, call.nouns) for _ in range(count)]), ()


def _sentence(rng: random.Random, nouns: Nouns) -> str:
    place, action = rng.choice(_PLACES.split("|")), rng.choice(_ACTIONS.split("|"))
    return f"A {rng.choice(nouns)[0]} {action} near a {rng.choice(nouns)[0]} in {place}."


def _caption(call: _Call) -> Outcome:
    return _sentence(call.rng, call.nouns), ()


def _tag(call: _Call) -> Outcome:
    tags = call.rng.sample(_TAGS, call.rng.randint(2, 5))
    tags += [call.rng.choice(call.nouns)[0] for _ in range(3)]
    return tags_text(tags), ()


def _retrieve(call: _Call) -> Outcome:
    asked = (value for value in call.arguments.values() if isinstance(value, int))
    wanted = next(asked, call.rng.randint(2, 5))
    count = 0 if call.rng.random() < 0.1 else min(wanted, 6)
    return retrieved_text(count), [Artifact(image=call.image) for _ in range(count)]


def _made(text: str) -> Callable[[_Call], Outcome]:
    return lambda call: (text, [Artifact(image=call.image)])


def _describe_regions(call: _Call) -> Outcome:
    count = call.rng.randint(2, 4)
    regions = [(_box(call.rng), _sentence(call.rng, call.nouns)) for _ in range(count)]
    return regions_text(regions), ()


_INVENT: dict[str, Callable[[_Call], Outcome]] = {
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
