"""Searching one's own pictures: an index on a tiny CLIP, made and kept by the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llava_plus.agent.cli import main
from llava_plus.skills.backends.embedding import Embedder
from llava_plus.skills.backends.picture_index import MODEL, PictureIndex
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from llava_plus.skills.readiness import readiness
from llava_plus.skills.retrieve import Retrieve
from PIL import Image

from .tiny_embedders import save_clip

COLOURS = ["red", "green", "blue", "white", "black", "orange"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return str(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six noisy pictures of one colour each, in folders, and files that are none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, colour in enumerate(COLOURS):
        plain = np.asarray(Image.new("RGB", (40, 30), colour), dtype=np.int16)
        noisy = np.clip(plain + rng.integers(-60, 60, plain.shape), 0, 255).astype(np.uint8)
        place = folder / "more" if number % 2 else folder
        Image.fromarray(noisy).save(place / f"{colour}.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:200])
    return folder


def _index(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["index", *map(str, arguments)]) == 0
    return capsys.readouterr().out.strip().partition(": ")[2]


def test_an_index_follows_its_pictures(
    clip: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (photos, "--out", tmp_path / "index", "--model", clip)
    assert _index(capsys, *options) == "6 new, 0 as before, 0 changed or gone, 1 left out"
    assert _index(capsys, *options) == "0 new, 6 as before, 0 changed or gone, 1 left out"
    (photos / "red.png").unlink()
    Image.new("RGB", (8, 8), "pink").save(photos / "blue.png")
    assert _index(capsys, *options) == "1 new, 4 as before, 2 changed or gone, 1 left out"
    kept = {picture.path.name for picture in PictureIndex(tmp_path / "index").pictures.values()}
    assert kept == {f"{colour}.png" for colour in COLOURS} - {"red.png"}
    assert len(list((tmp_path / "index").iterdir())) == 3, "earlier generations are gone"


def test_a_picture_is_named_from_the_folder_that_was_indexed_last(
    clip: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cut.png").unlink()
    listed = photos / "more" / "list.jsonl"
    listed.write_text('{"image": "green.png"}\n{"image": "../red.png"}\n')
    for source, told, green, red in (
        (photos, "6 new, 0 as before", "more/green.png", "red.png"),
        (tmp_path, "0 new, 6 as before", "photos/more/green.png", "photos/red.png"),
        (listed, "0 new, 2 as before", "green.png", "red.png"),
    ):
        out = tmp_path / "index"
        assert _index(capsys, source, "--out", out, "--model", clip).startswith(told)
        assert {green, red} <= {picture.name for picture in PictureIndex(out).pictures.values()}


def test_an_index_keeps_to_its_model(
    clip: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _index(capsys, photos, "--out", tmp_path / "index", "--model", clip)
    assert _index(capsys, photos, "--out", tmp_path / "index").startswith("0 new, 6 as before")
    assert main(["index", str(photos), "--out", str(tmp_path / "index"), "--model", MODEL]) == 2
    told = capsys.readouterr().err
    assert f"was made with {clip}, not {MODEL}" in told
    assert main(["index", str(photos), "--out", str(photos / "red.png"), "--model", clip]) == 2
    assert "cannot be made a folder" in capsys.readouterr().err


def test_the_nearest_is_found_first(
    clip: str,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: Callable[..., None],
) -> None:
    _index(capsys, photos, "--out", tmp_path / "index", "--model", clip)
    settings("retrieve", index=tmp_path / "index")
    assert readiness("retrieve").lacks == ""
    skill = Retrieve()
    skill.setup("cpu")
    green = Image.open(photos / "more" / "green.png")
    output = skill.call({"image": "img_1", "k": 3}, images={"img_1": green})
    assert output.text() == "Found 3 similar pictures."
    pictures = [picture for _, picture in output.images()]
    assert pictures[0].tobytes() == green.tobytes()

    embedder = Embedder(clip)
    embedder.load("cpu")
    files = sorted(photos.rglob("*.png"))
    files = [file for file in files if file.name != "cut.png"]
    cosines = (
        embedder.texts(["a blue wall"])[0]
        @ embedder.images([Image.open(file).convert("RGB") for file in files]).T
    )
    words = skill.call({"query": "a blue wall", "k": 6}).model_dump()["found"]
    assert [photos / one["path"] for one in words] == [files[i] for i in np.argsort(-cosines)]
    assert str(tmp_path) not in str(words), "nobody is told of the folders above"
    (photos / "blue.png").unlink()
    fewer = skill.call({"query": "a blue wall", "k": 6})
    assert fewer.text() == "Found 5 similar pictures.", "one that is gone is left out"
    assert words[0]["score"] == pytest.approx(cosines.max(), abs=1e-3)


def test_captions_come_with_the_pictures(
    clip: str,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: Callable[..., None],
) -> None:
    listed = photos / "captions.jsonl"
    entries = [{"image": "red.png", "caption": "Our barn."}, {"image": "blue.png"}]
    listed.write_text("\n".join(json.dumps(entry) for entry in entries))
    _index(capsys, listed, "--out", tmp_path / "index", "--model", clip)
    settings("retrieve", index=tmp_path / "index")
    skill = Retrieve()
    skill.setup("cpu")
    assert skill.call({"query": "barn"}).text() == "Found 2 similar pictures.\nOur barn."
    with pytest.raises(BadSkillUse, match="give an image, a query in words, or both"):
        skill.call({"k": 2})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no json", "captions.jsonl:1"),
        ('{"picture": "red.png"}', "'image'"),
        ('{"image": "none.png"}', "No such file"),
        ('["red.png"]', "a line is"),
    ],
)
def test_a_bad_list_is_named(
    photos: Path, line: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "captions.jsonl").write_text(line)
    assert main(["index", str(photos / "captions.jsonl")]) == 2
    assert problem in capsys.readouterr().err


def test_without_an_index_the_skill_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(BadConfiguration, match=r"there is no index in .*: llava-plus index FOLDER"):
        Retrieve().setup("cpu")


@pytest.mark.parametrize("about", ["", '{"model": "m", "width": 16, "generation": 3}'])
def test_a_damaged_index_is_named(tmp_path: Path, about: str) -> None:
    (tmp_path / "about.json").write_text(about)
    with pytest.raises(BadConfiguration, match="holds no index that can be read"):
        PictureIndex(tmp_path)
