"""Reading text with EasyOCR, which knows over eighty languages and uses a GPU if there is one."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..extras import needing
from ..folders import cache_folder
from ..geometry import Corners
from ..weights import file_hash
from . import Licence, Packages, TextLine

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EasyOCRReader"]

_EXTRA = "easyocr"
_FINDER = "craft"


@dataclass(config=ConfigDict(extra="forbid"))
class EasyOCRReader:
    """A `TextReader`; `network` reads the letters of `languages`, for example `latin_g2` of `de`.

    `min_score` is below which a line counts as misread and is left out.
    """

    languages: tuple[str, ...] = ("en",)
    network: str = "english_g2"
    folder: Path | None = None
    min_score: float = Field(default=0.2, ge=0, le=1)
    _reader: Any = field(default=None, init=False, repr=False)

    licence: ClassVar[Licence] = Licence("Apache-2.0", "Apache-2.0")
    packages: ClassVar[Packages] = Packages(_EXTRA, ("torch", "torchvision", "easyocr"))

    @property
    def weights(self) -> _Networks:
        """The network that finds text and the one that reads it."""
        return _Networks(self.network, self.languages, self._folder)

    @property
    def _folder(self) -> Path:
        return self.folder or cache_folder() / "weights" / "easyocr"

    def load(self, device: str) -> None:
        """Load both networks, fetched first where they are not here. Raises `BadConfiguration`."""
        self._reader = self.weights.open(device)

    def read(self, image: Image) -> list[TextLine]:
        """Every line of text; boxes are fractions of `image`."""
        import numpy as np

        blue_first = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        lines = []
        for corners, text, score in self._reader.readtext(blue_first):
            across, down = zip(*corners, strict=True)
            left, top, right, bottom = min(across), min(down), max(across), max(down)
            box = Corners.from_pixels(left, top, right, bottom, image.width, image.height)
            if text.strip() and score >= self.min_score and box.area > 0:
                lines.append(TextLine(text=text, box=box, score=round(float(score), 3)))
        return lines


@plain_dataclass(frozen=True)
class _Networks:
    """The two files of weights, which EasyOCR itself fetches and checks by their MD5."""

    name: str
    languages: tuple[str, ...]
    folder: Path

    def is_present(self) -> bool:
        """Whether both are here; asks no server."""
        return all((self.folder / file["filename"]).is_file() for file in self._files)

    @property
    def _files(self) -> list[dict[str, str]]:
        settings = _settings()
        known = {
            name: file
            for by in settings["recognition_models"].values()
            for name, file in by.items()
        }
        if self.name not in known:
            raise BadConfiguration(
                f"EasyOCR has no network {self.name!r}, only {', '.join(sorted(known))}"
            )
        return [settings["detection_models"][_FINDER], known[self.name]]

    def open(self, device: str) -> Any:
        """EasyOCR with both. Raises `BadConfiguration`."""
        with needing(_EXTRA, f"the network {self.name!r}"):
            import easyocr
        self._check()
        try:
            return easyocr.Reader(
                list(self.languages),
                gpu=device,
                model_storage_directory=str(self.folder),
                user_network_directory=str(self.folder),
                detect_network=_FINDER,
                recog_network=self.name,
                verbose=False,
            )
        except (OSError, ValueError, AssertionError, RuntimeError) as error:
            raise BadConfiguration(f"EasyOCR cannot open {self.name!r}: {error}") from error

    def _check(self) -> None:
        """Raise `BadConfiguration` for a damaged file, over which EasyOCR itself stumbles."""
        for file in self._files:
            path = self.folder / file["filename"]
            if path.is_file() and file_hash(path, "md5") != file["md5sum"]:
                raise BadConfiguration(f"{path} is damaged: delete it, so that it is fetched again")

    def download(self) -> _Fetched:
        """What there is to fetch. Raises `BadConfiguration` when EasyOCR does not know it."""
        missing = [f for f in self._files if not (self.folder / f["filename"]).is_file()]
        return _Fetched(self, tuple(file["url"] for file in missing))


@plain_dataclass(frozen=True)
class _Fetched:
    """Archives that EasyOCR fetches."""

    networks: _Networks
    files: Sequence[str]

    @cached_property
    def bytes(self) -> int:
        """How many bytes the archives have together. Raises `BadConfiguration`."""
        try:
            answers = [httpx.head(url, follow_redirects=True) for url in self.files]
            return sum(int(a.raise_for_status().headers["content-length"]) for a in answers)
        except (httpx.HTTPError, KeyError) as error:
            name = self.networks.name
            raise BadConfiguration(f"the weights {name!r} cannot be fetched: {error}") from error

    def fetch(self, checking: Callable[[str], None] = lambda name: None) -> None:
        """Let EasyOCR fetch and check them. Raises `BadConfiguration`."""
        if self.files:
            checking(self.networks.name)
            self.networks.open("cpu")


def _settings() -> dict[str, Any]:
    """EasyOCR's settings, without the package around them, which imports torch."""
    if loaded := sys.modules.get("easyocr.config"):
        return vars(loaded)
    package = importlib.util.find_spec("easyocr")
    if package is None or package.origin is None:
        raise BadConfiguration(f"easyocr is missing: pip install llava-plus[{_EXTRA}]")
    return runpy.run_path(str(Path(package.origin).with_name("config.py")))
