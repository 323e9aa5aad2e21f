"""Which records are learned from at which step, and which of them share a row."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from ...skills.errors import BadConfiguration

__all__ = ["RowPlan", "consecutive_rows"]


class RowPlan:
    """The rows of every step of a run: a function of lengths, seed and step alone.

    `lengths` are tokens by record. The records come in a new order each epoch, and every step
    takes the next `records_per_step` of them, so none is left out or repeated within an epoch. A
    step's records are spread over `rows_per_step` rows, about equally long and none longer than
    `tokens_per_row`; that number is the same for all steps and divides by `processes`. Without
    `tokens_per_row` every record is a row. Raises `BadConfiguration` for what cannot be planned.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        records_per_step: int,
        steps: int,
        tokens_per_row: int | None,
        seed: int = 0,
        processes: int = 1,
    ) -> None:
        if records_per_step % processes:
            raise BadConfiguration(
                f"records_per_step: {records_per_step} records cannot be shared by "
                f"{processes} processes; choose a multiple of {processes}"
            )
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if not len(self.lengths):
            raise BadConfiguration("there is no record to learn from")
        longest = int(self.lengths.max())
        if tokens_per_row is not None and longest > tokens_per_row:
            raise BadConfiguration(
                f"tokens_per_row: a record has {longest} tokens and a row only {tokens_per_row}"
            )
        self.steps = steps
        self._records_per_step = records_per_step
        self._seed = seed
        self._orders: dict[int, np.ndarray] = {}
        self.rows_per_step = records_per_step
        if tokens_per_row is not None:
            self.rows_per_step = self._fewest_rows(tokens_per_row, processes)

    def __len__(self) -> int:
        return self.steps * self.rows_per_step

    def __getitem__(self, number: int) -> list[int]:
        """The records of a row; rows are counted through the whole run."""
        step, place = divmod(number, self.rows_per_step)
        return self.rows(step)[place]

    def rows(self, step: int) -> list[list[int]]:
        """The records of every row of a step."""
        return self._spread(self.records(step), self.rows_per_step)

    def records(self, step: int) -> list[int]:
        """The records of a step, in the order of their epoch."""
        numbers = range(step * self._records_per_step, (step + 1) * self._records_per_step)
        places = (divmod(number, len(self.lengths)) for number in numbers)
        return [int(self._order(epoch)[place]) for epoch, place in places]

    def tokens(self, step: int) -> int:
        """How many tokens the records of a step have."""
        return int(self.lengths[self.records(step)].sum())

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A step touches two epochs at most, unless an epoch is shorter than a step.
            while len(self._orders) > 4:
                self._orders.pop(min(self._orders))
            drawn = np.random.default_rng([self._seed, epoch])
            self._orders[epoch] = drawn.permutation(len(self.lengths))
        return self._orders[epoch]

    def _fewest_rows(self, budget: int, processes: int) -> int:
        rows = processes
        for step in range(self.steps):
            records = self.records(step)
            needed = -(-int(self.lengths[records].sum()) // budget)
            rows = max(rows, -(-needed // processes) * processes)
            while max(self.lengths[row].sum() for row in self._spread(records, rows)) > budget:
                rows += processes
        return rows

    def _spread(self, records: list[int], rows: int) -> list[list[int]]:
        """The longest record first, each to the row that is shortest so far (Graham 1969)."""
        shortest: list[tuple[int, int]] = [(0, row) for row in range(rows)]
        spread: list[list[int]] = [[] for _ in range(rows)]
        for record in sorted(records, key=lambda one: (-self.lengths[one], one)):
            tokens, row = heapq.heappop(shortest)
            spread[row].append(record)
            heapq.heappush(shortest, (tokens + int(self.lengths[record]), row))
        return spread


def consecutive_rows(lengths: Sequence[int], tokens_per_row: int | None) -> list[list[int]]:
    """All records in their order, as many to a row as it has room for; else each its own row."""
    rows: list[list[int]] = []
    filled = 0
    for record, length in enumerate(lengths):
        if not rows or tokens_per_row is None or filled + length > tokens_per_row:
            rows.append([])
            filled = 0
        rows[-1].append(record)
        filled += length
    return rows
