"""What the optional extras of the package install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

from .errors import BadConfiguration

__all__ = ["Packages", "needing"]


class Packages(NamedTuple):
    """The extra of llava-plus that installs what something runs on, and what it then imports."""

    extra: str
    modules: tuple[str, ...]

    def lacks(self) -> str:
        """Which modules are missing and how they are installed; empty when all are here."""
        missing = [module for module in self.modules if find_spec(module) is None]
        told = f"{', '.join(missing)} is missing: pip install llava-plus[{self.extra}]"
        return told if missing else ""


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Around imports for `what`: raises `BadConfiguration` where the packages are missing."""
    try:
        yield
    except ImportError as error:
        raise BadConfiguration(
            f"{what} needs the packages of llava-plus[{extra}]: {error}"
        ) from error
