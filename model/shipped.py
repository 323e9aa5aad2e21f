"""Where a model's weights lie by its name, and which skills it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

from ..skills.errors import BadConfiguration

__all__ = ["EMBEDDED", "embedded_folder", "familiar_skills", "weights_of"]

EMBEDDED = "embedded"
"""The name of the LMM that ships with the package."""


def embedded_folder() -> Path:
    """Where the LMM that ships with the package lies."""
    return Path(__file__).parent / "embedded"


def weights_of(name: str) -> str:
    """What transformers loads for a model's name: a folder, or a repository of the hub."""
    return str(embedded_folder()) if name == EMBEDDED else name


def familiar_skills(name: str) -> frozenset[str]:
    """The skills that a model was trained on, where it lies in a folder that tells.

    Raises `BadConfiguration` when its configuration cannot be read.
    """
    path = Path(weights_of(name), "config.json")
    if not path.is_file():
        return frozenset()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"{path} cannot be read: {error}") from error
    return frozenset(config.get("familiar_skills", ()))
