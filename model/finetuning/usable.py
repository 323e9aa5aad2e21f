"""The records of a fine-tuning run: checked by the gate, and made into rows when they are due."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...skills.errors import BadConfiguration
from .mask_gate import Gate, check_records
from .record_files import RecordFiles
from .rows import Row, RowMaker

if TYPE_CHECKING:
    from .recipe import FineTune

__all__ = ["Usable", "hold_out", "open_records"]


@dataclass(frozen=True)
class Usable:
    """The records that can be learned from, counted from 0, and their lengths in tokens."""

    files: RecordFiles
    maker: RowMaker
    numbers: Sequence[int]
    lengths: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def row(self, place: int) -> Row:
        """A record, ready to be learned from. Raises `BadInput` when it is not any more."""
        file, number = self.files.find(self.numbers[place])
        return self.maker.row(file[number], file.folder)

    def rows_with_images(self) -> Iterator[Row]:
        """The rows in which an image is shown, one after the other; other records stay unread."""
        for place, record in enumerate(self.numbers):
            file, number = self.files.find(record)
            if file.image_names(number) and (row := self.row(place)).images:
                yield row

    def only(self, places: Sequence[int]) -> Usable:
        """Those at some places."""
        numbers, lengths = (
            [kept[place] for place in places] for kept in (self.numbers, self.lengths)
        )
        return Usable(self.files, self.maker, numbers, lengths)


def open_records(
    paths: Sequence[Path],
    recipe: FineTune,
    maker: RowMaker,
    folder: Path,
    *,
    progress: Callable[[int, int], None],
    told: Callable[[Gate], None],
) -> Usable:
    """Read files of records and put every one through the gate, whose findings `folder` keeps.

    Raises `BadInput` and `BadConfiguration` for files that cannot be learned from.
    """
    if not paths:
        raise BadConfiguration(
            f"recipe {recipe.name} names no records: write `records: [FILE, ...]` in a copy of it, "
            "or give --records FILE"
        )
    files = RecordFiles(paths)
    gate = check_records(
        files, maker, folder, refuse=recipe.refuse, workers=recipe.workers, progress=progress
    )
    told(gate)
    return Usable(files, maker, gate.numbers.tolist(), gate.lengths.tolist())


def hold_out(records: Usable, share: float, seed: int) -> tuple[Usable, Usable]:
    """The records to learn from, and a share of them, drawn by `seed`, to be measured on."""
    count = max(1, round(share * len(records)))
    if count >= len(records):
        raise BadConfiguration(
            f"validation: {share} of {len(records)} records leaves none to learn from"
        )
    drawn = np.random.default_rng([seed, 2**32]).permutation(len(records)).tolist()
    return records.only(sorted(drawn[count:])), records.only(sorted(drawn[:count]))
