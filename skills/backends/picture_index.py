"""A collection of pictures that can be searched: their vectors, in a folder of its own.

The folder holds `about.json`, and the two files of one generation that it names: the vectors
(usearch, HNSW; Malkov and Yashunin 2016) and the list of pictures, one JSON object a line. A new
generation is written beside the old one before `about.json` is replaced, so a kill loses nothing
that was saved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration, BadInput
from ..extras import needing
from ..folders import data_folder
from ..images import read_image
from ..weights import Weights
from . import Licence, Packages, Retrieved
from .embedding import Embedder

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MODEL", "Picture", "PictureIndex", "PictureSearch", "default_folder"]

MODEL = "openai/clip-vit-base-patch32"
_AT_ONCE = 64
_SAVED_EVERY = 60.0
"""Seconds of work that a kill may cost; saving writes the whole index."""
_SIDE = 512
"""Pictures are embedded at this many pixels at most, twice what the models look at."""


def default_folder() -> Path:
    """Where an index lies when nobody says where."""
    return data_folder() / "pictures"


class Picture(BaseModel):
    """A file of the collection; `size` and `changed` tell whether it is still the same.

    Others are told its `name`, which is its path from the folder that was indexed.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    size: int
    changed: int
    caption: str = ""
    name: str = ""

    @classmethod
    def at(cls, path: Path, folder: Path, caption: str = "") -> Picture:
        """The file as it is now, with its name in `folder`. Raises `OSError`."""
        state = path.stat()
        inside = path.is_relative_to(folder)
        return cls(
            path=path,
            size=state.st_size,
            changed=state.st_mtime_ns,
            caption=caption,
            name=path.relative_to(folder).as_posix() if inside else path.name,
        )

    def is_still(self, other: Picture) -> bool:
        """Whether the two are one file that has not changed, whatever they are named."""
        return self.model_copy(update={"name": other.name}) == other


class _About(BaseModel):
    model: str
    width: int = 0
    generation: int = 0


class PictureIndex:
    """The pictures of a folder that was indexed, by key, and the search among their vectors.

    Raises `BadConfiguration` when the folder holds something else, or vectors of another model
    than `model`.
    """

    def __init__(self, folder: Path, model: str | None = None) -> None:
        self.folder = folder
        self.pictures: dict[int, Picture] = {}
        self._about = _About(model=model or MODEL)
        self._vectors: Any = None
        if (folder / "about.json").exists():
            self._read()
        if model not in (None, self.model):
            raise BadConfiguration(
                f"the index in {folder} was made with {self.model}, not {model}: "
                "delete that folder, or name another one with --out"
            )

    @property
    def model(self) -> str:
        """The model that made the vectors."""
        return self._about.model

    def nearest(self, vector: Any, k: int) -> list[tuple[Picture, float]]:
        """Up to `k` pictures with their cosine, the nearest first."""
        if not self.pictures:
            return []
        matches = self._vectors.search(vector, min(k, len(self.pictures)))
        return [
            (self.pictures[int(key)], 1 - float(distance))
            for key, distance in zip(matches.keys, matches.distances, strict=True)
        ]

    def update(
        self,
        pictures: Iterable[Picture],
        embedder: Embedder,
        *,
        done: Callable[[int], object] = lambda count: None,
        refused: Callable[[BadInput], object] = lambda error: None,
    ) -> tuple[int, int]:
        """Make the index hold just these pictures; how many came in, and how many went.

        One that has not changed is not embedded again. `done` hears of every few that are
        finished, `refused` of each one that cannot be read, which is left out. Raises
        `BadConfiguration` when the index cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfiguration(
                f"{self.folder} cannot be made a folder for the index: {error.strerror}"
            ) from error
        wanted = {picture.path: picture for picture in pictures}
        here = {picture.path: key for key, picture in self.pictures.items()}
        gone = []
        for path, key in here.items():
            if path in wanted and wanted[path].is_still(self.pictures[key]):
                self.pictures[key] = wanted[path]
            else:
                self._vectors.remove(key)
                del self.pictures[key]
                gone.append(key)
        kept = {picture.path for picture in self.pictures.values()}
        new = [picture for path, picture in wanted.items() if path not in kept]
        done(len(wanted) - len(new))
        added, saved = 0, time.monotonic()
        for start in range(0, len(new), _AT_ONCE):
            part = dict(_readable(new[start : start + _AT_ONCE], refused))
            if part:
                self._add(part, embedder)
            added += len(part)
            done(len(new[start : start + _AT_ONCE]))
            if time.monotonic() - saved > _SAVED_EVERY:
                self._save()
                saved = time.monotonic()
        self._save()
        return added, len(gone)

    def _add(self, pictures: Mapping[Picture, Image], embedder: Embedder) -> None:
        import numpy as np

        vectors = embedder.images(list(pictures.values()))
        if self._vectors is None:
            self._about.width = vectors.shape[1]
            self._vectors = _usearch()(ndim=vectors.shape[1], metric="cos", dtype="f32")
        first = max(self.pictures, default=-1) + 1
        keys = np.arange(first, first + len(vectors), dtype=np.uint64)
        self._vectors.add(keys, vectors)
        self.pictures |= {int(key): picture for key, picture in zip(keys, pictures, strict=True)}

    def _file(self, kind: str, generation: int) -> Path:
        return self.folder / f"{kind}-{generation}"

    def _save(self) -> None:
        before = self._about.generation
        self._about.generation += 1
        with self._file("pictures", before + 1).open("w", encoding="utf-8") as file:
            for key, picture in self.pictures.items():
                line = {"key": key, **picture.model_dump(mode="json")}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self._vectors is not None:
            self._vectors.save(str(self._file("vectors", before + 1)))
        fresh = self.folder / "about.new"
        fresh.write_text(self._about.model_dump_json(), encoding="utf-8")
        fresh.replace(self.folder / "about.json")
        for kind in ("pictures", "vectors"):
            self._file(kind, before).unlink(missing_ok=True)

    def _read(self) -> None:
        self._about = _read_about(self.folder)
        try:
            listed = self._file("pictures", self._about.generation).read_text(encoding="utf-8")
            for line in listed.splitlines():
                entry = json.loads(line)
                self.pictures[entry.pop("key")] = Picture.model_validate(entry)
        except (OSError, ValueError, KeyError) as error:
            raise BadConfiguration(
                f"{self.folder} holds no index that can be read: {error}"
            ) from error
        if self._about.width:
            file = self._file("vectors", self._about.generation)
            self._vectors = _usearch().restore(str(file))
            if self._vectors is None or len(self._vectors) != len(self.pictures):
                raise BadConfiguration(f"the index in {self.folder} is damaged; make it again")


def _read_about(folder: Path) -> _About:
    try:
        return _About.model_validate_json((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"{folder} holds no index that can be read: {error}") from error


def _usearch() -> Any:
    with needing("retrieval", "an index of pictures"):
        from usearch.index import Index
    return Index


def _read_picture(path: Path) -> Image:
    """The picture in a file, upright and in RGB. Raises `BadInput`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    return read_image(data, name=str(path))[1]


def _small(image: Image) -> Image:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    return small


def _readable(
    pictures: Sequence[Picture], refused: Callable[[BadInput], object]
) -> Iterator[tuple[Picture, Image]]:
    for picture in pictures:
        try:
            yield picture, _small(_read_picture(picture.path))
        except BadInput as error:
            refused(error)


class _Indexed(Retrieved):
    """Where its file lies is not told: that is the affair of whoever indexed it."""

    file: Path = Field(exclude=True, repr=False)


@dataclass(config=ConfigDict(extra="forbid"))
class PictureSearch:
    """A `Retriever` in the index in a folder, with the model that the index was made with."""

    index: Path = field(default_factory=default_folder)
    dtype: str = "float32"
    _opened: Any = field(default=None, init=False, repr=False)
    _embedder: Any = field(default=None, init=False, repr=False)

    licence: ClassVar[Licence] = Licence("Apache-2.0", "MIT")
    packages: ClassVar[Packages] = Packages("retrieval", ("torch", "transformers", "usearch"))

    @property
    def weights(self) -> Weights:
        """The repository or folder of the model. Raises `BadConfiguration` for a damaged index."""
        return Weights(MODEL if self.lacks() else _read_about(self.index).model)

    def lacks(self) -> str:
        """What has to be made before a search, if anything."""
        if (self.index / "about.json").exists():
            return ""
        return f"there is no index in {self.index}: llava-plus index FOLDER"

    def load(self, device: str) -> None:
        """Open the index and load its model. Raises `BadConfiguration`."""
        if lacking := self.lacks():
            raise BadConfiguration(lacking)
        self._opened = PictureIndex(self.index)
        self._embedder = Embedder(self._opened.model, self.dtype)
        self._embedder.load(device)

    def search(self, image: Image | None, query: str | None, k: int) -> Sequence[Retrieved]:
        """Up to `k` pictures like the image, like the words, or like both, the nearest first."""
        vectors = []
        if image is not None:
            vectors.append(self._embedder.images([_small(image)])[0])
        if query is not None:
            vectors.append(self._embedder.texts([query])[0])
        return [
            _Indexed(
                path=picture.name or picture.path.name,
                caption=picture.caption,
                score=round(cosine, 4),
                file=picture.path,
            )
            for picture, cosine in self._opened.nearest(sum(vectors), k)
        ]

    def open(self, found: Retrieved) -> Image:
        """A picture that was found. Raises `BadInput` when it cannot be read any more."""
        assert isinstance(found, _Indexed)  # of this search
        return _read_picture(found.file)
