"""What the workers of LLaVA-Plus answered, in the words of our skills, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...skills import wording
from ...skills.backends import Detection, Retrieved, Tag, TextLine
from ...skills.caption import Description
from ...skills.detect import FoundThings
from ...skills.detect_all import TaggedThings
from ...skills.ground_caption import GroundedCaption
from ...skills.ocr import ReadText
from ...skills.peer_wire import corners
from ...skills.retrieve import FoundPictures
from ...skills.skill import SkillOutput
from ...skills.tag import Keywords
from ...skills.wording import sentence

__all__ = ["PAYLOAD", "Finding", "as_response", "read_response", "unknown_fields"]

Values = Mapping[str, Any]

PAYLOAD = ("masks_rle", "edited_image", "image_seg", "iou_sort_masks", "size")
"""What the web page takes out of an answer before the LMM reads it."""


_GROUNDED = ("boxes", "logits", "phrases")
_FIELDS = {
    "detect": _GROUNDED,
    "segment": _GROUNDED,
    "detect_all": (*_GROUNDED, "tags"),
    "ground_caption": (*_GROUNDED, "caption"),
    "caption": ("caption",),
    "tag": ("tags",),
    "ocr": ("texts", "boxes", "scores"),
    "retrieve": ("retrieval_results",),
}
_NEIGHBOUR = {"caption", "similarity", "url"}


@dataclass(frozen=True)
class Finding:
    """What a call brought: words, the same for programs, and how many images and masks.

    `masks` are their labels. Pictures and masks themselves are not in LLaVA-Plus's data.
    """

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    masks: tuple[str, ...] = ()


_DONE = {
    "generate": "Made the picture.",
    "edit": "Edited the image.",
    "inpaint": "Repainted the masked area.",
    "restyle": "Made a new picture with the regions of the image.",
}
_SHOWN = {
    "label_regions": "Labelled the regions of the image.",
    "segment_levels": "Outlined the things at the point.",
    "segment_like": "Outlined what looks like the example.",
}
"""What was shown to the person alone: the words say no more than that it was."""


def read_response(skill: str, arguments: Values, response: Values) -> Finding:
    """An answer as what the skill would have found.

    Raises `ValueError`, `TypeError` or `KeyError` when it is not what the API answers.
    """
    if skill in _DONE:
        _check_message(response)
        return Finding(_DONE[skill], {"done": _DONE[skill]}, images=1)
    if skill in _SHOWN:
        _check_message(response)
        return Finding(_SHOWN[skill])
    if skill == "segment" and "labels" not in arguments:
        return _outlined(arguments, response)
    return _READ[skill](arguments, response)


def unknown_fields(skill: str, response: Values) -> list[str]:
    """The fields of an answer that the skill's finding does not tell of."""
    known = {"message", *_FIELDS.get(skill, ())}
    rows = response.get("retrieval_results")
    inner = {name for row in rows for name in row} if isinstance(rows, list) else set()
    return [
        *(f"result.{name}" for name in response if name not in known),
        *(f"result.retrieval_results.{name}" for name in sorted(inner - _NEIGHBOUR)),
    ]


def as_response(skill: str, api: str, data: Values) -> Values:
    """The answer of an API that says a finding of ours, as far as it has words for it.

    Raises `ValueError`, `TypeError` or `KeyError` when `data` is not what the skill finds.
    """
    match skill:
        case "detect":
            return _grounded(data["objects"])
        case "segment" if data:
            return _grounded(data["objects"])
        case "detect_all":
            return {**_grounded(data["objects"]), "tags": _joined(data["tags"])}
        case "ground_caption":
            return {**_grounded(data["objects"]), "caption": data["caption"]}
        case "caption":
            return {"caption": data["caption"]}
        case "tag":
            return {"tags": _joined(data["tags"])}
        case "ocr":
            return _columns(data["lines"], boxes="box", texts="text", scores="score")
        case "retrieve":
            found = data["found"]
            return {"retrieval_results": [_neighbour(one) for one in found]}
    return {"message": f"The {api} has processed the image."}


def _neighbour(found: Values) -> Values:
    url = {"url": found["path"]} if found["path"] else {}
    return {"caption": found["caption"], "similarity": found["score"], **url}


def _grounded(objects: Sequence[Values]) -> Values:
    return _columns(objects, boxes="box", logits="score", phrases="label")


def _columns(rows: Sequence[Values], **keys: str) -> dict[str, list[Any]]:
    """Lists that belong together; one that no row has is left out."""
    return {
        name: [row[key] for row in rows]
        for name, key in keys.items()
        if not rows or any(key in row for row in rows)
    }


def _detected(arguments: Values, response: Values) -> Finding:
    output = FoundThings(objects=_objects(response), asked=tuple(arguments["labels"]))
    return _finding(output)


def _segmented(arguments: Values, response: Values) -> Finding:
    """Grounded SAM tells boxes where our skill tells shares, which take the masks to know."""
    found = _detected(arguments, response)
    masks = tuple(thing["label"] for thing in found.data["objects"])
    return Finding(found.text, found.data, masks=masks)


def _outlined(arguments: Values, response: Values) -> Finding:
    _check_message({name: value for name, value in response.items() if name != "boxes"})
    count = len(arguments.get("boxes") or arguments.get("points") or ())
    if not count:
        return Finding("Outlined what stands out.")
    masks = tuple(f"region {number}" for number in range(1, count + 1))
    return Finding(f"Outlined {wording.counted(count, 'region')}.", masks=masks)


def _tagged_things(arguments: Values, response: Values) -> Finding:
    tags, objects = _tags(response), _objects(response)
    return _finding(TaggedThings(tags=tags, objects=objects, unknown=(), note="", missing={}))


def _grounded_caption(arguments: Values, response: Values) -> Finding:
    objects = _objects(response)
    asked = tuple(dict.fromkeys(thing.label for thing in objects))
    caption = sentence(_text(response["caption"]))
    return _finding(GroundedCaption(objects=objects, asked=asked, caption=caption, missing={}))


def _captioned(arguments: Values, response: Values) -> Finding:
    return _finding(Description(caption=sentence(_text(response["caption"]))))


def _tagged(arguments: Values, response: Values) -> Finding:
    return _finding(Keywords(tags=_tags(response)))


def _read(arguments: Values, response: Values) -> Finding:
    texts = [_text(text) for text in response["texts"]]
    if not {"boxes", "scores"} <= set(response):  # the web page took them out
        return Finding(wording.ocr_text(texts), {"lines": [{"text": text} for text in texts]})
    rows = zip(texts, response["boxes"], response["scores"], strict=True)
    lines = [TextLine(text=text, box=corners(box), score=score) for text, box, score in rows]
    return _finding(ReadText(lines=tuple(lines)))


def _retrieved(arguments: Values, response: Values) -> Finding:
    found = [
        Retrieved(
            path=one.get("url") or "", caption=one.get("caption") or "", score=one["similarity"]
        )
        for one in response["retrieval_results"]
    ]
    return _finding(FoundPictures(found=tuple(found), pictures=()))


_READ = {
    "detect": _detected,
    "segment": _segmented,
    "detect_all": _tagged_things,
    "ground_caption": _grounded_caption,
    "caption": _captioned,
    "tag": _tagged,
    "ocr": _read,
    "retrieve": _retrieved,
}


def _finding(output: SkillOutput) -> Finding:
    return Finding(output.text(), output.model_dump(mode="json"))


def _objects(response: Values) -> tuple[Detection, ...]:
    boxes = response["boxes"] or ()
    rows = zip(boxes, response["logits"], response["phrases"], strict=True)
    return tuple(
        Detection(label=_text(phrase) or "thing", box=corners(box), score=score)
        for box, score, phrase in rows
    )


def _tags(response: Values) -> tuple[Tag, ...]:
    """Keywords, to which no worker gives a score."""
    names = dict.fromkeys(name.strip() for name in _text(response["tags"]).split(","))
    return tuple(Tag(name=name, score=1) for name in names if name)


def _joined(tags: Sequence[Values]) -> str:
    return ", ".join(tag["name"] for tag in tags)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _check_message(response: Values) -> None:
    if unknown := set(response) - {"message"}:
        raise ValueError(f"it has the fields {', '.join(sorted(unknown))}")
