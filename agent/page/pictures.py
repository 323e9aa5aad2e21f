"""Pictures as files that the page shows: smaller than life, with what was marked or found."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.processing_utils import hash_bytes, hash_file
from gradio.utils import get_upload_folder

from ...model.conversation import Marks
from ...skills.calls import Artifact, SkillResult
from ...skills.geometry import Mask
from ...skills.images import ImageRef, read_image, shrunk
from ..chats import Chats
from ..drawing import annotate
from ..sheets import before_after, contact_sheet
from ..store.values import StoreUnavailable

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["CANVAS_SIDE", "Pictures"]

log = logging.getLogger(__name__)

CANVAS_SIDE = 1024
"""Pixels of the longer side of a picture that is drawn on."""

_SIDE = 1400
_MOST_FILES = 2000


@dataclass(frozen=True)
class _Picture:
    """The file of a picture, if it shows anything, and the images that it is drawn from."""

    path: Path | None
    images: frozenset[str]


class Pictures:
    """Writes each picture once, into `folder`, which goes when this object goes.

    Every method that takes an `owner` raises `NotKept` for images that are not that owner's.
    """

    def __init__(self, chats: Chats) -> None:
        self._chats = chats
        self.folder = Path(tempfile.mkdtemp(prefix="llava-plus-page-"))
        self._files: dict[str, _Picture] = {}
        chats.before_deleting(self.forget)
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    async def plain(self, owner: str, ref: ImageRef, *, side: int = _SIDE) -> Path:
        """An image as it is."""
        name = f"{ref.sha256}-{side}"
        path = await self._file(owner, name, [ref], lambda only: shrunk(only, side))
        assert path is not None, "an image is always shown"
        return path

    async def marked(
        self, owner: str, ref: ImageRef, marks: Marks, masks: tuple[Mask, ...]
    ) -> Path | None:
        """An image with what the person marked in it."""
        places: list[dict[str, Any]] = [{"box": box} for box in marks.boxes]
        places += [{"point": point} for point in marks.points]
        for number, place in enumerate(places, 1):
            place["label"] = f"mark {number}" if len(places) > 1 else "marked"
        areas = tuple(Artifact(label="marked", mask=mask) for mask in masks)
        shown = SkillResult(id="", name="", data={"marked": places}, artifacts=areas)
        return await self.found(owner, ref, shown)

    async def found(self, owner: str, ref: ImageRef, result: SkillResult) -> Path | None:
        """An image with what a skill found in it, or None when that has no place."""
        return await self._file(
            owner, _name("found", result, ref), [ref], lambda image: annotate(image, result)
        )

    async def sheet(self, owner: str, result: SkillResult, handles: tuple[str, ...]) -> Path | None:
        """The several images that one call made on one sheet; None when there are not several."""
        refs = [artifact.image for artifact in result.artifacts if artifact.image]
        if len(refs) < 2:
            return None
        names = handles or ("",) * len(refs)
        return await self._file(
            owner,
            _name(f"sheet {names}", result, *refs),
            refs,
            lambda *made: contact_sheet(list(zip(names, made, strict=True)), result),
        )

    async def change(
        self, owner: str, before: ImageRef, result: SkillResult
    ) -> tuple[Path, Path] | None:
        """An image and what a call made of it, or None when the new one is no change of it."""
        refs = [artifact.image for artifact in result.artifacts if artifact.image]
        if len(refs) != 1:
            return None
        pair = await self._file(
            owner,
            _name("change", result, before, *refs),
            [before, *refs],
            lambda old, new: before_after([("", old)], [("", new)], result),
        )
        if pair is None:
            return None
        return await self.plain(owner, before), await self.plain(owner, refs[0])

    async def _file(
        self,
        owner: str,
        name: str,
        refs: list[ImageRef],
        draw: Callable[..., Image | None],
    ) -> Path | None:
        """The file of that name, drawn from the images when it is not there yet."""
        if name in self._files:
            self._files[name] = picture = self._files.pop(name)
            return picture.path
        loaded = [(await self._chats.image(owner, ref.sha256))[1] for ref in refs]
        path = await asyncio.to_thread(self._write, name, loaded, draw)
        self._files[name] = _Picture(path, frozenset(ref.sha256 for ref in refs))
        if len(self._files) > _MOST_FILES:
            oldest = self._files.pop(next(iter(self._files))).path
            if oldest:
                oldest.unlink(missing_ok=True)
        return path

    async def forget(self, owner: str, refs: Iterable[ImageRef]) -> None:
        """Delete what is drawn from these images, and what gradio keeps of both.

        Called while the images can still be read, since gradio files by contents. One that is
        lost already stops nothing; gradio deletes its copies when they are old.
        """
        images = {ref.sha256 for ref in refs}
        uploads = {name for one in images if (name := await self._upload(owner, one))}
        names = [name for name, picture in self._files.items() if picture.images & images]
        paths = [self._files.pop(name).path for name in names]
        await asyncio.to_thread(self._delete, [path for path in paths if path], uploads)

    async def _upload(self, owner: str, sha256: str) -> str | None:
        """The folder in which gradio keeps uploads of an image, None for a lost image."""
        try:
            _, data = await self._chats.image(owner, sha256)
        except StoreUnavailable as error:
            log.warning("copies of an image on the page stay until they are old: %s", error)
            return None
        name: str = hash_bytes(data)
        return name

    def _delete(self, paths: list[Path], uploads: set[str]) -> None:
        samples = {hash_file(path) for path in self.folder.glob("*.png")}  # everybody's
        copies = {hash_file(path) for path in paths if path.exists()}
        for name in (uploads | copies) - samples:
            shutil.rmtree(Path(get_upload_folder(), name), ignore_errors=True)
        for path in paths:
            path.unlink(missing_ok=True)

    def _write(
        self, name: str, loaded: list[bytes], draw: Callable[..., Image | None]
    ) -> Path | None:
        drawn = draw(*(read_image(data)[1] for data in loaded))
        if drawn is None:
            return None
        path = self.folder / f"{name}.jpg"
        shrunk(drawn.convert("RGB"), _SIDE).save(path, quality=92)
        return path


def _name(kind: str, result: SkillResult, *refs: ImageRef) -> str:
    """A name for a picture by all that it is drawn from."""
    told = result.model_dump_json(include={"data", "artifacts"})
    drawn_from = "\n".join([kind, told, *(ref.sha256 for ref in refs)])
    return hashlib.sha256(drawn_from.encode()).hexdigest()
