"""Restyle on tiny diffusion pipelines and ControlNets, through the real loading code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from llava_plus.skills.backends import LabelledRegion
from llava_plus.skills.backends.ade20k import colour_of
from llava_plus.skills.backends.controlnet import ControlNetRestyler
from llava_plus.skills.errors import BadConfiguration, BadSkillUse, SkillFailed
from llava_plus.skills.geometry import Mask
from llava_plus.skills.progress import Progress, reporting_to
from llava_plus.skills.readiness import readiness
from llava_plus.skills.restyle import Restyle
from PIL import Image, ImageDraw

from .tiny_diffusion import save_controlnet, save_inpainter, save_painter, save_xl_painter
from .tiny_labellers import save_segformer

QUICK: dict[str, Any] = {"steps": 2, "side": 64, "seed": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    save_painter(folder / "painter")
    save_xl_painter(folder / "xl")
    save_inpainter(folder / "inpainter")
    save_controlnet(folder / "edges")
    save_controlnet(folder / "regions", seed=1)
    save_controlnet(folder / "xl-edges", xl=True)
    save_segformer(folder / "labeller")
    return folder


@pytest.fixture(scope="module")
def restyler(folder: Path) -> Callable[..., ControlNetRestyler]:
    """A loaded backend on the tiny models."""

    def load(model: str = "painter", edges: str = "edges", **options: Any) -> ControlNetRestyler:
        names = {"model": model, "edges_model": edges, "regions_model": "regions"}
        paths = {setting: str(folder / name) for setting, name in names.items()}
        backend = ControlNetRestyler(**{**paths, **QUICK, **options})
        backend.load("cpu")
        return backend

    return load


@pytest.fixture(scope="module")
def house() -> Image.Image:
    """A dark square on light ground, 150 x 90 pixels."""
    page = Image.new("RGB", (150, 90), "white")
    ImageDraw.Draw(page).rectangle((40, 20, 90, 70), fill="navy")
    return page


@pytest.fixture
def configure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Write settings that name the tiny models, and a labeller."""

    def write(labeller: str) -> None:
        models = {"model": "painter", "edges_model": "edges", "regions_model": "regions"}
        lines = ["[skills.restyle]", "steps = 2", "side = 64", "seed = 7"]
        lines += [f"{setting} = '{folder / name}'" for setting, name in models.items()]
        lines += ["[skills.label_regions]", "backend = 'segformer'", f"model = '{labeller}'"]
        (tmp_path / "llava-plus.toml").write_text("\n".join(lines))
        monkeypatch.chdir(tmp_path)

    return write


def test_the_skill_keeps_edges_or_regions(
    folder: Path, configure: Callable[[str], None], house: Image.Image
) -> None:
    configure(str(folder / "labeller"))
    assert readiness("restyle").lacks == ""
    skill = Restyle()
    skill.setup("cpu")
    pictures = []
    for control in ({}, {"control": "edges"}, {"control": "regions"}):
        arguments = {"image": "img_1", "prompt": "a cottage", **control}
        output = skill.call(arguments, images={"img_1": house})
        kept = control.get("control", "edges")
        assert output.text() == f"Made a new picture with the {kept} of the image."
        ((_, made),) = output.images()
        assert made.size == house.size
        pictures.append(made.tobytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_regions_need_the_weights_of_another_skill(
    configure: Callable[[str], None], house: Image.Image
) -> None:
    configure("nobody/labeller")
    skill = Restyle()
    skill.setup("cpu")
    arguments = {"image": "img_1", "prompt": "cat", "control": "regions"}
    with pytest.raises(SkillFailed, match=r"nobody/labeller are not here: .* pull label_regions"):
        skill.call(arguments, images={"img_1": house})


@pytest.mark.parametrize(("model", "edges"), [("painter", "edges"), ("xl", "xl-edges")])
def test_the_seed_the_words_and_the_layout_decide_the_picture(
    restyler: Callable[..., ControlNetRestyler], house: Image.Image, model: str, edges: str
) -> None:
    backend = restyler(model, edges)
    made = backend.keep_edges(house, "cat").tobytes()
    assert made == backend.keep_edges(house, "cat").tobytes()
    assert made != backend.keep_edges(house, "dog").tobytes()
    assert made != backend.keep_edges(house.rotate(30), "cat").tobytes()


@pytest.mark.parametrize(("model", "edges"), [("painter", "edges"), ("xl", "xl-edges")])
def test_steps_are_told(
    restyler: Callable[..., ControlNetRestyler], house: Image.Image, model: str, edges: str
) -> None:
    told: list[Progress] = []
    with reporting_to([told.append]):
        restyler(model, edges).keep_edges(house, "cat")
    assert told == [Progress(done=step, total=2) for step in (1, 2)]


def test_without_conditioning_the_layout_does_not_count(
    restyler: Callable[..., ControlNetRestyler], house: Image.Image
) -> None:
    backend = restyler(conditioning=0)
    made, other = (backend.keep_edges(image, "cat") for image in (house, house.rotate(30)))
    assert made.tobytes() == other.tobytes()


def test_the_model_sees_the_edges_that_canny_finds(
    restyler: Callable[..., ControlNetRestyler], house: Image.Image
) -> None:
    backend = restyler(side=96, faint=50, strong=150)
    seen = watch(backend._control("edges_model"))
    backend.keep_edges(house, "cat")
    expected = cv2.Canny(np.asarray(house.resize((96, 64))), 50, 150) == 255
    assert 100 < expected.sum() < 200
    assert np.array_equal(seen[0], np.stack([expected] * 3))


def watch(control: Any) -> list[np.ndarray]:
    """What a ControlNet is shown from now on, as colours from 0 to 1 (3, height, width)."""
    seen: list[np.ndarray] = []

    def note(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        seen.append(inputs["controlnet_cond"][0].numpy())

    control.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def region(label: str, left: int, right: int) -> LabelledRegion:
    """A region of a picture of 96 x 64 pixels, from its top to its bottom."""
    pixels = np.zeros((64, 96), dtype=bool)
    pixels[:, left:right] = True
    return LabelledRegion(label=label, mask=Mask.from_array(pixels), is_thing=False)


def test_the_model_sees_regions_in_the_colours_of_ade20k(
    restyler: Callable[..., ControlNetRestyler],
) -> None:
    backend = restyler(side=96)
    seen = watch(backend._control("regions_model"))
    regions = [region("sky", 0, 20), region("fog", 20, 50), region("dining table", 50, 96)]
    backend.keep_regions(Image.new("RGB", (96, 64)), regions, "cat")
    expected = np.zeros((64, 96, 3))
    expected[:, :20] = (6, 230, 230)
    expected[:, 50:] = (255, 6, 82)
    assert np.allclose(seen[0] * 255, expected.transpose(2, 0, 1))
    with pytest.raises(SkillFailed, match=r"no region .* has a label of ADE20K; found: fog"):
        backend.keep_regions(Image.new("RGB", (96, 64)), [regions[1]] * 2, "cat")


@pytest.mark.parametrize(
    ("label", "colour"),
    [
        ("wall", (120, 120, 120)),
        ("Brick wall", (120, 120, 120)),
        ("screen", (0, 204, 255)),
        ("flag", (92, 0, 255)),
        ("hot dog", (255, 204, 0)),
        ("unicorn", None),
    ],
)
def test_a_label_has_the_colour_of_its_first_name(
    label: str, colour: tuple[int, int, int] | None
) -> None:
    assert colour_of(label) == colour


def test_a_backend_can_do_without_regions(restyler: Callable[..., ControlNetRestyler]) -> None:
    backend = restyler(regions_model="")
    assert len(backend.weights.download().files) == 0
    with pytest.raises(SkillFailed, match="`regions_model` is empty"):
        backend.keep_regions(Image.new("RGB", (96, 64)), [region("sky", 0, 96)], "cat")


def test_an_image_without_edges_is_told(restyler: Callable[..., ControlNetRestyler]) -> None:
    with pytest.raises(SkillFailed, match="no edge stands out"):
        restyler().keep_edges(Image.new("RGB", (80, 60), "grey"), "cat")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"image": "img_2"}, "there is no image 'img_2' here"),
        ({"prompt": "  "}, "prompt: String should have at least 1 character"),
        ({"prompt": "x" * 1001}, "prompt: String should have at most 1000 characters"),
        ({"control": "depth"}, "control: Input should be 'edges' or 'regions'"),
    ],
)
def test_a_bad_argument_is_named(house: Image.Image, change: dict[str, str], problem: str) -> None:
    arguments = {"image": "img_1", "prompt": "cat", **change}
    with pytest.raises(BadSkillUse, match=problem):
        Restyle().call(arguments, images={"img_1": house})


@pytest.mark.parametrize(
    ("model", "edges", "problem"),
    [
        ("painter", "xl-edges", "its cross_attention_dim is 32, that of the model 16"),
        ("xl", "edges", "its cross_attention_dim is 16, that of the model 32"),
        ("inpainter", "edges", "can't find a pipeline linked to StableDiffusionInpaint"),
        ("painter", "painter/unet", "is a UNet2DConditionModel, not a ControlNetModel"),
        ("painter", "nothing", "as `edges_model` in the settings"),
        ("nothing", "edges", "as `model` in the settings"),
    ],
)
def test_models_that_do_not_match_are_refused(
    restyler: Callable[..., ControlNetRestyler], model: str, edges: str, problem: str
) -> None:
    with pytest.raises(BadConfiguration, match=problem):
        restyler(model, edges)


def test_only_the_weights_that_are_missing_are_told(
    folder: Path, settings: Callable[..., None], tmp_path: Path
) -> None:
    settings("restyle", model=folder / "painter", edges_model="nobody/a", regions_model="nobody/b")
    assert readiness("restyle").lacks == (
        "its weights nobody/a and nobody/b are not here: llava-plus skills pull restyle"
    )
    settings("restyle", model="nobody/c", edges_model=tmp_path, regions_model=folder / "regions")
    assert readiness("restyle").lacks == (
        f"the folder {tmp_path} does not hold the whole model; "
        "its weights nobody/c are not here: llava-plus skills pull restyle"
    )
