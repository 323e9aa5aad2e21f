"""Importing Gradio without the type stubs that it keeps beside its own source."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["without_stubs"]


@contextmanager
def without_stubs() -> Iterator[None]:
    """Let what is imported within define Gradio's components as if they had no source file.

    On every import Gradio parses the source of each component, and renders a stub to compare with
    the one that is there: 3 of the 7 seconds that the import takes. It passes over what has no
    file.
    """
    find = inspect.getfile

    def getfile(object: Any) -> str:
        if isinstance(object, type) and object.__module__.startswith("gradio."):
            raise OSError(f"{object} is imported without a stub")
        return find(object)

    inspect.getfile = getfile
    try:
        yield
    finally:
        inspect.getfile = find
