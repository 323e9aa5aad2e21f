"""The labels of the data sets that panoptic models are trained on: which name stuff, not things.

Stuff has no instances: there are two dogs in an image, but one sky, in however many parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["plain_label", "stuff_among"]

_COCO = """
banner, blanket, bridge, building-other-merged, cabinet-merged, cardboard, ceiling-merged, counter,
curtain, dirt-merged, door-stuff, fence-merged, floor-other-merged, floor-wood, flower,
food-other-merged, fruit, grass-merged, gravel, house, light, mirror-stuff, mountain-merged, net,
paper-merged, pavement-merged, pillow, platform, playingfield, railroad, river, road, rock-merged,
roof, rug-merged, sand, sea, shelf, sky-other-merged, snow, stairs, table-merged, tent, towel,
tree-merged, wall-brick, wall-other-merged, wall-stone, wall-tile, wall-wood, water-other,
window-blind, window-other
"""
_ADE20K = """
bar, base, blanket, blind, bridge, buffet, building, canopy, ceiling, conveyer belt, cradle,
crt screen, dirt track, earth, escalator, falls, field, floor, grandstand, grass, hill, house,
hovel, lake, land, mountain, path, pier, plant, pool, poster, river, road, rock, rug, runway, sand,
sea, shower, sidewalk, sky, skyscraper, stage, stairway, swimming pool, tank, tent, tower, tree,
wall, water, waterfall
"""
_CITYSCAPES = """
building, fence, pole, road, sidewalk, sky, terrain, traffic light, traffic sign, vegetation, wall
"""
_DATA_SETS = [
    frozenset(" ".join(names.split()).split(", ")) for names in (_COCO, _ADE20K, _CITYSCAPES)
]


def stuff_among(labels: Iterable[str]) -> frozenset[str]:
    """The labels of a model that name stuff, by the data set that shares most of its stuff.

    COCO panoptic, ADE20K and Cityscapes are known; they disagree on some (pillows, curtains).
    """
    names = {label: _first_name(label) for label in labels}
    known = set(names.values())
    data_set = max(_DATA_SETS, key=lambda stuff: len(stuff & known))
    return frozenset(label for label, name in names.items() if name in data_set)


def plain_label(label: str) -> str:
    """A label as people say it: `sky` for `sky-other-merged`, `brick wall` for `wall-brick`."""
    name = re.sub(r"-(?:stuff|(?:other-)?merged|other)$", "", _first_name(label))
    return re.sub(r"^(floor|wall)-(\w+)$", r"\2 \1", name)


def _first_name(label: str) -> str:
    """The first of a label's names: ADE20K lists several (`road, route`)."""
    return " ".join(label.split(",")[0].split())
