"""The data source that the embedded model learns from: the request bank, recombined without end."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from ..model.conversation import Conversation
from ..model.training.examples import Example, Look
from ..skills.images import ImageRef
from .bank import Bank
from .catalogue import catalogue
from .scenes import Scene, render_scene
from .trajectories import Composer

__all__ = ["EmbeddedSource"]


class EmbeddedSource:
    """Groups of composed trajectories; group `i` depends on the seed and `i` alone."""

    def __init__(
        self,
        *,
        seed: int = 0,
        group_size: int = 8,
        scenes: int = 2000,
        corpus_groups: int = 1500,
    ) -> None:
        self._seed = seed
        self._corpus_groups = corpus_groups
        self._group_size = group_size
        rng = random.Random(f"{seed} scenes")
        self._scenes: dict[str, Scene] = {}
        refs = []
        for number in range(scenes):
            digest = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
            scene = self._scenes[digest] = render_scene(rng)
            refs.append(
                ImageRef(
                    sha256=digest,
                    media_type="image/png",
                    width=scene.image.width,
                    height=scene.image.height,
                )
            )
        self._composer = Composer(Bank(), self._scenes, refs)

    @property
    def skills(self) -> list[str]:
        """The catalogue skills, which are in most conversations."""
        return list(catalogue())

    def corpus(self) -> Iterator[str]:
        """Composed conversations as plain text, and every word of the bank."""
        for index in range(self._corpus_groups):
            for conversation in self._conversations(f"corpus {index}"):
                yield from _texts(conversation)
        yield from (f" {one} {many}" for one, many in self._composer.bank.nouns)

    def group(self, index: int) -> list[Example]:
        """The examples of one group."""
        return self._examples(f"train {index}")

    def held_out(self, count: int) -> list[list[Example]]:
        """Groups from another stream of random numbers (known requests, new combinations)."""
        return [self._examples(f"validate {index}") for index in range(count)]

    def looks(self, count: int, stream: str) -> list[Look]:
        """Rendered scenes, with the word that tells each thing about them."""
        rng = random.Random(f"{self._seed} {stream}")
        scenes = [render_scene(rng) for _ in range(count)]
        return [Look(scene.image, scene.words) for scene in scenes]

    def _examples(self, stream: str) -> list[Example]:
        return [
            Example(
                conversation,
                {
                    handle: self._scenes[ref.sha256].image
                    for handle, ref in conversation.images.items()
                },
            )
            for conversation in self._conversations(stream)
        ]

    def _conversations(self, stream: str) -> list[Conversation]:
        rng = random.Random(f"{self._seed} {stream}")
        return self._composer.group(rng, self._group_size)


def _texts(conversation: Conversation) -> Iterator[str]:
    for message in conversation.messages:
        yield f" {message.text}"
        for use in getattr(message, "skill_uses", ()):
            yield str(use.tool_call()["function"]["arguments"]).replace('"', '" ')
            yield f'{{"name": " {use.name}", "arguments": {{"'
    for spec in conversation.skills[:2]:
        yield f" {spec.name} ( {' '.join(spec.parameters['properties'])} ): {spec.description}"
