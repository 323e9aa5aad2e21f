"""What a trainer learns from: finished conversations with their images, in groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..conversation import Conversation
from ..extensions import create_extension

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["GROUP", "DataSource", "Example", "Look", "ShowsLooks", "TeachesSkills", "load_source"]

GROUP = "llava_plus.data_sources"


@dataclass(frozen=True)
class Example:
    """A finished conversation and the images that its handles stand for."""

    conversation: Conversation
    images: Mapping[str, Image]


@dataclass(frozen=True)
class Look:
    """An image, and for questions of one word (`colour`) the answers in one word (`red`)."""

    image: Image
    answers: Mapping[str, str]


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


@runtime_checkable
class ShowsLooks(Protocol):
    """A data source that a vision tower can learn to see from, before anything else."""

    def looks(self, count: int, stream: str) -> list[Look]:
        """Images of one stream of random numbers, always the same, with what they show."""
        ...


@runtime_checkable
class TeachesSkills(Protocol):
    """A data source that has skills of which a model reads often enough to know them."""

    @property
    def skills(self) -> Sequence[str]:
        """Their names; the model keeps them as `config.familiar_skills`."""
        ...


def load_source(name: str, options: Mapping[str, Any], seed: int) -> DataSource:
    """Create a data source by its entry-point name. Raises `BadConfiguration`."""
    source: DataSource = create_extension(GROUP, "data source", name, options, seed)
    return source
