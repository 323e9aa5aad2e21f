"""The skill that looks things up outside the conversation."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from . import wording
from .backed import BackedSkill
from .backends import Searcher, Snippet
from .skill import SkillOutput

__all__ = ["FoundKnowledge", "Knowledge"]

_USUAL = 3
"""Passages that are brought when nobody says how many."""


class FoundKnowledge(SkillOutput):
    """Passages that were found, the most fitting first."""

    query: str
    found: tuple[Snippet, ...]

    def summary(self) -> str:
        """How many there are."""
        return f"Found {wording.counted(len(self.found), 'passage')} on {self.query!r}."

    def text(self) -> str:
        """How many there are, what each one says, and on which site."""
        lines = [
            f"{number}. {': '.join(filter(None, [found.title, found.text]))}{_site(found.link)}"
            for number, found in enumerate(self.found, 1)
        ]
        return "\n".join([self.summary(), *lines])


class Knowledge(BackedSkill[Searcher]):
    """Searches the endpoint that the settings name; without one, nothing is ever sent."""

    name = "knowledge"
    description = "Search for facts that are neither in the image nor in the conversation."

    def run(
        self,
        query: Annotated[
            str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)
        ],
        k: Annotated[int, Field(ge=1, le=10)] | None = None,
    ) -> FoundKnowledge:
        """Search for up to `k` passages. Raises `SkillFailed` when the endpoint does not help."""
        return FoundKnowledge(query=query, found=tuple(self.backend.search(query, k or _USUAL)))


def _site(link: str) -> str:
    host = urlsplit(link).hostname
    return f" ({host})" if host else ""
