"""Tags on tiny models: the scores of the library for the vocabulary, the best of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from llava_plus.skills.backends.embedding import Embedder
from llava_plus.skills.backends.zero_shot import VOCABULARY, ZeroShotTagger, read_vocabulary
from llava_plus.skills.errors import BadConfiguration
from llava_plus.skills.tag import Tag
from PIL import Image

from .tiny_embedders import save_clip, save_siglip

WORDS = ["cat", "sea", "old town", "night", "cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedders")
    save_clip(folder / "clip")
    save_siglip(folder / "siglip")
    (folder / "words.txt").write_text("# places and things\n\n" + "\n".join(WORDS))
    return folder


@pytest.mark.parametrize("name", ["clip", "siglip"])
@torch.inference_mode()
def test_scores_are_the_librarys(folder: Path, picture: Image.Image, name: str) -> None:
    tagger = ZeroShotTagger(model=str(folder / name), vocabulary=folder / "words.txt", threshold=0)
    tagger.load("cpu")
    model, processor = tagger._model, tagger._processor
    texts = [f"a photo of {word}" for word in WORDS[:-1]]
    filling = {"padding": True} if name == "clip" else {"padding": "max_length", "max_length": 24}
    inputs = processor(text=texts, images=picture, return_tensors="pt", truncation=True, **filling)
    if name == "siglip":
        inputs.pop("attention_mask", None)
    odds = model(**inputs).logits_per_image[0]
    expected = odds.softmax(-1) if name == "clip" else odds.sigmoid()
    found = {tag.name: tag.score for tag in tagger.tags(picture)}
    assert found == pytest.approx(dict(zip(WORDS, expected.tolist(), strict=False)), abs=1e-4)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_threshold_and_number_bound_the_tags(
    folder: Path, picture: Image.Image, settings: Callable[..., None]
) -> None:
    tiny = {"model": folder / "clip", "vocabulary": folder / "words.txt"}
    settings("tag", **tiny, threshold=0, most=2)
    skill = Tag()
    skill.setup("cpu")
    output = skill.call({"image": "img_1"}, images={"img_1": picture})
    assert output.text().startswith("2 tags: ")
    settings("tag", **tiny, threshold=1)
    skill.setup("cpu")
    output = skill.call({"image": "img_1"}, images={"img_1": picture})
    assert output.text() == "No tag fits."


def test_vectors_of_the_vocabulary_are_kept(
    folder: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"vocabulary": folder / "words.txt", "threshold": 0}
    first = ZeroShotTagger(model=str(folder / "clip"), **options)
    first.load("cpu")
    embedded: list[object] = []
    embed = Embedder.texts
    monkeypatch.setattr(
        Embedder, "texts", lambda self, texts: embedded.append(texts) or embed(self, texts)
    )
    again = ZeroShotTagger(model=str(folder / "clip"), **options)
    again.load("cpu")
    assert not embedded
    assert again.tags(picture) == first.tags(picture)
    other = ZeroShotTagger(model=str(folder / "siglip"), **options)
    other.load("cpu")
    assert len(embedded) == 1, "another model has vectors of its own"
    (kept, _) = (Path(os.environ["XDG_CACHE_HOME"]) / "llava-plus" / "tags").glob("*.npy")
    kept.write_bytes(b"cut")
    again.load("cpu")
    other.load("cpu")
    assert len(embedded) == 2, "a damaged file is made again"


def test_the_vocabulary_that_ships() -> None:
    tags = read_vocabulary(VOCABULARY)
    written = [
        line for line in VOCABULARY.read_text(encoding="utf-8").splitlines() if line[:1] != "#"
    ]
    assert len(tags) >= 3000
    assert len(tags) == len([line for line in written if line.strip()]), "no tag stands there twice"
    assert all(tag == tag.lower() and len(tag.split()) <= 3 for tag in tags)


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe"])
def test_a_vocabulary_without_words_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(BadConfiguration, match=r"words\.txt"):
        read_vocabulary(file)
