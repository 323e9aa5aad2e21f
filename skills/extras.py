"""What the optional extras of the package install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BadConfiguration

__all__ = ["needing"]


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Around imports for `what`: raises `BadConfiguration` where the packages are missing."""
    try:
        yield
    except ImportError as error:
        raise BadConfiguration(
            f"{what} needs the packages of llava-plus[{extra}]: {error}"
        ) from error
