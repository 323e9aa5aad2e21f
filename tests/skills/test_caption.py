"""Captions and region descriptions on tiny models: what the library says, as sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from llava_plus.skills import Corners
from llava_plus.skills.backends.blip import Blip2Captioner, BlipCaptioner
from llava_plus.skills.backends.florence import Florence2Captioner, Florence2RegionDescriber
from llava_plus.skills.errors import BadConfiguration
from PIL import Image

from .tiny_captioners import save_blip, save_blip2, save_florence2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioners")
    save_blip(folder / "blip")
    save_blip2(folder / "blip2")
    save_florence2(folder / "florence2")
    return folder


def _greedy(model: Any, processor: Any, **inputs: Any) -> str:
    with torch.inference_mode():
        (tokens,) = model.generate(**inputs, num_beams=1, do_sample=False, max_new_tokens=8)
    return str(processor.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize(
    ("name", "captioner"), [("blip", BlipCaptioner), ("blip2", Blip2Captioner)]
)
def test_a_caption_is_what_the_library_generates(
    folder: Path, picture: Image.Image, name: str, captioner: type[BlipCaptioner]
) -> None:
    backend = captioner(model=str(folder / name), beams=1, longest=8)
    backend.load("cpu")
    pixels = backend._processor(images=picture, return_tensors="pt")["pixel_values"]
    words = " ".join(_greedy(backend._model, backend._processor, pixel_values=pixels).split())
    caption = backend.caption(picture)
    assert words, "the tiny model is to say something"
    assert caption == words[0].upper() + words[1:] + "."


def test_florence_says_one_caption_for_each_detail(folder: Path, picture: Image.Image) -> None:
    said = []
    for detail in range(3):
        backend = Florence2Captioner(model=str(folder / "florence2"), longest=12, detail=detail)
        backend.load("cpu")
        said.append(backend.caption(picture))
    assert all(caption.endswith((".", "!", "?")) for caption in said)


def test_regions_are_what_the_model_wrote(
    folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Florence2RegionDescriber(model=str(folder / "florence2"), longest=12)
    backend.load("cpu")
    backend.describe(picture)  # whatever a random model writes is read without an error
    written = (
        "</s><s>red ball<loc_100><loc_250><loc_500><loc_750>"
        "old tree<loc_0><loc_0><loc_999><loc_999>"
        "red ball<loc_100><loc_250><loc_500><loc_750></s>"
    )
    monkeypatch.setattr(backend._processor, "batch_decode", lambda *args, **kwargs: [written])
    regions = backend.describe(picture)
    assert [region.words for region in regions] == ["Old tree.", "Red ball."]
    # A place is the middle of one of a thousand steps.
    assert regions[1].box == pytest.approx(Corners(0.1005, 0.2505, 0.5005, 0.7505), abs=0.0006)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    with pytest.raises(BadConfiguration, match="is a blip, not a blip-2"):
        Blip2Captioner(model=str(folder / "blip")).load("cpu")
