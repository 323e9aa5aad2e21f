"""The sentences in which skills state their findings, shared with the training data.

A model is trained to read exactly these shapes, so nothing else writes them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from .geometry import Corners, Position

__all__ = [
    "HALF_STEP",
    "adjusted_text",
    "box_text",
    "capped",
    "counted",
    "detections_summary",
    "detections_text",
    "joined",
    "number_text",
    "ocr_summary",
    "ocr_text",
    "percent",
    "plural",
    "points_text",
    "regions_summary",
    "regions_text",
    "retrieved_text",
    "segments_text",
    "sentence",
    "shares",
    "shorten",
    "singular",
    "tags_text",
    "without",
]

MAX_OBJECTS = 12
MAX_LINES = 40
_LONGEST_REASON = 300
HALF_STEP = 0.005
"""What rounding to two places, as in `box_text`, may take from a side of a box."""


def detections_text(
    objects: Sequence[tuple[str, Corners]],
    asked: Sequence[str] = (),
    *,
    unknown: Sequence[str] = (),
    note: str = "",
) -> str:
    """What the LMM reads from `detect`: how many of what, then where each one is."""
    places = [(label, box_text(box)) for label, box in objects]
    return _listed(places, asked, unknown, note)


def points_text(
    points: Sequence[tuple[str, Position]],
    asked: Sequence[str] = (),
    *,
    unknown: Sequence[str] = (),
    note: str = "",
) -> str:
    """What the LMM reads from `point`: how many of what, then a point on each one."""
    places = [(label, json.dumps(point)) for label, point in points]
    return _listed(places, asked, unknown, note)


def _listed(
    places: Sequence[tuple[str, str]], asked: Sequence[str], unknown: Sequence[str], note: str
) -> str:
    shown = capped([f"{label} {place}" for label, place in places], MAX_OBJECTS)
    labels = [label for label, _ in places]
    return "\n".join([detections_summary(labels, asked, unknown=unknown, note=note), *shown])


def detections_summary(
    labels: Sequence[str],
    asked: Sequence[str] = (),
    *,
    unknown: Sequence[str] = (),
    note: str = "",
) -> str:
    """`Found 2 faces and no dog.`, and what was `asked` for but `unknown` to the detector."""
    counts = Counter(labels)
    looked_for = dict.fromkeys(label for label in (*asked, *labels) if label not in unknown)
    found = joined([counted(counts[label], label) for label in looked_for]) or "nothing"
    return f"Found {found}.{_limits(unknown, note)}"


def found_nothing(text: str) -> bool:
    """Whether a skill's words say that what was looked for is not there."""
    return text.startswith(("Found no ", "Found nothing"))


def _limits(unknown: Sequence[str], note: str) -> str:
    left_out = f"Not looked for (unknown to this detector): {', '.join(unknown)}."
    return "".join(f" {limit}" for limit in (left_out if unknown else "", note) if limit)


def sentence(words: str) -> str:
    """What a model wrote, as a sentence: on one line, with a capital and a full stop."""
    text = " ".join(words.split())
    if not text:
        return "There is nothing to say."
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def regions_summary(count: int) -> str:
    """How many regions `describe_regions` described."""
    if not count:
        return "Found no region to describe."
    return f"Described {counted(min(count, MAX_OBJECTS), 'region')}."


def regions_text(regions: Sequence[tuple[Corners, str]]) -> str:
    """What the LMM reads from `describe_regions`: how many, then the box and words of each."""
    summary = regions_summary(len(regions))
    if not regions:
        return summary
    lines = [f"{box_text(box)} {words}" for box, words in regions[:MAX_OBJECTS]]
    return "\n".join([summary.removesuffix(".") + ":", *lines])


def tags_text(tags: Sequence[str]) -> str:
    """What the LMM reads from `tag`: how many, and all of them."""
    return f"{counted(len(tags), 'tag')}: {', '.join(tags)}." if tags else "No tag fits."


def without(missing: Mapping[str, str]) -> list[str]:
    """A line for each part that a finding lacks, and why: `Without tag: no weights are here.`"""
    reasons = {part: shorten(reason, _LONGEST_REASON) for part, reason in missing.items()}
    return [f"Without {part}: {reason.rstrip('.')}." for part, reason in reasons.items()]


def retrieved_text(count: int) -> str:
    """What the LMM reads from `retrieve`; the pictures themselves get handles."""
    return f"Found {counted(count, 'similar pictures')}."


def box_text(box: Corners) -> str:
    """`[0.12, 0.3, 0.25, 0.51]`: two places, as JSON, and never rounded to an empty box."""
    x0, x1 = _apart(box.x0, box.x1)
    y0, y1 = _apart(box.y0, box.y1)
    return json.dumps([x0, y0, x1, y1])


def _apart(low: float, high: float) -> tuple[float, float]:
    low, high = round(float(low), 2), round(float(high), 2)
    if low < high:
        return low, high
    return (low, round(low + 0.01, 2)) if low < 1 else (0.99, 1.0)


def ocr_text(lines: Sequence[str]) -> str:
    """What the LMM reads from `ocr`: how many lines, then each of them as it stands."""
    shown = list(lines[:MAX_LINES])
    if len(lines) > MAX_LINES:
        shown.append(f"and {counted(len(lines) - MAX_LINES, 'more line')}")
    return "\n".join([ocr_summary(len(lines)) + (":" if lines else "."), *shown])


def ocr_summary(count: int) -> str:
    """`Read 3 lines` or `Found no text`, without the mark at its end."""
    return f"Read {counted(count, 'line')}" if count else "Found no text"


def segments_text(
    regions: Sequence[tuple[str, float]],
    asked: Sequence[str] = (),
    *,
    unknown: Sequence[str] = (),
    note: str = "",
) -> str:
    """What the LMM reads from `segment`: each region's label and its share of the image."""
    limits = _limits(unknown, note)
    if not regions:
        looked_for = [f"no {label}" for label in dict.fromkeys(asked) if label not in unknown]
        return f"Found {joined(looked_for) or 'nothing'} to outline.{limits}"
    parts = ", ".join(shares(regions))
    return f"Outlined {counted(len(regions), 'region')}: {parts}.{limits}"


def shares(named: Sequence[tuple[str, float]]) -> list[str]:
    """How much of the image each takes: `sky (40 % of the image)`, `dog (3 %)`."""
    of_what = [" of the image", *[""] * len(named)]
    return [
        f"{name} ({percent(share)}{of})" for (name, share), of in zip(named, of_what, strict=False)
    ]


def percent(share: float) -> str:
    """A share of the image, 0 to 1: `12 %`."""
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 else "under 1 %"


_ADJUSTED = {
    "blur": "Blurred {where}.",
    "pixelate": "Pixelated {where}.",
    "crop": "Cropped the image to {size}.",
    "rotate": "Rotated the image by {degrees}.",
    "flip": "Flipped the image upside down.",
    "mirror": "Mirrored the image left to right.",
    "grayscale": "Converted {where} to grayscale.",
    "brighten": "Brightened {where}.",
    "darken": "Darkened {where}.",
    "contrast": "Raised the contrast of {where}.",
    "saturate": "Raised the saturation of {where}.",
    "sharpen": "Sharpened {where}.",
    "highlight": "Highlighted {where}.",
    "remove": "Removed {where}.",
    "blur_background": "Blurred the background.",
    "sepia": "Converted {where} to sepia.",
    "invert": "Inverted the colors of {where}.",
}


def adjusted_text(
    operation: str,
    regions: int = 0,
    *,
    size: tuple[int, int] | None = None,
    degrees: float = 90,
) -> str:
    """What the LMM reads from `adjust`; `regions` is 0 for the whole image, `size` is for crop."""
    return _ADJUSTED[operation].format(
        where=counted(regions, "region") if regions else "the image",
        size="{} x {}".format(*size) if size else "its target",
        degrees=f"{degrees:g} {'degree' if abs(degrees) == 1 else 'degrees'}",
    )


def number_text(number: float) -> str:
    """`42`, `0.3`, `1.5e-07`: with the digits that count, so that 0.1 + 0.2 is 0.3."""
    if abs(number) < 1e21 and number == int(number):
        return str(int(number))
    return f"{number:.12g}" if abs(number) < 1e6 else f"{number:.15g}"  # with their cents


def capped(lines: Sequence[str], most: int) -> list[str]:
    """The first `most` lines, and in a further one how many are left out."""
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more]


def shorten(text: str, longest: int) -> str:
    """A text on one line, cut to `longest` letters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"


def joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def counted(count: int, noun: str) -> str:
    """`2 dogs`, `1 dog`, or `no dog` with the noun in the form that it was given in."""
    if count == 0:
        return f"no {noun}"
    return f"{count} {singular(noun) if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a thing's name; what is plural already stays as it is."""
    before, word, after = _head(noun)
    is_plural = noun.lower() in _EYEWEAR or _one(word) != word
    return noun if is_plural else before + _many(word) + after


def singular(noun: str) -> str:
    """The name of one such thing; what is singular already stays as it is."""
    before, word, after = _head(noun)
    return noun if noun.lower() in _EYEWEAR else before + _one(word) + after


_IRREGULAR = {
    "axe": "axes", "bookshelf": "bookshelves", "bus": "buses", "calf": "calves",
    "child": "children", "chili": "chilies", "die": "dice", "foot": "feet", "goose": "geese",
    "half": "halves", "headache": "headaches", "headscarf": "headscarves", "hoof": "hooves",
    "knife": "knives", "leaf": "leaves", "lens": "lenses", "life": "lives", "loaf": "loaves",
    "mouse": "mice", "moustache": "moustaches", "mustache": "mustaches", "ox": "oxen",
    "person": "people", "pickaxe": "pickaxes", "scarf": "scarves", "shelf": "shelves",
    "thief": "thieves", "tooth": "teeth", "wharf": "wharves", "wife": "wives", "wolf": "wolves",
}  # fmt: skip
_ONE = {many: one for one, many in _IRREGULAR.items()}
_SAME = {
    *("aircraft", "asparagus", "binoculars", "bison", "clothes", "deer", "elk", "eyeglasses"),
    *("goggles", "jeans", "leggings", "moose", "pajamas", "pants", "pliers", "reindeer"),
    *("salmon", "scissors", "series", "sheep", "shorts", "spacecraft", "species", "squid"),
    *("sunglasses", "tights", "tongs", "trousers", "trout", "tweezers"),
}
_EYEWEAR = ("glasses", "reading glasses", "safety glasses")
_NOT_MEN = ("human", "german", "roman", "shaman", "talisman", "caiman")
_OES = {"buffalo", "domino", "echo", "hero", "mango", "mosquito", "potato", "tomato", "volcano"}
_AS_IS = re.compile(r"(?:ss|us|is|canvas|gas|atlas|christmas|fish)$")
_NOT_AS_IS = re.compile(r"(?:bikini|bonsai|emu|kiwi|menu|safari|sari|ski|taxi|zucchini)s$")
_HEAD_END = re.compile(r" (?:at|behind|by|for|from|in|near|next|of|on|that|under|which|who|with) ")


def _head(noun: str) -> tuple[str, str, str]:
    """Split at the word that takes the plural: `wine `, `glass`, ` on the table`."""
    end = match.start() if (match := _HEAD_END.search(noun, 1)) else len(noun)
    start = noun.rfind(" ", 0, end) + 1
    return noun[:start], noun[start:end], noun[end:]


def _many(word: str) -> str:
    lower = word.lower()
    if lower in _IRREGULAR:
        return word[:1] + _IRREGULAR[lower][1:]
    if lower in _SAME or lower.endswith("fish") or not lower[-1:].isalpha():
        return word
    if lower.endswith("man") and not lower.endswith(_NOT_MEN):
        return word[:-2] + "en"
    if re.search(r"[^aeiou]y$", lower):
        return word[:-1] + "ies"
    return word + ("es" if lower in _OES or re.search(r"(?:s|x|z|ch|sh)$", lower) else "s")


def _one(word: str) -> str:
    lower = word.lower()
    if lower in _ONE:
        return word[:1] + _ONE[lower][1:]
    if lower in _SAME or lower in _IRREGULAR:
        return word
    if lower.endswith("men") and lower != "specimen":
        return word[:-2] + "an"
    if not lower.endswith("s") or (_AS_IS.search(lower) and not _NOT_AS_IS.search(lower)):
        return word
    if re.search(r"[^aeiou]ies$", lower) and len(lower) > 4 and lower[:-1] not in _IES:
        return word[:-3] + "y"
    if re.search(r"(?:ss|sh|ch|x|zz|[^o]us|ris|tis)es$", lower):
        return word[:-2]
    if lower.endswith("oes") and lower[:-2] in _OES:
        return word[:-2]
    return word[:-1]


_IES = {"beanie", "brownie", "cookie", "hoodie", "magpie", "movie", "selfie", "smoothie", "zombie"}
