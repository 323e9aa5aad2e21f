"""Bytes by their SHA-256, on a disk or in any storage that fsspec knows."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from fsspec.core import url_to_fs

from ...skills.errors import BadConfiguration
from .values import StoreUnavailable

__all__ = ["Artifacts"]


class Artifacts:
    """Bytes under `url`, a folder or an fsspec URL such as `s3://bucket/folder`.

    The bytes of hash `abcd...` are `ab/cd/abcd...`. They come under that name when they are
    whole. All methods raise `StoreUnavailable`; a URL that cannot be used is `BadConfiguration`.
    """

    def __init__(self, url: str) -> None:
        try:
            # Other gateways write here too: nothing that was listed before can be trusted.
            self._files, self._root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise BadConfiguration(
                f"{url!r} is no place for artifacts ({error}): give a folder, or a URL of fsspec "
                "whose package is installed"
            ) from error

    async def get(self, sha256: str) -> bytes:
        """The bytes, which are held against their hash."""
        return await asyncio.to_thread(self._get, sha256)

    def put(self, sha256: str, data: bytes) -> None:
        """Keep `data`, unless it is kept already."""
        path = self._path(sha256)
        with _failing(path):
            if self._has(path, len(data)):
                return
            part = f"{path}.{uuid.uuid4().hex}.part"
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                self._files.pipe_file(part, data)
                self._files.mv(part, path)
            finally:
                if self._files.exists(part):
                    self._files.rm_file(part)

    def _get(self, sha256: str) -> bytes:
        path = self._path(sha256)
        with _failing(path):
            data = self._files.cat_file(path)
        assert isinstance(data, bytes)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreUnavailable(
                f"the artifact {path} is damaged, its bytes have another hash than its name: "
                "bring it back from a backup"
            )
        return data

    def remove(self, sha256: str) -> None:
        """Delete the bytes, if they are there."""
        path = self._path(sha256)
        with _failing(path):
            if self._files.exists(path):
                self._files.rm_file(path)

    def _has(self, path: str, size: int) -> bool:
        """Whether all bytes are there: a machine that lost its power may have kept fewer."""
        return bool(self._files.exists(path) and self._files.size(path) == size)

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256[2:4]}/{sha256}"


@contextmanager
def _failing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StoreUnavailable(
            f"the artifact {path} cannot be read or written ({type(error).__name__}: {reason}): "
            "see that its place is there, may be written to and has room"
        ) from error
