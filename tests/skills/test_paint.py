"""Generate, edit and inpaint on tiny diffusion pipelines, through the real loading code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llava_plus.skills.backends.diffusion import (
    DiffusionEditor,
    DiffusionInpainter,
    DiffusionPainter,
)
from llava_plus.skills.errors import BadConfiguration, BadSkillUse, SkillFailed
from llava_plus.skills.geometry import Mask
from llava_plus.skills.paint import Edit, Generate, Inpaint
from llava_plus.skills.progress import Cancelled, Progress, reporting_to
from PIL import Image

from .tiny_diffusion import (
    save_editor,
    save_inpainter,
    save_painter,
    save_xl_editor,
    save_xl_painter,
)
from .tiny_flux import save_klein, save_kontext

QUICK: dict[str, Any] = {"steps": 2, "side": 64, "seed": 7}
PIPELINES = {
    "generate": save_painter,
    "edit": save_editor,
    "inpaint": save_inpainter,
    "xl": save_xl_painter,
    "xl-edit": save_xl_editor,
    "kontext": save_kontext,
    "klein": save_klein,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    for name, save in PIPELINES.items():
        save(folder / name)
    return folder


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((150, 90)).convert("RGB")


@pytest.fixture
def configure(folder: Path, settings: Callable[..., None]) -> Callable[..., None]:
    """Write settings that name the tiny pipeline of a skill, or another."""
    return lambda skill, model=None: settings(skill, model=folder / (model or skill), **QUICK)


@pytest.fixture(scope="module")
def editor(folder: Path) -> Callable[..., DiffusionEditor]:
    """A loaded editor on a tiny pipeline."""

    def load(model: str, **options: Any) -> DiffusionEditor:
        editor = DiffusionEditor(model=str(folder / model), **{**QUICK, **options})
        editor.load("cpu")
        return editor

    return load


@pytest.mark.parametrize("model", ["generate", "xl", "kontext", "klein"])
def test_generate_makes_a_picture_of_the_words(configure: Callable[..., None], model: str) -> None:
    configure("generate", model)
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


def test_edit_keeps_the_size(configure: Callable[..., None], picture: Image.Image) -> None:
    configure("edit")
    skill = Edit()
    skill.setup("cpu")
    images = {"img_1": picture}
    output = skill.call({"instruction": "snow", "image": "img_1"}, images=images)
    assert output.text() == "Edited the image."
    ((_, made),) = output.images()
    assert made.size == picture.size
    assert made.tobytes() != picture.tobytes()


@pytest.mark.parametrize("model", ["inpaint", "xl"])
def test_inpaint_leaves_the_rest_as_it_is(
    configure: Callable[..., None], picture: Image.Image, model: str
) -> None:
    configure("inpaint", model)
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


@pytest.mark.parametrize("model", ["edit", "xl-edit", "kontext", "klein"])
def test_every_editor_works_in_the_size_that_is_set(
    editor: Callable[..., DiffusionEditor], picture: Image.Image, model: str
) -> None:
    backend = editor(model, side=96)
    sizes = watch_sizes(backend)
    told: list[Progress] = []
    with reporting_to([told.append]):
        made = backend.edit(picture, "snow")
    assert sizes == {"shown": [(96, 64)], "painted": [(96, 64)]}
    assert told == [Progress(done=step, total=2) for step in (1, 2)]
    assert made.size == picture.size
    assert made.tobytes() == backend.edit(picture, "snow").tobytes(), "a seed decides"
    assert made.tobytes() != backend.edit(picture, "rain").tobytes(), "and so do the words"


def test_a_picture_that_nobody_waits_for_is_not_painted_to_its_end(
    editor: Callable[..., DiffusionEditor], picture: Image.Image
) -> None:
    backend = editor("edit", steps=4)
    told: list[Progress] = []
    with pytest.raises(Cancelled), reporting_to([told.append], until=lambda: len(told) == 2):
        backend.edit(picture, "snow")
    assert [progress.done for progress in told] == [1, 2]
    made = backend.edit(picture, "snow")
    assert made.tobytes() == editor("edit", steps=4).edit(picture, "snow").tobytes()


def watch_sizes(editor: DiffusionEditor) -> dict[str, list[tuple[int, int]]]:
    """The sizes of pictures that a pipeline encodes and decodes from now on."""
    sizes: dict[str, list[tuple[int, int]]] = {"shown": [], "painted": []}
    vae = editor._pipeline.vae

    def note(name: str, pixels: Any) -> None:
        sizes[name].append((pixels.shape[-1], pixels.shape[-2]))

    vae.encoder.register_forward_pre_hook(lambda _, given: note("shown", given[0]))
    vae.decoder.register_forward_hook(lambda _, __, made: note("painted", made))
    return sizes


@pytest.mark.parametrize("model", ["edit", "xl-edit"])
def test_faithfulness_counts(
    editor: Callable[..., DiffusionEditor], picture: Image.Image, model: str
) -> None:
    made, other = (editor(model, faithfulness=much).edit(picture, "snow") for much in (1, 5))
    assert made.tobytes() != other.tobytes()


def test_a_size_that_a_pipeline_refuses_is_told(
    editor: Callable[..., DiffusionEditor], picture: Image.Image
) -> None:
    with pytest.raises(SkillFailed, match=r"cannot edit this image: Image too small: 64.16"):
        editor("klein").edit(picture.resize((150, 40)), "snow")


def test_guidance_and_steps_are_the_pipelines_own_unless_they_are_set(
    editor: Callable[..., DiffusionEditor], picture: Image.Image
) -> None:
    backend = editor("kontext", steps=None)
    seen: list[float] = []
    backend._pipeline.transformer.register_forward_pre_hook(
        lambda _, __, given: seen.append(float(given["guidance"])), with_kwargs=True
    )
    backend.edit(picture, "snow")
    assert seen == [3.5] * 28
    backend.steps, backend.guidance = 1, 2.0
    backend.edit(picture, "snow")
    assert seen[28:] == [2.0]


def test_a_picture_is_as_large_as_the_pipeline_makes_it_unless_that_is_set(folder: Path) -> None:
    painter = DiffusionPainter(model=str(folder / "generate"), steps=2)
    painter.load("cpu")
    assert painter.paint("cat").size == (64, 64), "eight cells of the U-Net, eight pixels each"
    painter.side = 96
    assert painter.paint("cat").size == (96, 96)


@pytest.mark.parametrize("skill", [Generate(), Edit(), Inpaint()], ids=lambda skill: skill.name)
def test_steps_are_told(
    configure: Callable[..., None], picture: Image.Image, skill: Generate | Edit | Inpaint
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


def test_without_a_side_images_get_the_area_that_the_pipeline_is_made_for(
    editor: Callable[..., DiffusionEditor], picture: Image.Image
) -> None:
    assert editor("edit", side=None)._working_size(picture) == (80, 48)
    assert editor("kontext", side=None)._working_size(picture) == (1328, 800)
    assert editor("kontext", side=None)._working_size(picture.resize((4000, 4000))) == (1024, 1024)


def test_a_pipeline_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(BadConfiguration, match="is a StableDiffusionPipeline; an editor is one of"):
        DiffusionEditor(model=str(folder / "generate")).load("cpu")


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="cannot be loaded; give the name"):
        DiffusionPainter(model=str(tmp_path)).load("cpu")
