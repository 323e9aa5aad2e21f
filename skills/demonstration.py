"""Demonstrations: what a plugin shows of its skill, once, for training data and for tests.

`llava_plus.training_data` makes conversations of them, and the fake in `testing.py` answers from
them; `check_demonstrations` holds both to the skill's spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .calls import SkillSpec
from .errors import BadConfiguration, BadSkillUse
from .geometry import Mask
from .skill import HANDLE_PATTERNS, Skill, is_handle

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Demonstration",
    "check_demonstrations",
    "checked_call",
    "handles_needed",
    "middle_of",
    "texts_in",
]


@dataclass(frozen=True)
class Demonstration:
    """A request as a person makes it, the call that it should become, and what comes of that.

    `arguments` are those of the call as JSON; an image or a mask may be left out where the skill
    needs just one. `finding` is the result as the LMM reads it, `answer` what it should then say:
    the finding as a sentence, unless given. `makes` tells what else the result brings, in order.
    """

    request: str
    arguments: Mapping[str, Any]
    finding: str
    answer: str = ""
    makes: tuple[Literal["image", "mask"], ...] = ()

    def call(self, spec: SkillSpec) -> dict[str, Any]:
        """The arguments of the whole call, in the order of the spec, `img_1` and `mask_1` added."""
        properties = spec.parameters["properties"]
        given = dict(self.arguments)
        for kind, handle in (("image", "img_1"), ("mask", "mask_1")):
            wanted = [
                name
                for name in spec.parameters.get("required", ())
                if properties[name].get("pattern") == HANDLE_PATTERNS[kind]
            ]
            if len(wanted) == 1:
                given.setdefault(wanted[0], handle)
        # A name that the spec does not have stays, for whoever checks the call to complain of.
        return {name: given[name] for name in [*properties, *given] if name in given}


def check_demonstrations(skill: Skill) -> None:
    """Raise `BadConfiguration` for a demonstration that does not fit the skill's spec.

    The message names the demonstration and the argument.
    """
    for number, shown in enumerate(skill.demonstrations, start=1):
        if problem := _problem(skill, shown):
            place = f"demonstration {number} of the skill {skill.name!r} ({shown.request!r})"
            raise BadConfiguration(f"{place}: {problem}")


def _problem(skill: Skill, shown: Demonstration) -> str:
    """What is wrong with a demonstration; empty when nothing is."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    if not shown.request.strip() or not shown.finding.strip():
        return "the request and the finding must say something"
    if unknown := set(shown.makes) - set(HANDLE_PATTERNS):
        return f"makes: there is no {sorted(unknown)[0]!r} to make, only 'image' and 'mask'"
    # First as the LMM would have to write it: `check` would take "3" for a number.
    errors = Draft202012Validator(skill.spec.parameters).iter_errors(shown.call(skill.spec))
    if error := best_match(errors):
        return ": ".join([*map(str, error.absolute_path), error.message])
    try:
        checked_call(skill, shown)
    except BadSkillUse as bad:
        return str(bad).removeprefix(f"{skill.name}: ")
    return ""


def checked_call(skill: Skill, shown: Demonstration) -> dict[str, Any]:
    """What `run` would get for a demonstration, with blank pictures for its images.

    Raises `BadSkillUse` when the arguments do not fit.
    """
    from PIL import Image

    call = shown.call(skill.spec)
    picture = Image.new("RGB", (64, 64))
    images, masks = (handles_needed(call, kind) for kind in ("image", "mask"))
    return skill.check(
        call,
        images=dict.fromkeys(images, picture),
        masks=dict.fromkeys(masks, middle_of(picture)) if masks else {},
    )


def handles_needed(call: Mapping[str, Any], kind: Literal["image", "mask"]) -> list[str]:
    """The handles of a kind that have to be there for a call: all up to the last that it names."""
    named = [text for text in texts_in(call) if is_handle(text, kind)]
    stem = {"image": "img", "mask": "mask"}[kind]
    last = max((int(handle.rpartition("_")[2]) for handle in named), default=0)
    return [f"{stem}_{number}" for number in range(1, last + 1)]


def texts_in(value: Any) -> Iterator[str]:
    """Every text within arguments, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_in(part)


def middle_of(picture: Image) -> Mask:
    """A mask of the middle half of a picture, each way."""
    import numpy as np

    area = np.zeros((picture.height, picture.width), dtype=bool)
    down, across = picture.height // 4, picture.width // 4
    area[down : picture.height - down, across : picture.width - across] = True
    return Mask.from_array(area)
