"""The threshold of `tag`: worked out by hand, by trying all, and through the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from llava_plus.agent import cli
from llava_plus.skills.backends.calibration import Counts, Scored, calibrated, count
from llava_plus.skills.backends.zero_shot import ZeroShotTagger
from llava_plus.skills.errors import BadInput
from PIL import Image

from .tiny_embedders import save_siglip

WORDS = ["cat", "sea", "old town", "night", "dog", "boat"]


def _scored(scores: list[float], fits: list[bool]) -> Scored:
    return Scored(np.array(scores, dtype=np.float32), np.array(fits))


def test_a_gap_between_fitting_and_other_tags_is_met_in_its_middle() -> None:
    pictures = [_scored([0.8, 0.3, 0.1], [True, True, False])] * 10
    found = calibrated(pictures)
    assert found.threshold == pytest.approx(0.2)
    assert found.chosen == found.held_out == Counts(right=20, wrong=0, missed=0)
    assert found.chosen.f1 == 1


def test_counts_by_hand() -> None:
    pictures = [_scored([0.9, 0.5, np.nan], [True, False, True])]
    counts = count(pictures, 0.5)
    assert counts == Counts(right=1, wrong=1, missed=1)
    assert (counts.precision, counts.recall, counts.f1) == (0.5, 0.5, 0.5)


@given(
    arrays.arrays(np.float32, (12, 4), elements=st.sampled_from([0.125, 0.25, 0.375, 0.5, np.nan])),
    arrays.arrays(np.bool_, (12, 4)),
)
def test_no_other_threshold_has_a_higher_f1(scores: np.ndarray, fits: np.ndarray) -> None:
    pictures = [Scored(*rows) for rows in zip(scores, fits, strict=True)]
    try:
        found = calibrated(pictures)
    except BadInput:
        assert not (fits & ~np.isnan(scores)).any()
        return
    between = (0.06, 0.19, 0.31, 0.44, 0.56)
    assert found.chosen.f1 == max(count(pictures, threshold).f1 for threshold in between)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures with the tags that a tiny SigLIP itself finds best, and one odd word."""
    folder = tmp_path_factory.mktemp("pictures")
    save_siglip(folder / "siglip")
    (folder / "words.txt").write_text("\n".join(WORDS))
    tagger = _tagger(folder, most=2, threshold=0)
    lines = []
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        tags = [tag.name.upper() for tag in tagger.tags(Image.fromarray(noise))]
        lines.append({"image": f"{number}.png", "tags": [*tags, "zeppelin"]})
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def _tagger(folder: Path, most: int, threshold: float) -> ZeroShotTagger:
    tagger = ZeroShotTagger(
        model=str(folder / "siglip"),
        vocabulary=folder / "words.txt",
        most=most,
        threshold=threshold,
    )
    tagger.load("cpu")
    return tagger


@pytest.fixture
def labels(folder: Path, settings: Callable[..., None]) -> Path:
    """The file of labels, with settings that look at its pictures."""
    settings("tag", model=folder / "siglip", vocabulary=folder / "words.txt", most=4)
    return folder / "labels.jsonl"


def test_what_is_told_can_be_put_into_the_settings(
    labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    plot = labels.with_suffix(".png")
    assert cli.main(["skills", "calibrate", str(labels), "--plot", str(plot)]) == 0
    told = capsys.readouterr()
    assert "not in the vocabulary: 1 of" in told.err
    assert "'zeppelin'" in told.err
    lines = tomllib.loads(told.out[told.out.index("[skills.tag]") :])
    folder = labels.parent
    tagger = _tagger(folder, most=4, threshold=lines["skills"]["tag"]["threshold"])
    right = wrong = 0
    pictures = [json.loads(line) for line in labels.read_text().splitlines()]
    given = {tag for picture in pictures for tag in picture["tags"]}
    for line in pictures:
        with Image.open(folder / line["image"]) as picture:
            found = {tag.name.upper() for tag in tagger.tags(picture)} & given
        right += len(found & set(line["tags"]))
        wrong += len(found - set(line["tags"]))
    assert f"({right} tags right, {wrong} wrong, {40 - right} missed)" in told.out
    with Image.open(plot) as drawn:
        assert drawn.size == (720, 480)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"image": "0.png"}', "there is no 'tags'"),
        ('{"image": "0.png", "tags": "cat"}', "list of texts"),
        ('{"image": 7, "tags": []}', "image must be a text"),
        ("[", "a line is"),
        ('{"image": "gone.png", "tags": ["cat"]}', "gone.png"),
    ],
)
def test_a_bad_line_is_named(
    labels: Path, capsys: pytest.CaptureFixture[str], line: str, problem: str
) -> None:
    bad = labels.with_name("bad.jsonl")
    bad.write_text(f"{line}\n" * 10)
    assert cli.main(["skills", "calibrate", str(bad)]) == 2
    assert problem in capsys.readouterr().err


def test_few_pictures_are_refused(labels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = labels.with_name("few.jsonl")
    few.write_text('{"image": "0.png", "tags": ["cat"]}')
    assert cli.main(["skills", "calibrate", str(few)]) == 2
    assert "at least 10" in capsys.readouterr().err
