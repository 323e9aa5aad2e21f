"""The shortlist: which of the skills on offer are nearest in meaning to a request.

A small language model has read few words; a sentence encoder has read a billion sentences. So
the encoder ranks the skills by their specs, and the model reads its first choices beside the
request, as advice that it may follow or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ..skills.calls import SkillSpec
from ..skills.skill import HANDLE_PATTERNS
from .sentences import SentenceEncoder

if TYPE_CHECKING:
    import torch

__all__ = ["FOLDER", "Likely", "Shortlist", "request_text", "skill_text"]

FOLDER = Path(__file__).parent / "shortlist_encoder"


@dataclass(frozen=True)
class Likely:
    """A skill on the shortlist, and how near it is: the cosine of the two texts in tenths."""

    name: str
    tenths: int


class Shortlist:
    """Ranks skills for a request with a sentence encoder, by default the one that ships."""

    def __init__(self, encoder: SentenceEncoder | None = None, *, size: int = 3) -> None:
        self.encoder = encoder or SentenceEncoder(str(FOLDER))
        self._size = size

    def nearness(
        self, request: str, skills: Sequence[SkillSpec], *, image: bool = False
    ) -> dict[str, float]:
        """The cosine of the request, with or without an image, and every skill, by name."""
        if not skills or not request.strip():
            return {}
        texts = [_texts(spec) for spec in skills]
        asked = request_text(request, image=image)
        vectors = iter(self.encoder.encode([asked, *chain.from_iterable(texts)]))
        wish = next(vectors)
        middles = [_middle(*(next(vectors) for _ in part)) for part in texts]
        near = (float(middle @ wish) for middle in middles)
        return dict(zip((spec.name for spec in skills), near, strict=True))

    def __call__(
        self, request: str, skills: Sequence[SkillSpec], *, image: bool = False
    ) -> list[Likely]:
        """The likeliest of `skills`, the nearest first."""
        near = self.nearness(request, skills, image=image)
        likely = nlargest(self._size, near, key=near.__getitem__)
        return [Likely(name, max(0, round(near[name] * 10))) for name in likely]


def _texts(spec: SkillSpec) -> list[str]:
    """What the encoder reads of a skill, and its examples."""
    schemas = spec.parameters.get("properties", {}).values()
    image = any(schema.get("pattern") == HANDLE_PATTERNS["image"] for schema in schemas)
    return [skill_text(spec), *(request_text(one, image=image) for one in spec.examples)]


def _middle(described: torch.Tensor, *examples: torch.Tensor) -> torch.Tensor:
    """The vector of a skill's text, moved towards the middle of its examples."""
    if not examples:
        return described
    moved = described + sum(examples) / len(examples)
    unit: torch.Tensor = moved / moved.norm()
    return unit


def request_text(request: str, *, image: bool) -> str:
    """What the encoder reads of a request: which skills can be meant depends on an image too."""
    return f"image: {request}" if image else request


def skill_text(spec: SkillSpec) -> str:
    """What the encoder reads of a skill: name, description, arguments and their choices."""
    text = f"{spec.name.replace('_', ' ')}: {spec.description}"
    arguments = [
        " ".join([name.replace("_", " "), *map(str, schema.get("enum", ()))])
        for name, schema in spec.parameters.get("properties", {}).items()
    ]
    return f"{text.rstrip('.')} ({', '.join(arguments)})" if arguments else text
