"""From records that are ready to be learned from to the inputs of a model, without padding.

Several conversations stand behind each other in one row, each at the positions that it would
have on its own; those that open with the same tokens (their catalogue of skills) share them, so
that they are computed once. `packed_attention` lets a conversation look at itself alone, and the
loss is that of the conversations one by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from ...skills.errors import BadConfiguration, BadInput
from .row_plan import RowPlan
from .rows import join_features

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .rows import Row

__all__ = ["PackedRows", "RowPacker"]

_LEAST_SHARED = 32
"""A shorter opening is not worth a group of its own."""


class RowPacker:
    """Lays out rows as keyword arguments of one model's `forward`."""

    def __init__(self, model: PreTrainedModel) -> None:
        wanted = inspect.signature(model.forward).parameters
        names = ("mm_token_type_ids", "token_type_ids")
        self._types = next((name for name in names if name in wanted), None)
        # Models with positions of several axes (time, height, width) say how they are counted.
        self._axes = getattr(model.base_model, "get_rope_index", None)

    def separate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The inputs for one record on its own, with the positions that the model gives it.

        Raises `BadConfiguration` for a record with a blank row beside it.
        """
        if len(rows) > 1:
            raise BadConfiguration(
                f"record {rows[0].id!r} has no image: where a model is sharded and its records "
                "cannot share a row, each of them needs one"
            )
        (row,) = rows
        return self._inputs([_Group(0, [row])])

    def reference(self, row: Row) -> dict[str, Any]:
        """The same as transformers itself would have it: logits and labels for every token."""
        inputs = self.separate([row])
        for name in ("shift_labels", "logits_to_keep"):
            del inputs[name]
        labels = [
            token if learned else -100 for token, learned in zip(row.ids, row.learned, strict=True)
        ]
        return {**inputs, "labels": torch.tensor([labels])}

    def pack(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The inputs for several records as one row; they want `packed_attention`."""
        groups = _grouped(rows)
        positions = [
            self._positions(row)[..., group.shared * (number > 0) :]
            for group in groups
            for number, row in enumerate(group.rows)
        ]
        return {
            **self._inputs(groups),
            "position_ids": torch.cat(positions, dim=-1),
            "layout": [group.layout for group in groups],
            # transformers would build a causal mask; any mask of four axes is left as it is.
            "attention_mask": torch.ones(1, 1, 1, 1),
        }

    def _inputs(self, groups: Sequence[_Group]) -> dict[str, Any]:
        """Tokens, images, and the targets at the places where something is learned."""
        ids = _joined(groups, lambda row: row.ids)
        targets = _joined(groups, _targets)
        learned = targets != -100
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "labels": targets,
            "shift_labels": targets[learned],
            "logits_to_keep": learned,
            "use_cache": False,
            **join_features(row.features for group in groups for row in group.rows),
        }
        if self._types:
            inputs[self._types] = _joined(groups, _types)
        return inputs

    def _positions(self, row: Row) -> torch.Tensor:
        """(1, tokens), or (4, 1, tokens) with the plain count on the first axis."""
        count = torch.arange(len(row))[None]
        if self._axes is None:
            return count
        axes, _ = self._axes(
            torch.tensor([row.ids]),
            mm_token_type_ids=torch.tensor([_types(row)]),
            image_grid_thw=row.features.get("image_grid_thw"),
        )
        return torch.cat([count[None], axes])


class PackedRows(Dataset[dict[str, Any]]):
    """Rows in the order of `groups`, which has the records of each; made when they are asked for.

    `row` gives a record by its number, `layout` is a method of `RowPacker`. A `blank` row goes with
    every group in which there is no image.
    """

    def __init__(
        self,
        groups: RowPlan | Sequence[list[int]],
        row: Callable[[int], Row],
        layout: Callable[[Sequence[Row]], dict[str, Any]],
        blank: Row | None = None,
    ) -> None:
        self._groups = groups
        self._row = row
        self._layout = layout
        self._blank = blank

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> dict[str, Any]:
        rows = [self._row(record) for record in self._groups[number]]
        if self._blank and not any(row.images for row in rows):
            rows.append(self._blank)
        return self._layout(rows)


@dataclass(frozen=True)
class _Group:
    """Records whose first `shared` tokens are the same ones, computed once."""

    shared: int
    rows: list[Row]

    @property
    def layout(self) -> list[int]:
        return [self.shared, *(len(row) - self.shared for row in self.rows)]


def _grouped(rows: Sequence[Row]) -> list[_Group]:
    """The rows in an order in which those with a common opening are neighbours."""
    groups: list[_Group] = []
    for row in sorted(rows, key=lambda one: one.ids):
        if groups:
            last = groups[-1]
            whole = last.shared if len(last.rows) > 1 else len(last.rows[0])
            common = min(_common(last.rows[0], row), whole)
            saved = last.shared * (len(last.rows) - 1)
            if common >= _LEAST_SHARED and common * len(last.rows) >= saved:
                groups[-1] = _Group(common, [*last.rows, row])
                continue
        groups.append(_Group(0, [row]))
    return groups


def _common(one: Row, other: Row) -> int:
    """How many tokens open both: none of them learned, nor just before one; none of an image."""
    limit = min(_opening(one), _opening(other))
    pairs = zip(one.ids[:limit], other.ids[:limit], strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), limit)


def _opening(row: Row) -> int:
    stops = [place.start for place in row.images]
    if True in row.learned:
        stops.append(row.learned.index(True) - 1)
    if not stops:
        raise BadInput(f"record {row.id!r} has no token to learn")
    return max(0, min(stops))


def _targets(row: Row) -> list[int]:
    following = zip(row.ids[1:], row.learned[1:], strict=True)
    return [*(token if learned else -100 for token, learned in following), -100]


def _types(row: Row) -> list[int]:
    return row.token_types or [0] * len(row)


def _joined(groups: Sequence[_Group], of: Callable[[Row], list[int]]) -> torch.Tensor:
    values = (
        of(row)[group.shared * (number > 0) :]
        for group in groups
        for number, row in enumerate(group.rows)
    )
    return torch.tensor([list(chain.from_iterable(values))])
