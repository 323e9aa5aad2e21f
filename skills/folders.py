"""Where a user's data and what can be made again are kept (XDG base directories)."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "data_folder"]


def cache_folder() -> Path:
    """For what can be made again; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llava-plus"


def data_folder() -> Path:
    """For what a user made and would miss."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "llava-plus"
