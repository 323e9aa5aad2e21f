"""Reading with EasyOCR, on random weights in its own file format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import easyocr
import easyocr.config
import pytest
import torch
from easyocr.craft import CRAFT
from easyocr.model.vgg_model import Model
from llava_plus.skills.backends.easyocr import EasyOCRReader
from llava_plus.skills.errors import BadConfiguration
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both networks with random numbers; EasyOCR is told their hashes."""
    finder = easyocr.config.detection_models["craft"]
    reads = easyocr.config.recognition_models["gen2"]["english_g2"]
    torch.manual_seed(0)
    networks = {
        finder["filename"]: CRAFT(pretrained=False),
        reads["filename"]: Model(1, 256, 256, len(reads["characters"]) + 1),
    }
    for name, network in networks.items():
        numbers = {f"module.{key}": value for key, value in network.state_dict().items()}
        torch.save(numbers, tmp_path / name)
    for about in (finder, reads):
        digest = hashlib.md5((tmp_path / about["filename"]).read_bytes(), usedforsecurity=False)
        monkeypatch.setitem(about, "md5sum", digest.hexdigest())
    return tmp_path


def test_lines_are_the_librarys(folder: Path, write: Callable[..., Image.Image]) -> None:
    page = write((400, 120), {(20, 30): "HELLO"})
    reader = EasyOCRReader(folder=folder, min_score=0)
    assert reader.weights.is_present()
    reader.load("cpu")
    lines = reader.read(page)
    library = easyocr.Reader(["en"], gpu="cpu", model_storage_directory=str(folder), verbose=False)
    page.save(folder / "page.png")
    expected = [text for _, text, _ in library.readtext(str(folder / "page.png")) if text.strip()]
    assert [line.text for line in lines] == expected


def test_what_is_not_here_is_told(tmp_path: Path, folder: Path) -> None:
    reader = EasyOCRReader(folder=tmp_path / "empty")
    assert not reader.weights.is_present()
    assert len(reader.weights.download().files) == 2
    assert reader.weights.name == "english_g2"
    with pytest.raises(BadConfiguration, match="EasyOCR has no network 'klingon', only arabic_g1"):
        EasyOCRReader(network="klingon").weights.is_present()
    next(folder.glob("english*")).write_bytes(b"damaged")
    with pytest.raises(BadConfiguration, match=r"english_g2\.pth is damaged"):
        EasyOCRReader(folder=folder).load("cpu")
