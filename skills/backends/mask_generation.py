"""Automatic mask generation (Kirillov et al. 2023, appendix B): points on a grid, and filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.floating]

__all__ = ["MaskGeneration", "not_suppressed", "point_grid"]


@dataclass(config=ConfigDict(extra="forbid"))
class MaskGeneration:
    """How `everything` is outlined; names and defaults are those of the makers' library.

    Each of `points_per_side` squared points gives proposals. One stays when the model expects it
    to overlap with the true outline by more than `pred_iou_thresh`, when it hardly changes with
    the cut-off that makes a mask of it (`stability_score_thresh`), and when its box overlaps with
    that of no better one by more than `box_nms_thresh`; all three are intersections over unions.
    """

    points_per_side: int = Field(default=32, ge=1, le=128)
    pred_iou_thresh: float = Field(default=0.88, ge=0, le=1)
    stability_score_thresh: float = Field(default=0.95, ge=0, le=1)
    box_nms_thresh: float = Field(default=0.7, ge=0, le=1)


def point_grid(points_per_side: int) -> Numbers:
    """The centres of equal cells, row by row: (points, 2), x and y as fractions of the image."""
    import numpy as np

    centres = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def not_suppressed(boxes: Numbers, scores: Numbers, most: float) -> list[int]:
    """Which boxes stay when each removes those that overlap with it by more, and score less.

    This is greedy non-maximum suppression. `boxes` is (boxes, 4): left, top, right, bottom; the
    indices that are returned start at the highest score.
    """
    import numpy as np

    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        order = order[shared <= most * (areas[best] + areas[order] - shared)]
    return kept
