"""The chat page: conversations in a browser, with drawing, examples, branches and history."""

from __future__ import annotations

from .build import build_page
from .mount import mount_page

__all__ = ["build_page", "mount_page"]
