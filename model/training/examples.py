"""What a trainer learns from: finished conversations with their images, in groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from ...skills.errors import BadConfiguration
from ..conversation import Conversation

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["GROUP", "DataSource", "Example", "load_source"]

GROUP = "llava_plus.data_sources"


@dataclass(frozen=True)
class Example:
    """A finished conversation and the images that its handles stand for."""

    conversation: Conversation
    images: Mapping[str, Image]


class DataSource(Protocol):
    """Gives training examples by number, so that a run can stop and go on anywhere."""

    def corpus(self) -> Iterator[str]:
        """Texts that a tokenizer made from scratch learns from."""
        ...

    def group(self, index: int) -> list[Example]:
        """The examples of group `index`, always the same; those of a group share their skills."""
        ...

    def held_out(self, count: int) -> list[list[Example]]:
        """Groups that training never sees, to measure the loss on."""
        ...


def load_source(name: str, options: Mapping[str, Any], seed: int) -> DataSource:
    """Create a data source by its entry-point name. Raises `BadConfiguration`."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise BadConfiguration(f"no data source {name!r} is installed; installed: {known}")
    try:
        source: DataSource = found[name].load()(seed=seed, **options)
    except TypeError as error:
        raise BadConfiguration(f"data source {name!r}: {error}") from error
    return source
