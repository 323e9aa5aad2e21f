"""The bridge as clients of LLaVA-Plus and OpenThinkIMG use it, over real sockets."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from llava_plus.agent.bridge import create_bridge_app
from llava_plus.agent.bridge.llava_plus import APIS
from llava_plus.agent.bridge.openthinkimg import TOOLS
from llava_plus.agent.bridge.registry import HeartBeat, Registration, Registry, Status
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import HttpDispatcher, LocalDispatcher
from llava_plus.skills import ImageStore, Mask, Skill, SkillUse
from llava_plus.skills.backends import Detection, Findings, LabelledRegion, Level, Retrieved, ade20k
from llava_plus.skills.backends import Tag as Keyword
from llava_plus.skills.backends.grabcut import GrabCutOutliner
from llava_plus.skills.backends.llava_plus import PeerCaptioner
from llava_plus.skills.caption import Caption
from llava_plus.skills.crop import Crop
from llava_plus.skills.detect import Detect
from llava_plus.skills.draw import Draw
from llava_plus.skills.errors import SkillFailed, WorkerUnavailable
from llava_plus.skills.geometry import Corners, Position
from llava_plus.skills.images import encode_image
from llava_plus.skills.label_regions import LabelRegions
from llava_plus.skills.ocr import Ocr
from llava_plus.skills.paint import Edit, Generate, Inpaint
from llava_plus.skills.point import PointAt
from llava_plus.skills.restyle import Restyle
from llava_plus.skills.retrieve import Retrieve
from llava_plus.skills.segment import Segment
from llava_plus.skills.segment_levels import SegmentLevels
from llava_plus.skills.segment_like import SegmentLike
from llava_plus.skills.tag import Tag
from PIL import Image, ImageDraw, ImageFont

from ..old_workers import THRESHOLDS, b64, picture_in
from ..serving import serving, worker

SIZE = [300, 400]
BALL = Corners(0.3512, 0.3012, 0.6512, 0.7012)
MIDDLE = [0.5, 0.5]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A red ball, 120 pixels across, on grass."""
    page = Image.new("RGB", (400, 300), "darkgreen")
    ImageDraw.Draw(page).ellipse((140, 90, 260, 210), fill=(220, 30, 30))
    return page


@pytest.fixture(scope="module")
def sign() -> Image.Image:
    """White words on green."""
    page = Image.new("RGB", (400, 200), "darkgreen")
    font = ImageFont.load_default(size=36)
    ImageDraw.Draw(page).text((20, 20), "EXIT 12", fill="white", font=font)
    return page


class Finder:
    """A detector that finds the ball; it knows nothing that is not round."""

    vocabulary = ("ball",)

    def detect(
        self, image: Image.Image, labels: Sequence[str], threshold: float | None
    ) -> Findings:
        unknown = tuple(label for label in labels if label not in ("ball", "red ball"))
        found = [
            Detection(label=label, box=BALL, score=0.8765)
            for label in labels
            if label not in unknown and (threshold or 0) <= 0.8765
        ]
        return Findings(objects=tuple(found), unknown=unknown)


class Painter:
    """Paints everything blue, and says what it was asked for in the picture's text."""

    def paint(self, prompt: str) -> Image.Image:
        if prompt == "too much":
            raise SkillFailed("the skill ran out of memory; try a smaller image")
        return Image.new("RGB", (64, 64), "blue")

    def edit(self, image: Image.Image, instruction: str) -> Image.Image:
        return Image.new("RGB", image.size, "blue")

    def inpaint(self, image: Image.Image, mask: Mask, prompt: str) -> Image.Image:
        blue = Image.new("RGB", image.size, "blue")
        return Image.composite(blue, image, Image.fromarray(mask.array()))

    def keep_regions(
        self, image: Image.Image, regions: Sequence[LabelledRegion], prompt: str
    ) -> Image.Image:
        assert [region.label for region in regions] == ["sky"]
        return Image.new("RGB", image.size, "blue")


class Reader:
    """Everything else that looks at an image."""

    def caption(self, image: Image.Image) -> str:
        return "A man is kicking a red ball on the grass."

    def tags(self, image: Image.Image) -> Sequence[Keyword]:
        return [Keyword(name="ball", score=0.9), Keyword(name="grass", score=0.5)]

    def search(self, image: Image.Image | None, query: str | None, k: int) -> Sequence[Retrieved]:
        assert k == 20
        return [Retrieved(path="/home/me/1.png", caption="a ball", score=0.321)]

    def open(self, found: Retrieved) -> Image.Image:
        return Image.new("RGB", (1600, 400), "blue")

    def label_regions(self, image: Image.Image) -> Sequence[LabelledRegion]:
        top = np.zeros((image.height, image.width), bool)
        top[: image.height // 2] = True
        return [LabelledRegion(label="sky", mask=Mask.from_array(top), is_thing=False)]

    def levels(self, image: Image.Image, place: Position) -> Sequence[Level]:
        mask = GrabCutOutliner().outline(image, BALL)
        assert mask
        assert place == pytest.approx(MIDDLE, abs=0.01)
        return [Level(mask=mask, score=0.9)]

    def match(
        self, image: Image.Image, reference: Image.Image, box: Corners
    ) -> Sequence[Detection]:
        assert box == (0.25, 0.25, 0.5, 0.75)
        return [Detection(label="match", box=BALL, score=0.9)]


def having(skill: type[Skill], **parts: object) -> Skill:
    """A skill with these parts instead of those that it would load."""

    class Ready(skill):  # type: ignore[misc, valid-type]
        def setup(self, device: str) -> None:
            for name, part in parts.items():
                setattr(self, name, part)

    return Ready()


def all_skills() -> list[Skill]:
    reader, painter, finder, outliner = Reader(), Painter(), Finder(), GrabCutOutliner()
    return [
        Ocr(),
        Segment(),
        Draw(),
        Crop(),
        having(Detect, backend=finder),
        having(PointAt, _detector=finder, _outliner=outliner),
        having(Caption, backend=reader),
        having(Tag, backend=reader),
        having(Retrieve, backend=reader),
        having(LabelRegions, backend=reader),
        having(SegmentLevels, backend=reader),
        having(SegmentLike, _matcher=reader, _outliner=outliner),
        having(Generate, backend=painter),
        having(Edit, backend=painter),
        having(Inpaint, backend=painter),
        having(Restyle, backend=painter, _labeller=reader),
    ]


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    with (
        worker(*all_skills(), ready=False) as url,  # calls wait until the skill is set up
        serving(create_bridge_app(HttpDispatcher([url]))) as bridge,
    ):
        yield bridge


@pytest.fixture(scope="module")
def old(bridge: str) -> OldClient:
    return OldClient(bridge)


class OldClient:
    """LLaVA-Plus's web server as far as it calls tools, without its user."""

    def __init__(self, controller: str) -> None:
        self.controller = controller

    def post(self, url: str, body: object = None) -> Any:
        response = httpx.post(url, json=body, timeout=30)
        assert response.status_code == 200
        return response.json()

    def address(self, api: str) -> str:
        self.post(f"{self.controller}/refresh_all_workers")
        assert api in self.post(f"{self.controller}/list_models")["models"]
        address = self.post(f"{self.controller}/get_worker_address", {"model": api})["address"]
        assert isinstance(address, str)
        return address

    def use(self, api: str, image: Image.Image | None, **parameters: object) -> dict[str, Any]:
        """What the worker answers, after the lists in it were gone through as the client does."""
        sent = {"image": image and b64(image), **THRESHOLDS, **parameters}
        told = self.post(f"{self.address(api)}/worker_generate", sent)
        assert isinstance(told, dict)
        for box in told.get("boxes", ()):
            assert [round(edge, 2) for edge in box] == box
        for key in ("logits", "scores"):
            assert [round(number, 2) for number in told.get(key, ())] == told.get(key, [])
        return told


def mask_in(rle: dict[str, Any]) -> Mask:
    assert sorted(rle) == ["counts", "size"]
    return Mask.model_validate(rle)


def is_the_ball(mask: Mask) -> bool:
    ball = Image.new("1", (400, 300))
    ImageDraw.Draw(ball).ellipse((140, 90, 260, 210), fill=1)
    return mask.overlap(Mask.from_array(np.asarray(ball))) > 0.9


BOXES = {"boxes": [[0.35, 0.3, 0.65, 0.7]], "logits": [0.88], "size": SIZE}
FOUND = {**BOXES, "phrases": ["ball"]}


@pytest.mark.parametrize("image", ["image", "nothing"])
@pytest.mark.parametrize("caption", ["ball . dog .", "dog. ball", "ball"])
def test_detection(old: OldClient, picture: Image.Image, caption: str, image: str) -> None:
    more = {} if image == "image" else {"box_threshold": 0.99}
    told = old.use("grounding_dino", picture, caption=caption, **more)
    nothing = {"boxes": [], "logits": [], "phrases": [], "size": SIZE}
    assert told == (nothing if more else FOUND)


@pytest.mark.parametrize("api", ["grounding_dino+sam", "grounded_sam"])
def test_detection_and_outlines_in_one_call(old: OldClient, picture: Image.Image, api: str) -> None:
    told = old.use(api, picture, caption="ball .")
    (rle,) = told.pop("masks_rle")
    assert told == FOUND
    assert is_the_ball(mask_in(rle))


@pytest.mark.parametrize(
    ("places", "count"),
    [
        ({"boxes": [[0.34, 0.29, 0.66, 0.71]]}, 1),
        ({"boxes": []}, 0),
        ({"points": [[MIDDLE]], "point_labels": [[1]]}, 1),
        ({"points": [[MIDDLE, [0.45, 0.5]], [MIDDLE]], "point_labels": [[1, 1], [1]]}, 2),
    ],
)
def test_outlines(old: OldClient, picture: Image.Image, places: dict[str, Any], count: int) -> None:
    told = old.use("sam", picture, **places)
    assert sorted(told) == ["boxes", "masks_rle"]
    assert told["boxes"] == places.get("boxes", [])
    assert len(told["masks_rle"]) == count
    assert all(is_the_ball(mask_in(rle)) for rle in told["masks_rle"])


@pytest.mark.parametrize("api", ["semantic_sam", "semantic-sam"])
@pytest.mark.parametrize("place", [{"point": [MIDDLE]}, {"boxes": [[0.3, 0.3, 0.7, 0.7]]}])
def test_levels(old: OldClient, picture: Image.Image, api: str, place: dict[str, Any]) -> None:
    told = old.use(api, picture, **place)
    assert list(told) == ["iou_sort_masks"]
    (drawn,) = map(picture_in, told["iou_sort_masks"])
    assert (drawn.format, drawn.size) == ("JPEG", picture.size)
    assert drawn.getpixel((200, 150)) == pytest.approx((110, 15, 142), abs=12), "half blue"
    assert drawn.getpixel((20, 280)) == pytest.approx((0, 100, 0), abs=12)


def test_things_like_an_example(old: OldClient, picture: Image.Image) -> None:
    mask = Image.new("RGBA", (200, 100), "black")
    ImageDraw.Draw(mask).rectangle((50, 25, 99, 74), fill="white")
    told = old.use("seem", picture, refimg=b64(picture), refmask=b64(mask))
    assert list(told) == ["edited_image"]
    assert picture_in(told["edited_image"]).getpixel((200, 150)) == (110, 15, 142)


def test_a_map_of_regions_and_a_picture_from_it(old: OldClient, picture: Image.Image) -> None:
    mapped = old.use("controlnet", picture, mode="openseed")
    assert list(mapped) == ["image_seg"]
    drawn = picture_in(mapped["image_seg"])
    assert drawn.size == picture.size
    assert drawn.getpixel((200, 20)) == pytest.approx(ade20k.colour_of("sky"), abs=3)
    told = old.use(
        "controlnet",
        picture,
        mode="controlnet",
        prompt={"caption": "a beach"},
        mask=mapped["image_seg"],
    )
    assert list(told) == ["edited_image"]
    assert picture_in(told["edited_image"]).size == picture.size


PAINTED = [
    ("stable-diffusion", {}, (64, 64)),
    ("sd", {}, (64, 64)),
    ("instruct-pix2pix", {}, (400, 300)),
    ("ip2p", {}, (400, 300)),
    ("inpainting", {"mask": Mask.from_array(np.ones((30, 40), bool))}, (400, 300)),
]


@pytest.mark.parametrize(("api", "more", "size"), PAINTED)
def test_pictures_are_made(
    old: OldClient,
    picture: Image.Image,
    api: str,
    more: dict[str, Mask],
    size: tuple[int, int],
) -> None:
    masks = {name: mask.model_dump(mode="json") for name, mask in more.items()}
    told = old.use(api, None if size == (64, 64) else picture, prompt="a sea", **masks)
    assert list(told) == ["edited_image"]
    made = picture_in(told["edited_image"])
    assert (made.format, made.size) == ("PNG", size)
    assert made.getpixel((9, 9)) == (0, 0, 255)


CAPTION = "A man is kicking a red ball on the grass."


@pytest.mark.parametrize(
    ("api", "wanted"),
    [
        ("blip2", {"caption": CAPTION, "size": SIZE}),
        ("ram", {"tags": "ball, grass", "tags_chinese": "", "size": SIZE}),
        ("ram+grounding_dino", {**FOUND, "tags": "ball, grass", "tags_chinese": ""}),
        ("blip2+grounding_dino", {**BOXES, "phrases": ["red ball"], "caption": CAPTION}),
    ],
)
def test_words_about_an_image(
    old: OldClient, picture: Image.Image, api: str, wanted: dict[str, Any]
) -> None:
    assert old.use(api, picture) == wanted


@pytest.mark.parametrize("api", ["ocr", "easyocr"])
def test_text(old: OldClient, sign: Image.Image, api: str) -> None:
    told = old.use(api, sign)
    assert sorted(told) == ["boxes", "scores", "texts"]
    assert told["texts"] == ["EXIT 12"]
    assert told["boxes"][0] == pytest.approx([0.05, 0.13, 0.4, 0.3], abs=0.05)
    assert told["scores"][0] > 0.8


@pytest.mark.parametrize("api", ["retrieval", "clip"])
def test_similar_pictures(old: OldClient, picture: Image.Image, api: str) -> None:
    told = old.use(api, picture)
    ((row,), size) = told["retrieval_results"], told["size"]
    assert picture_in(row.pop("image")).size == (800, 200)
    assert row == {"id": 0, "caption": "a ball", "similarity": 0.321}, "and no path of ours"
    assert size == SIZE


DRAWN = "Line drawn successfully."
POINT = '<point x=\\"50.0\\" y="50.0" alt="ball">ball</point>'


@pytest.mark.parametrize(
    ("tool", "param", "text", "size"),
    [
        ("grounding", "ball", "ball [[351,301,651,701]]", (400, 300)),
        ("grounding", "dog or ball", None, None),
        ("Point", "ball", '<point x="', (400, 300)),
        ("point", "ball", '<point x="', (400, 300)),
        ("SegmentRegionAroundPoint", POINT, "Segmentation completed.", (400, 300)),
        ("DrawHorizontalLineByY", 'x="10.0" y="50.0"', DRAWN, (400, 300)),
        ("DrawVerticalLineByX", 'x="50.0" y="10.0"', DRAWN, (400, 300)),
        ("drawline", "[140, 90, 260, 210], 1, 3", DRAWN, (400, 300)),
        ("crop", "[140, 90, 260, 210]", "Image cropped successfully.", (120, 120)),
    ],
)
def test_tools_of_openthinkimg(
    old: OldClient,
    picture: Image.Image,
    tool: str,
    param: str,
    text: str | None,
    size: tuple[int, int] | None,
) -> None:
    address = old.address(tool)
    sent = {"model": tool, "image": b64(picture), "param": param}
    told = old.post(f"{address}/worker_generate", sent)
    if text is None:
        assert told["error_code"] == 50001
        assert "does not know 'dog or ball'" in told["text"]
        return
    assert told["error_code"] == 0
    assert told["text"].startswith(text)
    made = picture_in(told["edited_image"])
    assert made.size == size
    assert np.asarray(made).tobytes() != np.asarray(picture).tobytes()
    if tool in ("DrawHorizontalLineByY", "DrawVerticalLineByX", "drawline"):
        assert made.getpixel((200, 150)) == (230, 30, 45)


def test_text_for_openthinkimg(old: OldClient, sign: Image.Image) -> None:
    sent = {"model": "OCR", "image": b64(sign)}
    told = old.post(f"{old.controller}/worker_generate", sent)
    assert told == {"text": "['EXIT 12']", "error_code": 0}


@pytest.mark.parametrize(
    ("api", "change", "words"),
    [
        ("grounding_dino", {"image": "/etc/hostname"}, "image is not"),
        ("grounding_dino", {"image": "AAAA"}, "not an image that can be read"),
        ("grounding_dino", {"image": None}, "image: Input should be a valid string"),
        ("grounding_dino", {"caption": " . "}, "labels: List should have at least 1 item"),
        ("grounding_dino", {"caption": "dog"}, "does not know 'dog'"),
        ("grounding_dino", {"box_threshold": float("inf")}, "box_threshold"),
        ("sam", {}, "exactly one of boxes and points"),
        ("sam", {"boxes": [[0, 0, 3, 1]]}, "boxes.0.2"),
        ("sam", {"points": [[MIDDLE]], "point_labels": [[0]]}, "points of the background"),
        ("sam", {"points": [[MIDDLE]]}, "one label for each point"),
        ("semantic_sam", {}, "give a point or boxes"),
        ("seem", {"refimg": "", "refmask": ""}, "refimg is empty"),
        ("controlnet", {"mode": "controlnet"}, "needs prompt"),
        ("inpainting", {"prompt": "a sea", "mask": None}, "mask"),
        ("inpainting", {"prompt": "a", "mask": {"size": [9, 9], "counts": "0"}}, "mask runs cover"),
        ("crop", {"param": "[0, 0, 1 2, 9, 9]"}, "does not begin with a box in pixels"),
        ("drawline", {"param": "[0, 0, 9, 9], 1, 7"}, "two corners, from 1 to 4"),
        ("DrawVerticalLineByX", {"param": 'x="500" y="1"'}, "holds no point"),
    ],
)
def test_what_is_wrong_is_told_in_words(
    old: OldClient, picture: Image.Image, api: str, change: dict[str, Any], words: str
) -> None:
    sent = {"image": b64(picture), "caption": "ball", **THRESHOLDS, **change}
    url = f"{old.address(api)}/worker_generate"
    response = httpx.post(url, content=json.dumps(sent), timeout=30)
    assert response.status_code == 200
    told = response.json()
    assert told["error_code"] == 50001
    assert words in told["text"]


def test_no_memory_has_a_code_of_its_own(old: OldClient) -> None:
    told = old.use("sd", None, prompt="too much")
    assert told == {"text": "the skill ran out of memory; try a smaller image", "error_code": 50002}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/worker_generate", b"{}", "model: Field required"),
        ("/worker_generate", b'{"model": "blip3"}', "there is no API 'blip3' here; there is: gro"),
        ("/nobody/worker_generate", b"{}", "there is no API 'nobody'"),
        ("/blip2/worker_generate", b"hello", "is not JSON"),
        ("/blip2/worker_generate", b"[" * 100_000, "is not JSON"),
        ("/blip2/worker_generate", b"[]", "not a JSON object"),
        ("/get_worker_address", b"{}", "model: Field required"),
        ("/register_worker", b'{"worker_name": "file:///etc"}', "worker_name: String should match"),
    ],
)
def test_requests_that_are_none(bridge: str, path: str, body: bytes, words: str) -> None:
    told = httpx.post(f"{bridge}{path}", content=body).json()
    assert told["error_code"] == 50001
    assert words in told["text"]


def test_status_and_details(bridge: str, old: OldClient) -> None:
    address = old.address("grounding_dino+sam")
    assert address == f"{bridge}/grounding_dino+sam"
    status = {"model_names": ["grounding_dino+sam"], "speed": 1, "queue_length": 0}
    assert old.post(f"{address}/worker_get_status") == status
    assert set(old.post(f"{bridge}/worker_get_status")["model_names"]) == {*APIS, *TOOLS}
    assert old.post(f"{address}/model_details") == {"context_length": 0}


def test_only_what_all_skills_are_there_for_is_offered() -> None:
    with (
        worker(having(Detect, backend=Finder())) as url,
        serving(create_bridge_app(HttpDispatcher([url]))) as bridge,
    ):
        lone = OldClient(bridge)
        assert lone.post(f"{bridge}/list_models") == {"models": ["grounding_dino"]}
        asked = {"model": "grounded_sam"}
        assert lone.post(f"{bridge}/get_worker_address", asked) == {"address": ""}


def test_a_worker_that_died_is_told(picture: Image.Image) -> None:
    with worker(having(Caption, backend=Reader())) as url:
        pass
    with serving(create_bridge_app(HttpDispatcher([url]))) as bridge:
        sent = {"model": "blip2", "image": b64(picture)}
        told = httpx.post(f"{bridge}/worker_generate", json=sent).json()
    assert told["error_code"] == 50001
    assert f"worker {url} cannot be reached" in told["text"]


def test_workers_of_others_register(bridge: str, old: OldClient) -> None:
    """As one bridge is a worker to another: each has what the other looks for."""
    other = {"worker_name": f"{bridge}/sam", "check_heart_beat": True, "worker_status": None}
    with worker() as url, serving(create_bridge_app(HttpDispatcher([url]))) as empty:
        lone = OldClient(empty)
        assert lone.post(f"{empty}/list_models") == {"models": []}
        beat = {"worker_name": f"{bridge}/sam", "queue_length": 0}
        assert lone.post(f"{empty}/receive_heart_beat", beat) == {"exist": False}
        assert lone.post(f"{empty}/register_worker", other) is None
        assert lone.post(f"{empty}/receive_heart_beat", beat) == {"exist": True}
        assert lone.address("sam") == f"{bridge}/sam"
        gone = {**other, "worker_name": "http://127.0.0.1:9", "worker_status": LLAVA}
        assert lone.post(f"{empty}/register_worker", gone) is None
        assert lone.post(f"{empty}/list_models") == {"models": ["llava_plus_v0_7b", "sam"]}
        assert lone.post(f"{empty}/refresh_all_workers") is None
        assert lone.post(f"{empty}/list_models") == {"models": ["sam"]}


LLAVA = {"model_names": ["llava_plus_v0_7b"], "speed": 1, "queue_length": 0}


async def test_the_shortest_queue_is_taken_and_silence_forgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry()
    for name, queue in (("a", 1), ("b", 0)):
        status = Status(model_names=["sam"], queue_length=queue)
        await registry.register(
            Registration(worker_name=f"http://{name}", check_heart_beat=True, worker_status=status)
        )
    assert [registry.address("sam") for _ in range(3)] == ["http://b", "http://a", "http://b"]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert registry.beat(HeartBeat(worker_name="http://a", queue_length=0))
    monkeypatch.setattr(time, "monotonic", lambda: now + 120)
    assert registry.address("sam") == "http://a"
    assert not registry.beat(HeartBeat(worker_name="http://b", queue_length=0))
    assert registry.models == {"sam"}


async def test_a_worker_behind_a_worker_is_the_operators(picture: Image.Image) -> None:
    """What only the operator can mend passes through ours, and is not told to the model."""
    skill = having(Caption, backend=PeerCaptioner(url="http://127.0.0.1:9"))
    dispatcher, store = LocalDispatcher([skill]), ImageStore()
    use = SkillUse(id="call_1", name="caption", arguments={"image": "img_1"})
    images = {"img_1": store.add(encode_image(picture))}
    deadline = time.monotonic() + 10
    with pytest.raises(WorkerUnavailable, match=r"'blip2' of LLaVA-Plus at .* cannot be"):
        await dispatcher.dispatch(use, CallScope(images=images, store=store, deadline=deadline))
    await dispatcher.aclose()


def test_the_command_serves(picture: Image.Image) -> None:
    program = [sys.executable, "-m", "llava_plus.agent", "bridge", "serve", "--port", "0"]
    with (
        worker(having(Caption, backend=Reader())) as url,
        subprocess.Popen([*program, "--workers", url], stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout
        bridge = json.loads(process.stdout.readline())["url"]
        try:
            assert bridge.startswith("http://127.0.0.1:")
            assert OldClient(bridge).use("blip2", picture)["caption"] == CAPTION
        finally:
            process.terminate()
