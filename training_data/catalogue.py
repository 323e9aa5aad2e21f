"""The specs of the eleven catalogue skills."""

from __future__ import annotations

from functools import cache

from ..skills.calls import SkillSpec
from ..skills.discovery import load_skill

__all__ = ["EMBEDDED", "catalogue"]

EMBEDDED = ("ocr", "detect", "segment", "adjust")
"""The skills that need no weights."""

_OTHERS = "caption tag retrieve generate edit inpaint describe_regions".split()


@cache
def catalogue() -> dict[str, SkillSpec]:
    """Every catalogue skill's spec by name."""
    return {name: load_skill(name).spec for name in (*EMBEDDED, *_OTHERS)}
