"""The specs of the eleven catalogue skills: those installed speak for themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..skills.calls import SkillSpec
from ..skills.discovery import load_skill
from ..skills.skill import HANDLE_PATTERNS

__all__ = ["INSTALLED", "catalogue"]

INSTALLED = ("ocr", "detect", "segment", "adjust")

IMAGE: dict[str, Any] = {"type": "string", "pattern": HANDLE_PATTERNS["image"]}
MASK: dict[str, Any] = {"type": "string", "pattern": HANDLE_PATTERNS["mask"]}
TEXT: dict[str, Any] = {"type": "string"}


def _spec(name: str, description: str, required: str, **properties: dict[str, Any]) -> SkillSpec:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }
    return SkillSpec(name=name, description=description, parameters=parameters)


@cache
def catalogue() -> dict[str, SkillSpec]:
    """Every catalogue skill's spec by name; the skills that do not ship yet are given here."""
    others = [
        _spec(
            "caption",
            "Describe the whole image in a sentence: what is going on in it.",
            "image",
            image=IMAGE,
        ),
        _spec(
            "tag",
            "List keywords for an image: its objects, scene, style (for sorting and search).",
            "image",
            image=IMAGE,
        ),
        _spec(
            "retrieve",
            "Search a photo collection for similar pictures, by example image or by words.",
            "",
            image=IMAGE,
            query=TEXT,
            k={"type": "integer", "minimum": 1, "maximum": 100},
        ),
        _spec("generate", "Make a new picture from words.", "prompt", prompt=TEXT),
        _spec(
            "edit",
            "Change the content of an image as told in words: restyle it, swap the season or "
            "weather, turn one thing into another.",
            "instruction image",
            instruction=TEXT,
            image=IMAGE,
        ),
        _spec(
            "inpaint",
            "Repaint only a masked area of an image so that it shows what the prompt says.",
            "image mask prompt",
            image=IMAGE,
            mask=MASK,
            prompt=TEXT,
        ),
        _spec(
            "describe_regions",
            "Describe each part of an image separately: one sentence a region, with its box.",
            "image",
            image=IMAGE,
        ),
    ]
    installed = [load_skill(name).spec for name in INSTALLED]
    return {spec.name: spec for spec in [*installed, *others]}
