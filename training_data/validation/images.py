"""Whether the images of a record are there, can be decoded, and are what their names say."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple

from ...skills.errors import BadInput
from ...skills.images import ImageRef, read_file, read_image
from .findings import Case, Check, Problem

__all__ = ["ImagesOpen", "Pictures"]

_REMEMBERED = 4096
"""Files whose findings are kept, since many records share an image."""

_KINDS = {"jpg": "jpeg", "jpeg": "jpeg", "jpe": "jpeg", "tif": "tiff", "tiff": "tiff"}
_KINDS |= {kind: kind for kind in ("png", "webp", "gif", "bmp")}


class _Seen(NamedTuple):
    """What an image file is, or what is wrong with it."""

    ref: ImageRef | None
    problem: Problem | None


class Pictures:
    """The image files of the records in `folder`; with `opened=False` none is ever touched."""

    def __init__(self, folder: Path, *, opened: bool = True) -> None:
        self.opened = opened
        self._folder = folder
        self._look = lru_cache(_REMEMBERED)(self._decoded)
        self._hash = lru_cache(_REMEMBERED)(self._hashed)

    def problem(self, file: str) -> Problem | None:
        """What keeps a file from being decoded."""
        return self._look(file).problem if self.opened else None

    def kind(self, file: str) -> str | None:
        """The format that a file is in: `jpeg`, `png`, ..."""
        ref = self._look(file).ref if self.opened else None
        return ref.media_type.removeprefix("image/") if ref else None

    def size(self, file: str) -> tuple[int, int] | None:
        """Width and height in pixels, where the file can be decoded."""
        ref = self._look(file).ref if self.opened else None
        return (ref.width, ref.height) if ref else None

    def content(self, file: str) -> str:
        """What tells an image from others: the hash of its bytes, or its path."""
        return self._hash(file)

    def _decoded(self, file: str) -> _Seen:
        try:
            data = self._bytes(file)
        except BadInput as error:
            return _Seen(None, Problem(Check.IMAGE_NOT_FOUND, str(error)))
        try:
            ref, _ = read_image(data, name=file)
        except BadInput as error:
            return _Seen(None, Problem(Check.IMAGE_UNREADABLE, str(error)))
        return _Seen(ref, None)

    def _hashed(self, file: str) -> str:
        try:
            if self.opened:
                return hashlib.sha256(self._bytes(file)).hexdigest()
        except BadInput:  # another check tells of it
            pass
        return os.path.normpath(self._folder.absolute() / file)

    def _bytes(self, file: str) -> bytes:
        if file.startswith("data:"):
            raise BadInput("an image stands in the record itself: `data import` makes it a file")
        try:
            return read_file(self._folder / file)
        except (OSError, ValueError) as error:  # a name too long, or with a null byte
            raise BadInput(f"{file:.80} is no name of a file: {error}") from error


class ImagesOpen:
    """Every image is there and is decoded, within the limits that hold for images of people."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def __call__(self, case: Case) -> Iterator[Problem]:
        for handle, file in case.record.images.items():
            if problem := self._pictures.problem(file):
                yield Problem(problem.check, f"{handle}: {problem.message}")
                continue
            stated = _KINDS.get(PurePath(file).suffix.removeprefix(".").lower())
            found = self._pictures.kind(file)
            if stated and found and stated != found:
                told = f"{handle}: {file} is not the {stated} of its name, but {found}"
                yield Problem(Check.IMAGE_FORMAT, told)
