"""Keywords for an image by comparing it with the words of a vocabulary, none of them trained for.

The vocabulary ships as `tags.txt`; a model that puts images and words into one space (SigLIP,
CLIP) says which of them fit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..folders import cache_folder
from . import Tag
from .embedding import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["VOCABULARY", "ZeroShotTagger", "read_vocabulary"]

VOCABULARY = Path(__file__).with_name("tags.txt")


@dataclass(config=ConfigDict(extra="forbid"))
class ZeroShotTagger(Embedder):
    """Up to `most` tags with a score of `threshold` or more.

    SigLIP's score of a tag is the chance that it fits, whatever else does; CLIP's is its share
    among all tags. `llava-plus skills calibrate` finds the `threshold` for a person's own pictures.
    `vocabulary` is a text file with a tag a line, where `#` begins a comment. Up to `batch` images
    are looked at together.
    """

    model: str = "google/siglip-base-patch16-224"
    vocabulary: Path = VOCABULARY
    most: int = Field(default=10, ge=1, le=100)
    threshold: float = Field(default=0.02, ge=0, le=1)
    batch: int = Field(default=8, ge=1, le=256)
    _names: Any = field(default=None, init=False, repr=False)
    _vectors: Any = field(default=None, init=False, repr=False)

    def load(self, device: str) -> None:
        """Load the model and turn the vocabulary into vectors. Raises `BadConfiguration`."""
        self._names = read_vocabulary(self.vocabulary)
        super().load(device)
        self._vectors = self._vectors_of([f"a photo of {name}" for name in self._names])

    def _vectors_of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts, which take minutes to compute and so are kept on disk."""
        import numpy as np

        told = "\n".join([self.fingerprint, self.dtype, *texts])
        kept = cache_folder() / "tags" / f"{hashlib.sha256(told.encode()).hexdigest()}.npy"
        if kept.is_file():
            with suppress(ValueError, EOFError):  # cut short or no array: it is made again
                return np.load(kept, allow_pickle=False)  # type: ignore[no-any-return]
        vectors: NDArray[np.float32] = self.texts(texts)
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(fresh, vectors)
        fresh.replace(kept)
        return vectors

    def tags(self, image: Image) -> Sequence[Tag]:
        """The tags that fit, the surest first."""
        return self.tags_of([image])[0]

    def tags_of(self, images: Sequence[Image]) -> list[list[Tag]]:
        """The tags that fit each image."""
        return [
            [
                Tag(name=self.names[index], score=round(float(row[index]), 4))
                for index in self.best(row)
                if row[index] >= self.threshold
            ]
            for row in self.scores_of(images)
        ]

    def scores_of(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The scores of all tags of the vocabulary for each image, (images, tags)."""
        import numpy as np

        odds = self.odds(self.images(images) @ self._vectors.T)
        if self.scores_each:
            return (1 / (1 + np.exp(-odds))).astype(np.float32, copy=False)
        shares = np.exp(odds - odds.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def best(self, scores: NDArray[np.float32]) -> NDArray[np.intp]:
        """Which tags of one image are told at most, the surest first."""
        import numpy as np

        return np.argsort(-scores, kind="stable")[: self.most]

    @property
    def names(self) -> Sequence[str]:
        """The tags of the vocabulary, in the order of their scores."""
        return self._names  # type: ignore[no-any-return]


def read_vocabulary(path: Path) -> list[str]:
    """The tags of a text file, each once. Raises `BadConfiguration`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"the vocabulary {path} cannot be read: {error}") from error
    tags = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tags:
        raise BadConfiguration(f"the vocabulary {path} holds no tag")
    return list(dict.fromkeys(tags))
