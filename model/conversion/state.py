"""Named tensors that are read one at a time, whatever files they lie in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ...skills.errors import BadConfiguration

__all__ = ["LazyTensor", "State", "has_weights", "named", "open_file", "open_weights"]

_WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What whole weights are called, in one file or, with an index, in shards; the first is taken."""

_BROKEN = (UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, struct.error)
"""What PyTorch raises for files that hold code, or were cut short."""

_OF_OLD = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""With this begins a file in the form of PyTorch before 1.6: a pickled number."""


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of known shape; each time it is read, a new one is the reader's own."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


State = dict[str, LazyTensor]
"""The weights of a model, none of them in memory."""


def has_weights(folder: Path) -> bool:
    """Whether a folder holds whole weights, sharded or not."""
    return any(
        (folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in _WHOLE
    )


def open_weights(folder: Path) -> State:
    """The whole weights in a folder, sharded or not.

    Raises `BadConfiguration` naming what is missing, broken, or outside the folder.
    """
    for name in _WHOLE:
        if (index := folder / f"{name}.index.json").is_file():
            return _open_shards(index)
        if (folder / name).is_file():
            return open_file(folder / name)
    raise BadConfiguration(f"{folder} has no weights: neither {' nor '.join(_WHOLE)}, nor an index")


def open_file(path: Path) -> State:
    """The tensors of one safetensors or PyTorch file; of the latter only plain data is read.

    Raises `BadConfiguration` when it is missing or broken, or holds anything but tensors.
    """
    if not path.is_file():
        raise BadConfiguration(f"there is no file {path}")
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickled(path)


def _open_shards(index: Path) -> State:
    listed = _weight_map(index)
    state: State = {}
    for shard in sorted(set(listed.values())):
        # A plain name, so that an index cannot point out of its folder.
        if Path(shard).name != shard:
            raise BadConfiguration(f"{index} names the file {shard!r}, which is outside its folder")
        state |= open_file(index.parent / shard)
    if lost := sorted(set(listed) - set(state)):
        raise BadConfiguration(f"{index} lists tensors that no shard holds: {named(lost)}")
    return state


def _weight_map(index: Path) -> dict[str, str]:
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not all(isinstance(shard, str) for shard in listed.values()):
            raise TypeError("its weight_map names files that are no texts")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadConfiguration(f"{index} is no index of weights: {error!r}") from error
    return dict(listed)


def _open_safetensors(path: Path) -> State:
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise BadConfiguration(f"{path} cannot be read: {error}") from error

    def lazy(name: str) -> LazyTensor:
        shape = tuple(file.get_slice(name).get_shape())
        # What it gives is the mapped file itself: a change would be seen by the next reader.
        return LazyTensor(shape, lambda: file.get_tensor(name).clone())

    return {name: lazy(name) for name in file.keys()}  # noqa: SIM118  (a file is no mapping)


def _open_pickled(path: Path) -> State:
    try:
        # Mapped, not read: what is used is paged in and can be dropped again.
        mapped = not _is_of_old(path)
        stored = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except _BROKEN as error:
        raise BadConfiguration(
            f"{path} cannot be read as weights alone: {str(error).partition(chr(10))[0]}"
        ) from error
    tensors = stored.items() if isinstance(stored, dict) else [("the whole file", stored)]
    if strange := [str(name) for name, value in tensors if not isinstance(value, torch.Tensor)]:
        raise BadConfiguration(f"{path} holds more than tensors: {named(strange)}")

    def lazy(value: torch.Tensor) -> LazyTensor:
        return LazyTensor(tuple(value.shape), value.clone)

    return {str(name): lazy(value) for name, value in tensors}


def _is_of_old(path: Path) -> bool:
    """Whether a file is in the form before PyTorch 1.6, which cannot be mapped."""
    with path.open("rb") as file:
        return file.read(len(_OF_OLD)) == _OF_OLD


def named(names: Iterable[str], most: int = 8) -> str:
    """Names for a message, the first of them where there are many."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
