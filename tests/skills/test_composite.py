"""Skills made of skills: what runs when, what a failure does, and weights that are held once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest
import torch
from llava_plus.agent.drawing import annotate
from llava_plus.skills import ImageArgument, ImageStore, Mask, Skill, SkillOutput, SkillUse
from llava_plus.skills.calls import SkillResult
from llava_plus.skills.caption import Caption
from llava_plus.skills.composite import Composite, Step, the_image
from llava_plus.skills.detect import Detect
from llava_plus.skills.detect_all import DetectAll
from llava_plus.skills.discovery import installed_skills
from llava_plus.skills.errors import BadConfiguration, SkillFailed
from llava_plus.skills.ground_caption import GroundCaption
from llava_plus.skills.memory import held_bytes
from llava_plus.skills.overview import Overview
from llava_plus.skills.phrases import things_in
from llava_plus.skills.progress import Progress
from llava_plus.skills.readiness import readiness, usable_skills, with_used
from llava_plus.skills.runner import SkillRunner
from llava_plus.skills.tag import Tag
from llava_plus.skills.wording import detections_summary
from llava_plus.skills.worker import create_app
from PIL import Image

from ..serving import png, serving
from ..toy_skills import Climb, Cover, Crash, Look, Noop, Refuse, Said, Scribble
from .test_worker import call, upload
from .tiny_captioners import save_blip
from .tiny_embedders import save_siglip
from .tiny_models import save_owlv2

MEGABYTE = 1_000_000
RED = Image.new("RGB", (8, 6), "red")
BARRIER = threading.Barrier(2, timeout=10)


class Told(SkillOutput):
    outputs: dict[str, str]
    missing: dict[str, str]

    def summary(self) -> str:
        return ", ".join(self.outputs.values())


class Meet(Skill):
    """Comes back only when another call has come as well."""

    name = "meet"
    description = "Wait for the other."
    parallel = 2

    def run(self, text: str = "met") -> Said:
        BARRIER.wait()
        return Said(said=text)


class Alone(Skill):
    """May not be called while it is at work."""

    name = "alone"
    description = "Work alone."

    def __init__(self) -> None:
        self.at_work = False

    def run(self) -> Said:
        assert not self.at_work
        self.at_work = True
        time.sleep(0.05)
        self.at_work = False
        return Said(said="done")


class Heavy(Skill):
    """Holds a megabyte of weights while it is set up."""

    name = "heavy"
    description = "Hold something."
    awake: ClassVar[list[Heavy]] = []

    def setup(self, device: str) -> None:
        self.model = torch.nn.Linear(250, 1000, bias=False)
        self.awake.append(self)

    def teardown(self) -> None:
        del self.model
        self.awake.remove(self)

    def run(self) -> Said:
        return Said(said="held")


class Unready(Skill):
    name = "unready"
    description = "Cannot be set up."

    def setup(self, device: str) -> None:
        raise BadConfiguration("the weights are not there")

    def run(self) -> Said:
        return Said(said="never")


def nothing(known: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def left_out(known: Mapping[str, Any]) -> None:
    return None


def saying(*names: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Arguments that repeat what the steps of these names said."""
    return lambda known: {"text": " and ".join(known[name].said for name in names)}


def composite(*parts: Step, needs: tuple[str, ...] = ()) -> Composite:
    """A composite of these steps that tells what each of them said."""

    class Made(Composite):
        name = "made"
        description = "Run some steps."
        steps = parts
        uses = needs

        def run(
            self,
            text: str = "",
            image: ImageArgument | None = None,
            masks: tuple[Any, ...] = (),
        ) -> Told:
            outputs, missing = self.run_steps(text=text, image=image, masks=masks)
            said = {name: output.text() for name, output in outputs.items()}
            return Told(outputs=said, missing=missing)

    return Made()


def told(skill: Composite, **arguments: Any) -> Told:
    skill.setup("cpu")
    output = skill.run(**arguments)
    assert isinstance(output, Told)
    return output


class Outer(Composite):
    name = "outer"
    description = "Hold what the inner one holds."
    steps = (Step("inner", nothing), Step("heavy", nothing))

    def run(self) -> Told:
        outputs, missing = self.run_steps()
        return Told(outputs={name: part.text() for name, part in outputs.items()}, missing=missing)


class Inner(Outer):
    name = "inner"
    steps = (Step("heavy", nothing),)


class Chicken(Outer):
    name = "chicken"
    steps = (Step("egg", nothing, optional=True),)


class Egg(Outer):
    name = "egg"
    steps = (Step("chicken", nothing),)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The parts are installed, as a package would be."""
    parts = (Meet, Alone, Heavy, Unready, Outer, Inner, Chicken, Egg)
    toys = (Climb, Cover, Crash, Look, Noop, Refuse, Scribble)
    info = tmp_path / "parts-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parts\nVersion: 0\n")
    lines = [f"{part.name} = {part.__module__}:{part.__qualname__}" for part in (*parts, *toys)]
    (info / "entry_points.txt").write_text("\n".join(["[llava_plus.skills]", *lines]))
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        installed_skills.cache_clear()
        yield
    installed_skills.cache_clear()


# --- steps


def test_steps_that_do_not_need_each_other_run_at_once() -> None:
    skill = composite(
        Step("meet", lambda known: {"text": "left"}, name="left"),
        Step("meet", lambda known: {"text": "right"}, name="right"),
        Step("noop", saying("left", "right"), after=("left", "right")),
    )
    assert told(skill).outputs == {"left": "left", "right": "right", "noop": "left and right"}


def test_a_skill_that_works_alone_gets_one_step_after_another() -> None:
    assert len(told(composite(*(Step("alone", nothing, name=name) for name in "abc"))).outputs) == 3


def test_a_step_knows_the_arguments_and_what_it_comes_after() -> None:
    seen: list[Mapping[str, Any]] = []

    def look(known: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(known)
        return {"text": known["text"]}

    skill = composite(
        Step("noop", look, name="first"),
        Step("noop", look, name="second", after=("first",)),
        Step("noop", look, name="third", after=("second",)),
    )
    told(skill, text="hello")
    given = {"text", "image", "masks"}
    assert [set(known) - given for known in seen] == [set(), {"first"}, {"second"}]
    with pytest.raises(TypeError):
        seen[0]["text"] = "changed"  # type: ignore[index]


def test_a_step_without_arguments_is_left_out_and_those_after_it_do_without() -> None:
    skill = composite(
        Step("noop", left_out),
        Step("meet", left_out),
        Step("look", lambda known: None if "noop" in known else {"image": RED}, after=("noop",)),
    )
    output = told(skill)
    assert output.outputs == {"look": "8 x 6, (255, 0, 0)"}
    assert output.missing == {}


def test_images_and_masks_are_passed_on_and_no_step_draws_on_what_others_see() -> None:
    mask = Mask.from_array(np.eye(4, dtype=bool))
    skill = composite(
        Step("scribble", the_image),
        Step("look", the_image, after=("scribble",)),
        Step("cover", lambda known: {"mask": known["masks"][0]}),
    )
    output = told(skill, image=Image.new("RGB", (8, 6), "blue"), masks=(mask,))
    assert output.outputs["look"] == "8 x 6, (0, 0, 255)"
    assert output.outputs["cover"] == "It covers 25%."


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((), "a composite without steps"),
        ((Step("noop", nothing, after=("look",)),), "'noop' comes after 'look', which is none"),
        ((Step("noop", nothing), Step("noop", nothing)), "'noop' is the name of more than one"),
        ((Step("noop", nothing, name="text"),), "'text' is the name of more than one"),
        ((Step("noop", nothing, after=("noop",)),), "no step is first: 'noop' before 'noop'"),
        (
            (Step("noop", nothing, after=("look",)), Step("look", the_image, after=("noop",))),
            "no step is first: 'noop' before 'look' before 'noop'",
        ),
        ((Step("gone", nothing),), "no skill 'gone' is installed"),
        ((Step("unready", nothing),), "the weights are not there"),
    ],
)
def test_steps_that_do_not_fit_are_named_when_it_is_set_up(
    parts: tuple[Step, ...], words: str
) -> None:
    with pytest.raises(BadConfiguration, match=words):
        composite(*parts).setup("cpu")


def test_skills_that_are_made_of_each_other_are_named_and_take_nothing_else_down() -> None:
    with pytest.raises(BadConfiguration, match="steps of each other: 'egg' and 'chicken'"):
        Egg().setup("cpu")
    assert "calculate" in usable_skills()
    assert readiness("egg").lacks == ""


# --- failures


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Step("refuse", nothing), "there is nothing to find here"),
        (Step("noop", lambda known: {"text": 7}), "noop: text: Input should be a valid string"),
    ],
)
def test_a_step_that_fails_takes_the_call_down_unless_it_is_optional(
    part: Step, words: str
) -> None:
    with pytest.raises(SkillFailed, match=f"the step '{part.skill}' of made failed: {words}"):
        told(composite(Step("climb", lambda known: {"steps": 1}), part))
    may_fail = Step(part.skill, part.arguments, optional=True)
    output = told(composite(Step("climb", lambda known: {"steps": 1}), may_fail))
    assert output.outputs == {"climb": "there"}
    assert output.missing[part.skill].startswith(words)


def test_a_crash_is_no_failure_that_may_be_borne() -> None:
    with pytest.raises(RuntimeError, match="a secret") as crash:
        told(composite(Step("crash", nothing, optional=True)))
    assert crash.value.__notes__ == ["This was in the step 'crash' of the skill 'made'."]


def test_what_an_optional_step_lacks_is_told() -> None:
    skill = composite(Step("noop", nothing), Step("gone", nothing, optional=True))
    assert (skill.uses, skill.may_use) == (("noop",), ("gone",))
    assert told(skill).missing == {"gone": "the skill 'gone' is not installed"}
    with pytest.raises(BadConfiguration, match="no skill 'gone'"):
        composite(Step("gone", nothing, optional=True), needs=("gone",)).setup("cpu")


async def test_progress_of_a_step_is_that_of_the_call() -> None:
    skill = composite(
        Step("climb", lambda known: {"steps": 2, "pause": 0.15}),
        Step("noop", nothing, after=("climb",)),
    )
    heard: list[Progress] = []
    runner = SkillRunner([skill])
    await runner.call(
        SkillUse(id="call_1", name="made", arguments={}),
        images={},
        masks={},
        store=ImageStore(),
        deadline=time.monotonic() + 10,
        watch=heard.append,
    )
    runner.close()
    assert heard[:2] == [Progress(done=1, total=2), Progress(done=2, total=2)]
    assert heard[-1] == Progress(done=2, total=2, what="parts")


# --- what is held


def test_what_the_parts_hold_is_seen_however_deep_and_let_go_of() -> None:
    skill = Outer()
    skill.setup("cpu")
    assert skill.run().summary() == "held, held"
    assert held_bytes([skill]) == 2 * MEGABYTE
    skill.teardown()
    assert held_bytes([skill]) == 0
    assert Heavy.awake == []


def test_a_part_that_cannot_be_set_up_lets_the_others_go() -> None:
    with pytest.raises(BadConfiguration):
        composite(Step("heavy", nothing), Step("unready", nothing)).setup("cpu")
    assert Heavy.awake == []


def test_a_skill_lacks_what_any_of_its_parts_lacks() -> None:
    assert with_used("outer", "egg") == ["heavy", "inner", "outer", "chicken", "egg"]
    lacks = readiness("detect_all").lacks
    assert lacks.endswith("are not here: llava-plus skills pull tag")
    assert {"outer", "inner"} < set(usable_skills())
    assert not {"detect_all", "ground_caption", "overview"} & set(usable_skills())


# --- the composites that ship


WORDS = ("dog", "red car", "sea", "t" * 101)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_siglip(folder / "tag")
    save_blip(folder / "caption")
    save_owlv2(folder / "detect")
    (folder / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return folder


@pytest.fixture
def use(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the settings of the tiny models, but for the skills named."""
    tables = {
        "tag": f'model = "{models / "tag"}"\nvocabulary = "{models / "words.txt"}"\nthreshold = 0',
        "caption": f'model = "{models / "caption"}"\nlongest = 8',
        "detect": f'backend = "owlv2"\nmodel = "{models / "detect"}"\nthreshold = 0',
        "ocr": "threads = 1",
    }
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("LLAVA_PLUS_CONFIG", str(file))

    def write(*without: str) -> None:
        kept = [f"[skills.{skill}]\n{tables[skill]}" for skill in tables if skill not in without]
        file.write_text("\n".join(kept), encoding="utf-8")

    return write


def run(skill: Skill, image: Image.Image, **arguments: Any) -> Any:
    skill.setup("cpu")
    return skill.call({"image": "img_1", **arguments}, images={"img_1": image})


def drawn(output: SkillOutput, image: Image.Image) -> bool:
    data = output.model_dump(mode="json")
    result = SkillResult(id="call_1", name="any", text=output.text(), data=data)
    return annotate(image, result) is not None


def test_everything_that_has_a_tag_is_looked_for(
    use: Callable[..., None], picture: Image.Image
) -> None:
    use()
    output = run(DetectAll(), picture)
    assert output.tags == run(Tag(), picture).tags
    labels = [tag.name for tag in output.tags if len(tag.name) <= 100]
    assert len(labels) == 3
    found = run(Detect(), picture, labels=labels)
    assert output.objects == found.objects
    first, second, *places = output.text().splitlines()
    assert first == output.summary()
    assert first.startswith("4 tags: ")
    assert second == detections_summary([thing.label for thing in found.objects])
    assert places == found.text().splitlines()[1:]
    assert drawn(output, picture)


def test_what_a_caption_names_is_looked_for(use: Callable[..., None], picture: Image.Image) -> None:
    use()
    output = run(GroundCaption(), picture)
    assert output.summary() == run(Caption(), picture).summary()
    assert list(output.asked) == things_in(output.caption) != []
    found = run(Detect(), picture, labels=list(output.asked))
    assert output.objects == found.objects
    assert output.text() == f"{output.caption}\n{found.text()}"
    assert drawn(output, picture)


def test_a_detector_that_knows_nothing_of_it_takes_nothing_away(
    use: Callable[..., None], picture: Image.Image
) -> None:
    use("detect")
    (first, second) = run(DetectAll(), picture).text().splitlines()
    assert first.startswith("4 tags: ")
    assert second.startswith("Without detect: this detector does not know 'red car'")
    assert second.endswith(".")
    assert len(second) < 330


def test_an_overview_tells_it_all(
    use: Callable[..., None], write: Callable[..., Image.Image]
) -> None:
    use()
    sign = write((400, 120), {(20, 30): "PLATFORM 3"})
    output = run(Overview(), sign)
    assert [line.text for line in output.lines] == ["PLATFORM 3"]
    grounded, listed = run(GroundCaption(), sign), run(DetectAll(), sign)
    told = [grounded.caption, *listed.text().splitlines(), "Read 1 line:", "PLATFORM 3"]
    assert output.text().splitlines() == told
    assert drawn(output, sign)


def test_an_overview_does_without_what_is_not_there(
    use: Callable[..., None], write: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    use("tag")
    monkeypatch.setenv("LLAVA_PLUS_OCR_BACKEND", "trocr")
    assert "overview" in usable_skills()
    output = run(Overview(), write((400, 120), {(20, 30): "PLATFORM 3"}))
    assert output.text().splitlines() == [
        output.caption,
        "Without tag: its weights google/siglip-base-patch16-224 are not here: "
        "llava-plus skills pull tag.",
        "Without ocr: its weights microsoft/trocr-base-handwritten are not here: "
        "llava-plus skills pull ocr.",
    ]


def test_a_worker_holds_what_a_composite_and_its_parts_share_once(
    use: Callable[..., None],
) -> None:
    use()
    parts: list[Skill] = [Caption(), Detect()]
    for part in parts:
        part.setup("cpu")
    alone = held_bytes(parts)
    app = create_app([Caption(), Detect(), GroundCaption()], memory=alone)
    with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        sha256 = upload(client, png("blue", 40, 30))
        body = {"arguments": {"image": "img_1"}, "images": {"img_1": sha256}}
        described = call(client, "caption", seconds=30, **body).json()
        grounded = call(client, "ground_caption", seconds=30, **body).json()
        assert grounded["data"]["caption"] == described["data"]["caption"]
        labels = body["arguments"] | {"labels": grounded["data"]["asked"]}
        found = call(client, "detect", seconds=30, **body | {"arguments": labels}).json()
        assert found["data"]["objects"] == grounded["data"]["objects"] != []
        assert app.state.runner.held == alone > 0


async def test_a_part_is_not_put_to_sleep_for_what_it_shares(
    use: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    use()
    slept: list[str] = []

    class Watched(Caption):
        def teardown(self) -> None:
            slept.append(self.name)
            super().teardown()

    runner = SkillRunner([Watched(), GroundCaption()])
    await runner.setup()
    needed = runner.held
    runner.close()
    runner = SkillRunner([Watched(), GroundCaption()], memory=needed)
    await runner.setup()
    assert runner.held == needed
    runner.close()
    assert slept == []
    assert caplog.records == []
