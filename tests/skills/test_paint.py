"""Generate, edit and inpaint on tiny diffusion pipelines, through the real loading code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from llava_plus.skills.backends.diffusion import (
    DiffusionEditor,
    DiffusionInpainter,
    DiffusionPainter,
)
from llava_plus.skills.errors import BadConfiguration, BadSkillUse
from llava_plus.skills.geometry import Mask
from llava_plus.skills.paint import Edit, Generate, Inpaint
from llava_plus.skills.progress import Progress, reporting_to
from PIL import Image

from .tiny_diffusion import save_editor, save_inpainter, save_painter

QUICK = {"steps": 2, "side": 64, "seed": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    save_painter(folder / "generate")
    save_editor(folder / "edit")
    save_inpainter(folder / "inpaint")
    return folder


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((150, 90)).convert("RGB")


@pytest.fixture
def configure(folder: Path, settings: Callable[..., None]) -> Callable[[str], None]:
    """Write settings that name the tiny pipeline of a skill."""
    return lambda skill: settings(skill, model=folder / skill, **QUICK)


def test_generate_makes_a_picture_of_the_words(configure: Callable[[str], None]) -> None:
    configure("generate")
    skill = Generate()
    skill.setup("cpu")
    made, same, other = (
        next(skill.call({"prompt": prompt}).images())[1] for prompt in ("cat", "cat", "dog")
    )
    assert made.size == (64, 64)
    assert made.tobytes() == same.tobytes(), "a seed gives the same picture"
    assert made.tobytes() != other.tobytes(), "other words give another picture"


def test_without_a_seed_every_picture_is_another(folder: Path) -> None:
    painter = DiffusionPainter(model=str(folder / "generate"), steps=2, side=64)
    painter.load("cpu")
    assert painter.paint("cat").tobytes() != painter.paint("cat").tobytes()


def test_edit_keeps_the_size(configure: Callable[[str], None], picture: Image.Image) -> None:
    configure("edit")
    skill = Edit()
    skill.setup("cpu")
    images = {"img_1": picture}
    output = skill.call({"instruction": "snow", "image": "img_1"}, images=images)
    assert output.text() == "Edited the image."
    ((_, made),) = output.images()
    assert made.size == picture.size
    assert made.tobytes() != picture.tobytes()


def test_inpaint_leaves_the_rest_as_it_is(
    configure: Callable[[str], None], picture: Image.Image
) -> None:
    configure("inpaint")
    skill = Inpaint()
    skill.setup("cpu")
    area = np.zeros((90, 150), dtype=bool)
    area[20:60, 30:100] = True
    arguments = {"image": "img_1", "mask": "mask_1", "prompt": "moss"}
    masks = {"mask_1": Mask.from_array(area)}
    output = skill.call(arguments, images={"img_1": picture}, masks=masks)
    ((_, made),) = output.images()
    before, after = np.asarray(picture), np.asarray(made)
    assert np.array_equal(before[~area], after[~area])
    assert (before[area] != after[area]).any()


@pytest.mark.parametrize("skill", [Generate(), Edit(), Inpaint()], ids=lambda skill: skill.name)
def test_steps_are_told(
    configure: Callable[[str], None], picture: Image.Image, skill: Generate | Edit | Inpaint
) -> None:
    configure(skill.name)
    skill.setup("cpu")
    given = {"prompt": "cat", "instruction": "cat", "image": "img_1", "mask": "mask_1"}
    arguments = {name: given[name] for name in skill.arguments.model_fields}
    masks = {"mask_1": Mask.from_array(np.ones((90, 150), dtype=bool))}
    told: list[Progress] = []
    with reporting_to([told.append]):
        watched = skill.call(arguments, images={"img_1": picture}, masks=masks)
    assert told == [Progress(done=step, total=2) for step in (1, 2)]
    unwatched = skill.call(arguments, images={"img_1": picture}, masks=masks)
    assert list(watched.images()) == list(unwatched.images())


@pytest.mark.parametrize(
    ("mask", "problem"),
    [
        (np.ones((150, 90), dtype=bool), "mask is for an image of 90 x 150 pixels, this one has"),
        (np.zeros((90, 150), dtype=bool), "mask is empty"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    picture: Image.Image, mask: np.ndarray, problem: str
) -> None:
    arguments = {"image": "img_1", "mask": "mask_1", "prompt": "moss"}
    with pytest.raises(BadSkillUse, match=problem):
        Inpaint().call(
            arguments, images={"img_1": picture}, masks={"mask_1": Mask.from_array(mask)}
        )


@pytest.mark.parametrize("words", ["", "  \n", "x" * 1001])
def test_words_have_a_length(words: str) -> None:
    with pytest.raises(BadSkillUse, match="prompt"):
        Generate().call({"prompt": words})


def test_sides_are_multiples_and_never_grow(picture: Image.Image) -> None:
    inpainter = DiffusionInpainter(side=512)
    assert inpainter._working_size(picture) == (144, 96)
    assert inpainter._working_size(picture.resize((4000, 1000))) == (512, 128)
    assert inpainter._working_size(picture.resize((3000, 2))) == (512, 16)


def test_a_pipeline_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(BadConfiguration, match="is a StableDiffusionPipeline; an editor is one of"):
        DiffusionEditor(model=str(folder / "generate")).load("cpu")


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot be loaded; give the name"):
        DiffusionPainter(model=str(tmp_path)).load("cpu")
