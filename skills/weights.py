"""Weights of backends: whether they are on this machine, and fetching them ahead.

A backend names its weights as a repository of the Hugging Face hub or as a local folder in the
same layout. What is fetched lies in the hub's own cache, where every library looks for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .errors import BadConfiguration

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

__all__ = [
    "Download",
    "Downloads",
    "Fetchable",
    "Fetching",
    "HasWeights",
    "WeightSet",
    "Weights",
    "file_hash",
    "missing_parts",
]

_SETTINGS = (".json", ".txt", ".model", ".jinja", ".yaml")
_NUMBERS = (".safetensors", ".bin")


class Fetchable(Protocol):
    """Weights, wherever they come from."""

    @property
    def name(self) -> str:
        """What the settings call them."""

    def is_present(self) -> bool:
        """Whether everything that loading needs is here; asks no server."""

    def download(self) -> Fetching:
        """What there is to fetch. Raises `BadConfiguration` when it cannot be had."""


class Fetching(Protocol):
    """What is fetched for some weights."""

    @property
    def files(self) -> Sequence[object]:
        """The files; none when nothing has to be fetched."""

    @property
    def bytes(self) -> int:
        """How many bytes the files have together."""

    def fetch(self, checking: Callable[[str], None] = lambda name: None) -> None:
        """Fetch them. Raises `BadConfiguration` when that fails or they are not as told."""


@runtime_checkable
class HasWeights(Protocol):
    """A backend that loads weights which do not come with its package."""

    @property
    def weights(self) -> Fetchable:
        """What it loads."""


@dataclass(frozen=True)
class Weights:
    """A repository of the hub, or a folder with the same files, named by `name`."""

    name: str

    def is_present(self) -> bool:
        """Whether everything that loading needs is here; asks no server."""
        if Path(self.name).is_dir():
            return _is_whole(Path(self.name))
        try:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
        except ImportError:
            return False
        try:
            told = ["config.json", "model_index.json"]
            here = snapshot_download(self.name, local_files_only=True, allow_patterns=told)
            return _is_whole(Path(here))
        except (LocalEntryNotFoundError, HFValidationError):
            return False

    def download(self) -> Download:
        """What there is to fetch. Raises `BadConfiguration` when the hub does not know it."""
        if Path(self.name).is_dir():
            return Download(self.name, files=())
        from huggingface_hub import HfApi

        try:
            info = HfApi().model_info(self.name, files_metadata=True)
        except _failures() as error:
            raise BadConfiguration(
                f"the weights {self.name!r} cannot be fetched: {error}"
            ) from error
        wanted = set(_wanted(file.rfilename for file in info.siblings or ()))
        files = tuple(file for file in info.siblings or () if file.rfilename in wanted)
        return Download(self.name, files)


@dataclass(frozen=True)
class Download:
    """The files of a repository that loading needs."""

    name: str
    files: tuple[RepoSibling, ...]

    @cached_property
    def bytes(self) -> int:
        """How many bytes the files have together, those included that are here already."""
        return sum(file.size or 0 for file in self.files)

    def fetch(self, checking: Callable[[str], None] = lambda name: None) -> None:
        """Fetch what is not here yet, and check it by the hashes that the hub gives.

        A bar shows the progress. `checking` hears of every file that is checked. Raises
        `BadConfiguration` when a file cannot be fetched or has other bytes than it should.
        """
        if not self.files:
            return
        from huggingface_hub import snapshot_download

        names = [file.rfilename for file in self.files]
        try:
            folder = snapshot_download(self.name, allow_patterns=names)
        except _failures() as error:
            raise BadConfiguration(
                f"the weights {self.name!r} cannot be fetched: {error}"
            ) from error
        for file in self.files:
            if file.lfs is not None:
                checking(file.rfilename)
                path = Path(folder) / file.rfilename
                if (found := file_hash(path, "sha256")) != file.lfs.sha256:
                    for copy in (path.resolve(), path):  # in the cache the one links to the other
                        copy.unlink(missing_ok=True)
                    raise BadConfiguration(
                        f"{file.rfilename} of {self.name!r} came with the hash {found}, not "
                        f"{file.lfs.sha256}; it is deleted: fetch it again"
                    )


@dataclass(frozen=True)
class WeightSet:
    """Weights of several models that a backend needs all of."""

    parts: tuple[Fetchable, ...]

    @property
    def name(self) -> str:
        """What the settings call them, one after another."""
        return ", ".join(part.name for part in self.parts)

    def is_present(self) -> bool:
        """Whether everything that loading needs is here; asks no server."""
        return not missing_parts(self)

    def download(self) -> Downloads:
        """What there is to fetch. Raises `BadConfiguration` when a part cannot be had."""
        return Downloads(tuple(part.download() for part in self.parts))


@dataclass(frozen=True)
class Downloads:
    """The files of several models."""

    parts: tuple[Fetching, ...]

    @property
    def files(self) -> Sequence[object]:
        """The files of all parts."""
        return [file for part in self.parts for file in part.files]

    @property
    def bytes(self) -> int:
        """How many bytes the files have together."""
        return sum(part.bytes for part in self.parts)

    def fetch(self, checking: Callable[[str], None] = lambda name: None) -> None:
        """Fetch one part after another. Raises `BadConfiguration` as each of them would."""
        for part in self.parts:
            part.fetch(checking)


def missing_parts(weights: Fetchable) -> list[Fetchable]:
    """The weights if they are not here; of a set, the parts that are not."""
    parts = weights.parts if isinstance(weights, WeightSet) else (weights,)
    return [part for part in parts if not part.is_present()]


def _failures() -> tuple[type[Exception], ...]:
    """What the hub's client raises: its own errors, and bare ones of its HTTP library."""
    from huggingface_hub.errors import HfHubHTTPError

    (http_error, *_) = HfHubHTTPError.__bases__
    return (http_error, OSError, ValueError)


def _wanted(files: Iterable[str]) -> list[str]:
    """The files that loading needs: settings and one copy of the numbers, safetensors if any.

    Left out are numbers for other frameworks, in other precisions (`model.fp16.safetensors`), and
    whole pipelines in one file (`v1-5-pruned.ckpt`), which have no folder of their own.
    """
    paths = [PurePosixPath(file) for file in files]
    pipeline = PurePosixPath("model_index.json") in paths
    chosen = [path for path in paths if path.suffix in _SETTINGS]
    numbers = [
        path
        for path in paths
        if path.suffix in _NUMBERS
        and path.name.count(".") == 1
        and not (pipeline and path.parent == PurePosixPath("."))
    ]
    safe = {path.parent for path in numbers if path.suffix == ".safetensors"}
    chosen += [path for path in numbers if path.suffix == ".safetensors" or path.parent not in safe]
    return [str(path) for path in chosen]


def _is_whole(folder: Path) -> bool:
    """Whether a folder has all parts of the model, or of the pipeline, that it says it holds."""
    index = folder / "model_index.json"
    if not index.is_file():
        return (folder / "config.json").is_file() and _has_numbers(folder)
    parts = json.loads(index.read_text(encoding="utf-8"))
    named = {
        name
        for name, kind in parts.items()
        if not name.startswith("_") and isinstance(kind, list) and kind[0]
    }
    return all(
        (folder / name).is_dir()
        and (not (folder / name / "config.json").is_file() or _has_numbers(folder / name))
        for name in named
    )


def _has_numbers(folder: Path) -> bool:
    for index in folder.glob("*.index.json"):
        shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        if shards and all((folder / shard).is_file() for shard in shards.values()):
            return True
    whole = [path for kind in _NUMBERS for path in folder.glob(f"*{kind}")]
    return any(path.is_file() and "-of-" not in path.name for path in whole)


def file_hash(path: Path, kind: str) -> str:
    """The hash of a file, `sha256` or `md5`, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
