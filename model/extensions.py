"""What other packages add by entry points for training to use, created by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from ..skills.errors import BadConfiguration

__all__ = ["create_extension"]


def create_extension(
    group: str, what: str, name: str, options: Mapping[str, Any], seed: int
) -> Any:
    """Create what the entry point `name` of `group` makes of a seed and options.

    Raises `BadConfiguration` when none of that name is installed, or an option does not fit.
    """
    found = {entry.name: entry for entry in entry_points(group=group)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise BadConfiguration(f"no {what} {name!r} is installed; installed: {known}")
    try:
        return found[name].load()(seed=seed, **options)
    except TypeError as error:
        raise BadConfiguration(f"{what} {name!r}: {error}") from error
