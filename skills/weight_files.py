"""Single files of weights from the web servers of their makers, for libraries without a hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx

from .errors import BadConfiguration
from .folders import cache_folder

__all__ = ["FileDownload", "WeightFile"]

_BLOCK = 1 << 20


@dataclass(frozen=True)
class WeightFile:
    """A file of weights: `name` is that of a file here, or of one that lies below `url`.

    `md5` is the file's hash or the first digits of it, where the maker gives it.
    """

    name: str
    url: str
    md5: str = ""

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie once it is fetched."""
        here = Path(self.name)
        return here if here.is_file() else cache_folder() / "weights" / here.name

    def is_present(self) -> bool:
        """Whether it is here; asks no server."""
        return self.path.is_file()

    def download(self) -> FileDownload:
        """What there is to fetch. Raises `BadConfiguration` when it cannot be had."""
        if self.is_present():
            return FileDownload(self, files=())
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            raise BadConfiguration(f"{self.name} is not here, and HF_HUB_OFFLINE forbids to fetch")
        if Path(self.name).name != self.name:
            raise BadConfiguration(f"there is no file {self.name}")
        return FileDownload(self, files=(self.name,))

    def fetched(self) -> Path:
        """The path of the file, which is fetched first where it is not here yet.

        Raises `BadConfiguration` when it cannot be had.
        """
        if not self.is_present():
            self.download().fetch()
        return self.path


@dataclass(frozen=True)
class FileDownload:
    """One file to fetch, or none."""

    file: WeightFile
    files: tuple[str, ...]

    @cached_property
    def bytes(self) -> int:
        """How many bytes the server says it has."""
        with _errors(self.file):
            answer = httpx.head(self._url, follow_redirects=True).raise_for_status()
        return int(answer.headers.get("content-length", 0))

    @property
    def _url(self) -> str:
        return f"{self.file.url}/{self.file.name}"

    def fetch(self, checking: Callable[[str], None] = lambda name: None) -> None:
        """Fetch the file with a bar, and check it by its hash.

        It gets its name only once it is whole. Raises `BadConfiguration` when it cannot be
        fetched or has other bytes than it should.
        """
        if not self.files:
            return
        path = self.file.path
        part = path.with_suffix(f".{os.getpid()}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = self._stream_to(part)
            if self.file.md5:
                checking(self.file.name)
            if not found.startswith(self.file.md5):
                raise BadConfiguration(
                    f"{self._url} came with the MD5 {found}, not {self.file.md5}; "
                    "it was not kept: fetch it again"
                )
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _stream_to(self, part: Path) -> str:
        """Write the file; its MD5."""
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

        digest = hashlib.md5(usedforsecurity=False)
        columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
        with (
            _errors(self.file),
            httpx.stream("GET", self._url, follow_redirects=True) as answer,
            Progress(*columns, console=Console(stderr=True)) as progress,
            part.open("wb") as file,
        ):
            size = answer.raise_for_status().headers.get("content-length")
            bar = progress.add_task(self.file.name, total=int(size) if size else None)
            for block in answer.iter_bytes(_BLOCK):
                digest.update(block)
                progress.advance(bar, file.write(block))
        return digest.hexdigest()


@contextmanager
def _errors(file: WeightFile) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, OSError) as error:
        told = str(error).partition("\n")[0]
        raise BadConfiguration(
            f"the weights {file.name!r} cannot be fetched from {file.url}: {told}"
        ) from error
