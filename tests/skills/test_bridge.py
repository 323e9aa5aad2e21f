"""Workers of LLaVA-Plus as backends: what is asked of them, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from llava_plus.skills import Mask, Skill
from llava_plus.skills.backends import BACKENDS, ade20k
from llava_plus.skills.caption import Caption
from llava_plus.skills.describe_regions import DescribeRegions
from llava_plus.skills.detect import Detect
from llava_plus.skills.errors import (
    BadConfiguration,
    BadSkillUse,
    DeadlineExceeded,
    LlavaPlusError,
    SkillFailed,
    WorkerUnavailable,
)
from llava_plus.skills.label_regions import LabelRegions
from llava_plus.skills.ocr import Ocr
from llava_plus.skills.paint import Edit, Generate, Inpaint
from llava_plus.skills.peer_wire import caption_of, corners, labels_in, tint, tinted
from llava_plus.skills.readiness import readiness
from llava_plus.skills.restyle import Restyle
from llava_plus.skills.retrieve import Retrieve
from llava_plus.skills.segment import Segment
from llava_plus.skills.segment_levels import SegmentLevels
from llava_plus.skills.segment_like import SegmentLike
from llava_plus.skills.skill import SkillOutput
from llava_plus.skills.tag import Tag
from PIL import Image, ImageDraw

from ..old_workers import THRESHOLDS, OldWorkers, b64, picture_in
from ..serving import serving

SIZE = (1000, 500)
SENT = (800, 400)
RED = Image.new("RGB", (64, 64), "red")
Settings = Callable[..., None]


def half(width: int, height: int) -> Mask:
    """The left half of an image."""
    array = np.zeros((height, width), bool)
    array[:, : width // 2] = True
    return Mask.from_array(array)


LEFT = half(*SIZE)
ON_WIRE = half(*SENT).model_dump(mode="json")
GROUNDED = {
    "boxes": [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.6]],
    "logits": [0.91, 0.42],
    "phrases": ["cat", "car"],
    "size": [400, 800],
}


WIDENED = [0.495, 0.5, 0.505, 0.6]
"""The second box, which rounding has emptied."""


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Two grey things, each a tenth of the width, on white."""
    image = Image.new("RGB", SIZE, "white")
    for x in (200, 700):
        ImageDraw.Draw(image).rectangle((x, 200, x + 99, 299), fill="grey")
    return image


@pytest.fixture(scope="module")
def _served() -> Iterator[tuple[OldWorkers, str]]:
    workers = OldWorkers()
    with serving(workers.app) as url:
        yield workers, url


@pytest.fixture
def old(_served: tuple[OldWorkers, str]) -> tuple[OldWorkers, str]:
    _served[0].reset()
    return _served


def run(skill: Skill, photo: Image.Image, **arguments: object) -> SkillOutput:
    skill.setup("cpu")
    return skill.call(arguments, images={"img_1": photo}, masks={"mask_1": LEFT})


class Case(NamedTuple):
    """A call, the request that it becomes but for images, the answer, and what comes of that."""

    skill: type[Skill]
    api: str
    arguments: dict[str, Any]
    request: dict[str, Any]
    answer: dict[str, Any]
    data: dict[str, Any] | str
    pictured: tuple[str, ...] = ("image",)


IMAGE = {"image": "img_1"}
CASES = [
    Case(
        Detect,
        "grounding_dino",
        {**IMAGE, "labels": ["cat", "red car."], "threshold": 0.4},
        {"caption": "cat . red car .", "box_threshold": 0.4},
        GROUNDED,
        {
            "objects": [
                {"label": "cat", "box": [0.1, 0.2, 0.3, 0.4], "score": 0.91, "content": ""},
                {"label": "red car.", "box": WIDENED, "score": 0.42, "content": ""},
            ],
            "asked": ["cat", "red car."],
            "unknown": [],
            "note": "",
        },
    ),
    Case(
        Segment,
        "sam",
        {**IMAGE, "boxes": [[0.1, 0.2, 0.3, 0.4]]},
        {"boxes": [[0.1, 0.2, 0.3, 0.4]]},
        {"masks_rle": [ON_WIRE], "boxes": [[0.1, 0.2, 0.3, 0.4]]},
        "Outlined 1 region: region 1 (50 % of the image).",
    ),
    Case(
        Segment,
        "sam",
        {**IMAGE, "points": [[0.2, 0.5]]},
        {"points": [[[0.2, 0.5]]], "point_labels": [[1]]},
        {"masks_rle": [ON_WIRE], "boxes": None},
        "Outlined 1 region: region 1 (50 % of the image).",
    ),
    *(
        Case(
            Segment,
            api,
            {**IMAGE, "labels": ["cat"]},
            {"caption": "cat ."},
            {**GROUNDED, "phrases": ["cat", ""], "masks_rle": [ON_WIRE, ON_WIRE]},
            "Outlined 2 regions: cat (50 % of the image), cat (50 %).",
        )
        for api in ("grounded_sam", "grounding_dino+sam")
    ),
    *(
        Case(
            Ocr,
            api,
            IMAGE,
            {},
            {"texts": ["EXIT", "2"], "boxes": [[0.1, 0.1, 0.4, 0.2], [0.5, 0.1, 0.6, 0.2]],
             "scores": [0.99, 0.5]},
            {"lines": [{"text": "EXIT", "box": [0.1, 0.1, 0.4, 0.2], "score": 0.99},
                       {"text": "2", "box": [0.5, 0.1, 0.6, 0.2], "score": 0.5}]},
        )
        for api in ("easyocr", "ocr")
    ),
    *(
        Case(Caption, api, IMAGE, {}, {**GROUNDED, "caption": "a cat by a car"},
             {"caption": "A cat by a car."})
        for api in ("blip2", "blip2+grounding_dino")
    ),
    *(
        Case(Tag, api, IMAGE, {}, {**GROUNDED, "tags": "cat, red car", "tags_chinese": "猫, 车"},
             "2 tags: cat, red car.")
        for api in ("ram", "ram+grounding_dino")
    ),
    *(
        Case(DescribeRegions, api, IMAGE, {}, GROUNDED, "Described 2 regions.")
        for api in ("blip2+grounding_dino", "ram+grounding_dino")
    ),
    *(
        Case(
            Retrieve,
            api,
            {**IMAGE, "k": 2},
            {},
            {"retrieval_results": [
                {"caption": "a cat", "similarity": 0.3, "url": "http://127.0.0.1/a.jpg", "id": 1},
                {"caption": None, "similarity": 0.2, "image": b64(RED)},
                {"caption": "left out", "similarity": 0.1}], "size": [400, 800]},
            {"found": [{"path": "http://127.0.0.1/a.jpg", "caption": "a cat", "score": 0.3},
                       {"path": "", "caption": "", "score": 0.2}]},
        )
        for api in ("retrieval", "clip")
    ),
    *(
        Case(Generate, api, {"prompt": "a cat"}, {"prompt": "a cat"},
             {"edited_image": b64(RED, "JPEG")}, {"done": "Made the picture."}, ())
        for api in ("stable-diffusion", "sd")
    ),
    *(
        Case(Edit, api, {**IMAGE, "instruction": "make it red"}, {"prompt": "make it red"},
             {"edited_image": b64(RED, "JPEG")}, {"done": "Edited the image."})
        for api in ("instruct-pix2pix", "ip2p")
    ),
    Case(Inpaint, "inpainting", {**IMAGE, "mask": "mask_1", "prompt": "a cat"},
         {"prompt": "a cat", "mask": ON_WIRE}, {"edited_image": b64(RED, "JPEG")},
         {"done": "Repainted the masked area."}),
    Case(Restyle, "controlnet", {**IMAGE, "prompt": "a cat"},
         {"mode": "controlnet", "prompt": {"caption": "a cat"}},
         {"edited_image": b64(RED), "image_seg": b64(RED)},
         {"done": "Made a new picture with the edges of the image."}, ("image", "mask")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.skill.name}-{case.api}")
def test_each_api_is_asked_and_answers(
    case: Case, old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    workers.answers[case.api] = case.answer
    settings(case.skill.name, backend="llava-plus", api=case.api, controller=f"{url}/")
    output = run(case.skill(), photo, **case.arguments)

    api, body = workers.asked[-1]
    assert api == case.api
    pictures = {name: picture_in(body.pop(name)) for name in case.pictured}
    assert body == {**THRESHOLDS, **case.request}
    if "image" in pictures:
        assert (pictures["image"].format, pictures["image"].size) == ("PNG", SENT)
    told = output.summary() if isinstance(case.data, str) else output.model_dump(mode="json")
    assert told == case.data
    assert set(workers.paths) == {"/get_worker_address"}, "the list is not refreshed"
    for _, made in output.images():
        assert made.size in (SIZE, RED.size)
        assert made.getpixel((1, 1)) == pytest.approx((255, 0, 0), abs=3)
    for _, mask in output.masks():
        assert mask == LEFT


def test_every_skill_that_llava_plus_has_names_its_backend() -> None:
    having = {skill for skill, backends in BACKENDS.items() if "llava-plus" in backends}
    tested = {case.skill.name for case in CASES}
    assert having == tested | {"segment_levels", "segment_like", "label_regions"}


def test_what_is_outside_the_mask_stays(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    workers.answers["inpainting"] = {"edited_image": b64(RED)}
    settings("inpaint", backend="llava-plus", url=f"{url}/inpainting")
    ((_, made),) = run(Inpaint(), photo, **IMAGE, mask="mask_1", prompt="a cat").images()
    assert made.crop((0, 0, 500, 500)).getcolors() == [(250_000, (255, 0, 0))]
    assert made.crop((500, 0, 1000, 500)).tobytes() == photo.crop((500, 0, 1000, 500)).tobytes()


def test_masks_drawn_over_pictures_are_read_back(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    small = half(400, 200)
    drawn = tint(photo.resize((400, 200)), small)
    workers.answers["semantic_sam"] = {"iou_sort_masks": [b64(drawn, "JPEG")]}
    settings("segment_levels", backend="llava-plus", url=f"{url}/semantic_sam")
    ((_, mask),) = run(SegmentLevels(), photo, **IMAGE, point=[0.2, 0.5]).masks()
    assert mask.size == LEFT.size
    assert mask.overlap(LEFT) > 0.98
    _, body = workers.asked[-1]
    assert sorted(body) == ["box_threshold", "image", "point", "text_threshold"]
    assert body["point"] == [[0.2, 0.5]]


def test_things_like_an_example(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    things = Mask.from_array(np.asarray(photo.convert("L")) < 200)
    workers.answers["seem"] = {"edited_image": b64(tint(photo, things), "JPEG")}
    settings("segment_like", backend="llava-plus", url=f"{url}/seem")
    box = [0.2, 0.4, 0.3, 0.6]
    output = run(SegmentLike(), photo, **IMAGE, reference="img_1", box=box)
    found = output.model_dump()["objects"]
    assert [thing["label"] for thing in found] == ["match 1", "match 2"]
    boxes = sorted(tuple(thing["box"]) for thing in found)
    assert boxes[0] == pytest.approx(box, abs=0.005)
    assert boxes[1] == pytest.approx([0.7, 0.4, 0.8, 0.6], abs=0.005)
    _, body = workers.asked[-1]
    assert sorted(body) == ["box_threshold", "image", "refimg", "refmask", "text_threshold"]
    assert picture_in(body["refmask"]).getbbox() == (160, 160, 240, 240)


def test_regions_are_read_from_the_colours_of_a_map(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    # In the worker's palette every label has the colour of the one before it: `building` is
    # drawn in the grey of `wall`, `wall` in black.
    drawn = Image.new("RGB", (512, 256), ade20k.colour_of("wall"))
    drawn.paste((0, 0, 0), (0, 0, 128, 256))
    workers, url = old
    workers.answers["controlnet"] = {"image_seg": b64(drawn, "JPEG")}
    settings("label_regions", backend="llava-plus", url=f"{url}/controlnet")
    output = run(LabelRegions(), photo, **IMAGE)
    assert output.summary() == "2 regions: building (75 % of the image) and wall (25 %)."
    assert workers.asked[-1][1]["mode"] == "openseed"


def test_regions_of_our_own_make_the_map(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    from llava_plus.skills.backends import LabelledRegion
    from llava_plus.skills.backends.llava_plus import PeerRestyler

    workers, url = old
    workers.answers["controlnet"] = {"edited_image": b64(RED)}
    sky = LabelledRegion(label="sky", mask=LEFT, is_thing=False)
    made = PeerRestyler(url=f"{url}/controlnet").keep_regions(photo, [sky], "a cat")
    assert made.size == SIZE
    layout = picture_in(workers.asked[-1][1]["mask"])
    assert layout.getpixel((10, 10)) == ade20k.colour_of("sky")
    assert layout.getpixel((790, 10)) == (0, 0, 0)


def test_a_point_that_brings_no_boxes(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    workers.answers["grounding_dino"] = {"boxes": None, "logits": [], "phrases": [], "size": [1, 1]}
    settings("detect", backend="llava-plus", url=f"{url}/grounding_dino")
    assert run(Detect(), photo, **IMAGE, labels=["cat"]).summary() == "Found no cat."


OOM = {
    "text": "**NETWORK ERROR DUE TO HIGH TRAFFIC.**\n\n(CUDA out of memory)",
    "error_code": 50002,
}


@pytest.mark.parametrize(
    ("answer", "status", "error", "words"),
    [
        (OOM, 200, SkillFailed, "CUDA out of memory"),
        ({"text": "", "error_code": 50001}, 200, SkillFailed, "failed: 50001"),
        ("Internal Server Error", 500, WorkerUnavailable, "status 500 and no JSON object"),
        ("<html>", 200, WorkerUnavailable, "no JSON object: '<html>'"),
        ("[1]", 200, WorkerUnavailable, "no JSON object"),
        ({"boxes": []}, 200, WorkerUnavailable, "logits: Field required"),
        ({**GROUNDED, "logits": [0.1]}, 200, WorkerUnavailable, "unlike lengths: 2, 1, 2"),
        ({**GROUNDED, "boxes": [[0.9, 0, 0.1, 1]] * 2}, 200, WorkerUnavailable, "not x0, y0"),
        ({**GROUNDED, "boxes": [[0.9, 0]] * 2}, 200, WorkerUnavailable, "boxes.0.2"),
    ],
)
def test_what_goes_wrong_there_is_told(
    answer: object,
    status: int,
    error: type[LlavaPlusError],
    words: str,
    old: tuple[OldWorkers, str],
    settings: Settings,
    photo: Image.Image,
) -> None:
    workers, url = old
    workers.answers["grounding_dino"] = answer
    workers.status = status
    settings("detect", backend="llava-plus", url=f"{url}/grounding_dino")
    with pytest.raises(error, match=words) as caught:
        run(Detect(), photo, **IMAGE, labels=["cat"])
    assert f"'grounding_dino' of LLaVA-Plus at {url}" in str(caught.value)


@pytest.mark.parametrize("picture", ["/etc/hostname", "AAAA"])
def test_a_picture_that_is_none(
    picture: str, old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    workers.answers["sd"] = {"edited_image": picture}
    settings("generate", backend="llava-plus", controller=url, api="sd")
    with pytest.raises(WorkerUnavailable, match="cannot be read: its picture is not"):
        run(Generate(), photo, prompt="a cat")


def test_a_worker_that_is_not_there(settings: Settings, photo: Image.Image) -> None:
    with serving(OldWorkers().app) as url:
        pass
    settings("caption", backend="llava-plus", url=url)
    with pytest.raises(WorkerUnavailable, match=f"'blip2' of LLaVA-Plus at {url} cannot be reach"):
        run(Caption(), photo, **IMAGE)


def test_a_worker_that_the_controller_does_not_know(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    workers.answers = {"ram": {}, "sam": {}}
    settings("caption", backend="llava-plus", controller=url)
    with pytest.raises(WorkerUnavailable, match="no worker for it; it has: ram, sam"):
        run(Caption(), photo, **IMAGE)


def test_a_worker_that_is_too_slow(
    old: tuple[OldWorkers, str], settings: Settings, photo: Image.Image
) -> None:
    workers, url = old
    workers.answers["blip2"], workers.seconds = {"caption": "late"}, 0.4
    settings("caption", backend="llava-plus", url=f"{url}/blip2", timeout=0.1)
    with pytest.raises(DeadlineExceeded, match=r"not done within 0\.1 s"):
        run(Caption(), photo, **IMAGE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give its `url`, or its `controller`'s, as a setting"),
        ({"url": "http://a", "controller": "http://b"}, "not both"),
        ({"url": "localhost:21003"}, "must begin with http://"),
        ({"url": "http://a", "timeout": 0}, "timeout: Input should be greater than 0"),
        ({"url": "http://a", "threshold": 0.3}, "did you mean"),
    ],
)
def test_settings_that_do_not_fit(
    options: dict[str, Any], words: str, settings: Settings, photo: Image.Image
) -> None:
    settings("detect", backend="llava-plus", **options)
    with pytest.raises(BadConfiguration, match=words):
        Detect().setup("cpu")


@pytest.mark.parametrize(
    ("skill", "api", "arguments", "words"),
    [
        (Segment, "grounded_sam", {"points": [[0.5, 0.5]]}, "by their names: give labels"),
        (Retrieve, "retrieval", {"query": "cats"}, "searched by an image, without a query"),
    ],
)
def test_what_that_worker_cannot_do(
    skill: type[Skill],
    api: str,
    arguments: dict[str, Any],
    words: str,
    settings: Settings,
    photo: Image.Image,
) -> None:
    settings(skill.name, backend="llava-plus", url="http://127.0.0.1:9", api=api)
    with pytest.raises(BadSkillUse, match=words):
        run(skill(), photo, **IMAGE, **arguments)


def test_a_skill_is_on_offer_once_it_has_an_address(settings: Settings) -> None:
    settings("generate", backend="llava-plus")
    assert "no worker of LLaVA-Plus is named" in readiness("generate").lacks
    settings("generate", backend="llava-plus", url="http://127.0.0.1:21307")
    assert readiness("generate").lacks == ""


def test_captions_and_labels() -> None:
    assert caption_of(["cat", "St. Bernard"]) == "cat . St Bernard ."
    assert labels_in("cat . red  car.cat .") == ["cat", "red car"]
    assert labels_in(" . ") == []


def test_boxes_are_cut_and_never_empty() -> None:
    assert corners([-0.1, 0, 1.2, 1]) == (0, 0, 1, 1)
    assert corners([1, 0.5, 1, 0.5]) == (0.995, 0.495, 1, 0.505)


def test_noise_is_not_a_tint(photo: Image.Image) -> None:
    assert tinted(photo, picture_in(b64(photo, "JPEG")).convert("RGB")).area == 0
