"""The gate before a run: every record is rendered and masked before the first step.

Records that nothing can be learned from are counted and named by their reason, never dropped in
silence. What was found is kept in the run's folder, for as long as the records, their images, the
processor and the settings stay the same.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ...skills.errors import BadConfiguration, BadInput
from ...skills.wording import shorten
from .record_files import RecordFiles
from .rows import Measure, RowMaker, Unusable, UnusableRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.table import Table

__all__ = ["Gate", "check_records"]

_AT_ONCE = 32
"""Records that a process checks between two messages to the first one."""

_FORM = "1"
"""Another one when rows come to be made otherwise, so that no earlier gate is believed."""

_EXAMPLES = 3
"""Refused records that are named for each reason."""

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Gate:
    """What came of the records: arrays with one entry a usable one, and counts of those refused.

    `numbers` are the records' numbers, from 0 and ascending; `lengths` and `learned` count the
    tokens of their rows. `cut` counts the rows that lack replies of their record, `refused` the
    unusable records by reason, and `examples` names a few for each.
    """

    numbers: NDArray[np.int64]
    lengths: NDArray[np.int64]
    learned: NDArray[np.int64]
    cut: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many records are usable."""
        return len(self.numbers)

    def figures(self) -> dict[str, Any]:
        """The counts as one object."""
        return {
            "records": len(self) + sum(self.refused.values()),
            "usable": len(self),
            "cut": self.cut,
            "tokens": int(self.lengths.sum()),
            "learned": int(self.learned.sum()),
            "longest": int(self.lengths.max(initial=0)),
            "refused": self.refused,
        }

    def summary(self) -> str:
        """How many records can be learned from, and why the others cannot."""
        figures = self.figures()
        text = f"{figures['usable']:,} of {figures['records']:,} records can be learned from"
        reasons = [
            f"{count:,} {reason} ({', '.join(self.examples[reason])})"
            for reason, count in self.refused.items()
        ]
        return "; ".join([text, *reasons])

    def table(self) -> Table:
        """The counts for a person to read."""
        from rich.table import Table
        from rich.text import Text

        table = Table()
        table.add_column("")
        table.add_column("records", justify="right")
        table.add_column("such as")
        figures = self.figures()
        tokens = f"{figures['learned']:,} of {figures['tokens']:,} tokens are learned"
        table.add_row("usable", f"{len(self):,}", tokens)
        table.add_row("cut to the longest row", f"{self.cut:,}", "")
        for reason, count in self.refused.items():
            table.add_row(
                f"refused: {reason}", f"{count:,}", Text("\n".join(self.examples[reason]))
            )
        return table


def check_records(
    files: RecordFiles,
    maker: RowMaker,
    folder: Path,
    *,
    refuse: Literal["records", "run"] = "records",
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Gate:
    """Render and mask every record, and open its images, in this process or in `workers` others.

    `folder` gets `gate.json` and `gate.npy`, which a second call with the same records, images,
    processor and settings reads instead, and `refused.jsonl`, where each refused record stands with
    its `number`, `place`, `id`, `reason` and `message`. An image is the same as long as its file's
    size and time of change are. `progress` hears how many records of how many are checked.

    Raises `BadConfiguration` when no record is usable, and with `refuse="run"` when a single one
    is not.
    """
    key = _key(files, maker)
    gate = _read(folder, key)
    if gate is None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gate.json").unlink(missing_ok=True)
        gate = _check(files, maker, folder / "refused.jsonl", workers, progress)
        _write(gate, folder, key)
    if not len(gate) or (gate.refused and refuse == "run"):
        raise BadConfiguration(f"{gate.summary()}; each is named in {folder / 'refused.jsonl'}")
    return gate


class _Refused(NamedTuple):
    """A record that cannot be learned from, as it stands in the file of those."""

    number: int
    place: str
    id: str
    reason: str
    message: str


_Verdict = Measure | _Refused


class _Checks(Dataset[_Verdict]):
    """What comes of each record, by number."""

    def __init__(self, files: RecordFiles, maker: RowMaker) -> None:
        self._files = files
        self._maker = maker

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> _Verdict:
        file, line = self._files.find(number)
        id = ""
        try:
            record = file[line]
            id = record.id
            return self._maker.measure(record, file.folder)
        except UnusableRow as problem:
            reason, message = problem.reason, str(problem)
        except BadInput as problem:
            reason, message = Unusable.NOT_A_RECORD, str(problem)
        return _Refused(number, file.place(line), id, reason.value, message)


def _check(
    files: RecordFiles,
    maker: RowMaker,
    path: Path,
    workers: int,
    progress: Callable[[int, int], None],
) -> Gate:
    numbers, lengths, learned = array("q"), array("q"), array("q")
    cut = 0
    reasons: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    with path.open("w", encoding="utf-8") as refused:
        for number, found in enumerate(_found(files, maker, workers)):
            if isinstance(found, Measure):
                numbers.append(number)
                lengths.append(found.length)
                learned.append(found.learned)
                cut += found.is_cut
            else:
                refused.write(json.dumps(found._asdict()) + "\n")
                reasons[found.reason] += 1
                named = examples.setdefault(found.reason, [])
                if len(named) < _EXAMPLES:
                    named.append(_name(found))
            progress(number + 1, len(files))
    return Gate(
        np.asarray(numbers),
        np.asarray(lengths),
        np.asarray(learned),
        cut,
        dict(reasons.most_common()),
        examples,
    )


def _found(files: RecordFiles, maker: RowMaker, workers: int) -> Iterator[_Verdict]:
    """What came of every record, in their order."""
    loader: DataLoader[_Verdict] = DataLoader(
        _Checks(files, maker),
        batch_size=_AT_ONCE,
        collate_fn=_as_list,
        num_workers=workers,
        # Its own, so that a run draws the same numbers whether its gate was kept or not.
        generator=torch.Generator(),
    )
    for some in loader:
        yield from some


def _as_list(items: list[_Verdict]) -> list[_Verdict]:
    return items


def _name(refused: _Refused) -> str:
    """The record's place and id; an id is somebody's text, and goes to a terminal."""
    named = shorten(f"{refused.place} {refused.id}".rstrip(), _LONGEST_NAME)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in named)


def _key(files: RecordFiles, maker: RowMaker) -> str:
    folders = [str(file.folder.resolve()) for file in files.files]
    parts = [_FORM, files.content_hash, maker.fingerprint, _image_states(files), *folders]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _image_states(files: RecordFiles) -> str:
    """A hash of the size and the last change of all image files; none of them is opened."""
    digest = hashlib.sha256()
    for number in range(len(files)):
        file, line = files.find(number)
        for name in file.image_names(line):
            digest.update(f"{_state(file.folder / name)}\n".encode())
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):  # there is none, or its name can be none
        return None
    return status.st_size, status.st_mtime_ns


def _read(folder: Path, key: str) -> Gate | None:
    """What an earlier check of the same records has left, or None."""
    try:
        noted = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
        if noted.pop("key") != key:
            return None
        with (folder / "gate.npy").open("rb") as file:
            return Gate(*np.load(file), **noted)
    except (OSError, EOFError, ValueError, KeyError):
        return None  # it is not there, or a crash left it half written


def _write(gate: Gate, folder: Path, key: str) -> None:
    np.save(folder / "gate.npy", np.stack([gate.numbers, gate.lengths, gate.learned]))
    noted = {"key": key, "cut": gate.cut, "refused": gate.refused, "examples": gate.examples}
    # Last, and at once: where it stands, all of it does.
    part = folder / "gate.json.part"
    part.write_text(json.dumps(noted, indent=1), encoding="utf-8")
    part.replace(folder / "gate.json")
