"""The environment of skills: its tasks, its scores, and results that are recorded and replayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import LocalDispatcher
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.reinforcement.environment import load_environment
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.model.training.examples import Example
from llava_plus.skills import (
    ImageArgument,
    ImageStore,
    Skill,
    SkillOutput,
    SkillProblem,
    SkillResult,
    SkillUse,
)
from llava_plus.skills.errors import BadConfiguration, WorkerUnavailable
from llava_plus.skills.images import encode_image
from llava_plus.training_data.environments.recorded import NotRecorded, RecordedDispatcher
from llava_plus.training_data.environments.rewards import REWARDS
from llava_plus.training_data.environments.skill_environment import SkillEnvironment
from llava_plus.training_data.environments.tasks import task_of
from llava_plus.training_data.evaluate import Case, ExpectedCall, Verdict
from PIL import Image
from pydantic import Field

SOURCE = '''
"""Lessons: of each group one request takes a crop, one takes nothing."""

from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.training.examples import Example
from llava_plus.skills import ImageRef, SkillResult, SkillUse
from llava_plus.skills.discovery import load_skill
from PIL import Image


class Lessons:
    def __init__(self, *, seed, first="Crop the left half."):
        self.first = first

    def corpus(self):
        return iter(())

    def group(self, index):
        skills = tuple(load_skill(name).spec for name in ("crop", "zoom", "ocr"))
        picture = Image.new("RGB", (64, 32), (index, 0, 0))
        ref = ImageRef(sha256=f"{index:064x}", media_type="image/png", width=64, height=32)
        asked = Conversation(skills=skills).ask(self.first, [ref])
        use = SkillUse(
            id="call_1", name="crop", arguments={"image": "img_1", "box": [0, 0, 0.5, 1]}
        )
        done = asked.reply(AssistantMessage(skill_uses=(use,))).add_result(
            SkillResult(id="call_1", name="crop", text="Cropped to 32 x 32 pixels.")
        )
        plain = Conversation(skills=skills).ask("Thank you.").reply(AssistantMessage(text="Sure."))
        answered = done.reply(AssistantMessage(text="Cropped to 32 x 32 pixels."))
        return [Example(answered, {"img_1": picture}), Example(plain, {})]

    def held_out(self, count):
        return [self.group(100 + index) for index in range(count)]
'''


@pytest.fixture(scope="module", autouse=True)
def _lessons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A data source and an environment, installed for these tests."""
    folder = tmp_path_factory.mktemp("lessons")
    info = folder / "lessons-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lessons\nVersion: 0\n")
    place = "llava_plus.training_data.environments.skill_environment:SkillEnvironment"
    (info / "entry_points.txt").write_text(
        "[llava_plus.data_sources]\nlessons = lessons:Lessons\n"
        f"[llava_plus.environments]\nlessons = {place}\n"
    )
    (folder / "lessons.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def crop(image: str = "img_1", right: float = 0.5) -> SkillUse:
    return SkillUse(id="mine", name="crop", arguments={"image": image, "box": [0, 0, right, 1]})


# --- scores


def played(plan: list[str], *said: str | tuple[str, str]) -> Verdict:
    """A turn: calls as (skill, what came of it), where `!` opens the kind of a problem."""
    turn = Conversation().ask_about("Go on.", ["img_1"])
    for number, one in enumerate(said):
        if isinstance(one, str):
            turn = turn.reply(AssistantMessage(text=one))
            continue
        name, found = one
        use = SkillUse(id=str(number), name=name, arguments={"n": number})
        problem = SkillProblem(kind=found[1:], message="no") if found.startswith("!") else None
        result = SkillResult(id=use.id, name=name, text="" if problem else found, error=problem)
        turn = turn.reply(AssistantMessage(skill_uses=(use,))).add_result(result)
    expect = [ExpectedCall(name=plan[0], arguments={"n": 0})] if plan else []
    return Verdict(Case(id="1", request="Go on.", expect=expect, then=plan[1:]), turn, True, 0.0)


@pytest.mark.parametrize(
    ("verdict", "scores"),
    [
        (
            played(["a", "b"], ("a", "Found 2."), ("b", "Made 3."), "It made 3."),
            {"right_skill": 1, "arguments_exact": 1, "arguments_valid": 1, "progress": 1,
             "plan_complete": 1, "answer_faithful": 1},
        ),
        (
            played(["a", "b"], ("a", "Found 2."), "It found 5."),
            {"right_skill": 1, "arguments_exact": 1, "arguments_valid": 1, "progress": 0.5,
             "plan_complete": 0, "answer_faithful": 0},
        ),
        (
            played(["a", "b"], ("a", "!SkillFailed"), "That did not work: no"),
            {"right_skill": 1, "arguments_exact": 1, "arguments_valid": 1, "progress": 0.5,
             "plan_complete": 1, "answer_faithful": 1},
        ),
        (
            # To call wrongly and give up is no way to be done.
            played(["a", "b"], ("a", "!BadSkillUse"), "That did not work: no"),
            {"right_skill": 1, "arguments_exact": 1, "arguments_valid": 0, "progress": 0.5,
             "plan_complete": 0, "answer_faithful": 1},
        ),
        (
            played(["a", "b"], ("a", "Found 2."), ("c", "Made 3."), "It made 3."),
            {"right_skill": 1, "arguments_exact": 1, "arguments_valid": 1, "progress": 0.5,
             "plan_complete": 0, "answer_faithful": 1},
        ),
        (
            played(["a"], "I know that."),
            {"right_skill": 0, "arguments_exact": 0, "progress": 0, "plan_complete": 0},
        ),
        (played([], "I know that."), {"left_alone": 1}),
        (
            played([], ("a", "Found 2."), "It found 2."),
            {"left_alone": 0, "arguments_valid": 1, "answer_faithful": 1},
        ),
    ],
)  # fmt: skip
def test_scores_by_hand(verdict: Verdict, scores: dict[str, float]) -> None:
    given = {name: reward(verdict) for name, reward in REWARDS.items()}
    assert {name: score for name, score in given.items() if score is not None} == scores


# --- recordings


class Halve(Skill):
    """Counts how often it runs."""

    name = "halve"
    description = "Take the left half."
    runs = 0

    def run(self, image: ImageArgument, seconds: float = 0) -> SkillOutput:
        type(self).runs += 1
        time.sleep(seconds)
        return Half(image=image.crop((0, 0, image.width // 2, image.height)))


class Half(SkillOutput):
    image: Any = Field(exclude=True)

    def summary(self) -> str:
        return f"Took {self.image.width} columns."

    def images(self) -> Iterator[tuple[str, Any]]:
        yield "half", self.image


def halve(image: str, **more: float) -> SkillUse:
    return SkillUse(id=f"of {image}", name="halve", arguments={"image": image, **more})


async def ask(dispatcher: RecordedDispatcher, use: SkillUse, grey: int) -> tuple[Any, ImageStore]:
    """One use on a grey picture, whose handle is the one that it names."""
    store = ImageStore()
    ref = store.add(encode_image(Image.new("RGB", (8, 4), (grey, grey, grey))))
    handle = use.arguments["image"]
    result = await dispatcher.dispatch(
        use, CallScope(images={handle: ref}, store=store, deadline=time.monotonic() + 5)
    )
    return result, store


async def test_what_was_asked_once_is_answered_without_a_worker(tmp_path: Path) -> None:
    Halve.runs = 0
    recording = RecordedDispatcher(tmp_path, LocalDispatcher([Halve()]))
    first, _ = await ask(recording, halve("img_1"), 10)
    again, _ = await ask(recording, halve("img_7"), 10)
    assert Halve.runs == 1, "the same picture under another handle"
    await ask(recording, halve("img_1"), 20)
    await ask(recording, halve("img_1", seconds=0.01), 10)
    assert Halve.runs == 3, "another picture, another argument"
    await recording.aclose()

    replaying = RecordedDispatcher(tmp_path)
    replayed, store = await ask(replaying, halve("img_3"), 20)
    assert replayed.text == "Took 4 columns."
    assert (first.id, again.id, replayed.id) == ("of img_1", "of img_7", "of img_3")
    assert store.image(replayed.artifacts[0].image).getpixel((0, 0)) == (20, 20, 20)
    with pytest.raises(NotRecorded, match="no result of 'halve' with"):
        await ask(replaying, halve("img_1"), 30)
    assert Halve.runs == 3


async def test_problems_of_a_skill_are_kept_and_those_of_workers_are_not(tmp_path: Path) -> None:
    recording = RecordedDispatcher(tmp_path, LocalDispatcher([Halve()]))
    wrong = halve("img_1").model_copy(update={"arguments": {"image": "img_1", "seconds": "long"}})
    refused, _ = await ask(recording, wrong, 10)
    assert refused.error.kind == "BadSkillUse"
    store = ImageStore()
    ref = store.add(encode_image(Image.new("RGB", (8, 4))))
    late = halve("img_1", seconds=2)
    with pytest.raises(WorkerUnavailable):
        await recording.dispatch(
            late, CallScope(images={"img_1": ref}, store=store, deadline=time.monotonic() + 0.2)
        )
    await recording.aclose()
    replaying = RecordedDispatcher(tmp_path)
    assert (await ask(replaying, wrong, 10))[0].error == refused.error
    with pytest.raises(NotRecorded):
        await ask(replaying, late, 0)


async def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    recording = RecordedDispatcher(tmp_path, LocalDispatcher([Halve()]))
    await ask(recording, halve("img_1"), 10)
    await recording.aclose()
    (path,) = tmp_path.glob("??/*.json")
    path.write_text("{")
    with pytest.raises(BadConfiguration, match=path.name):
        await ask(RecordedDispatcher(tmp_path), halve("img_1"), 10)
    with pytest.raises(BadConfiguration, match="there is no folder"):
        RecordedDispatcher(tmp_path / "none")


# --- turns


def lmm(*uses: SkillUse) -> ScriptedLMM:
    """Makes some calls and tells what the last of them brought."""
    return ScriptedLMM([*uses, lambda seen: seen.messages[-1].text])


async def test_a_turn_with_a_real_worker_is_played_again_without_one(tmp_path: Path) -> None:
    common = {"source": "lessons", "calls": [1, 1], "recordings": str(tmp_path)}
    live = load_environment("lessons", {**common, "findings": "live", "skills": ["crop"]}, 0)
    try:
        first = await live.play(lmm(crop()), 0)
    finally:
        await live.aclose()
    assert first.rewards["plan_complete"] == first.rewards["answer_faithful"] == 1
    replay = load_environment("lessons", {**common, "findings": "replay"}, 0)
    again = await replay.play(lmm(crop()), 0)
    assert again == first
    with pytest.raises(NotRecorded, match="no result of 'crop'"):
        await replay.play(lmm(crop(right=0.4)), 0)
    held_out = replay.play(lmm(crop()), 0, held_out=True)
    with pytest.raises(NotRecorded):
        await held_out  # other tasks, other pictures


async def test_nothing_is_learned_from_a_turn_that_a_skill_kept_too_long() -> None:
    class Slow(Halve):
        name = "crop"

        def run(self, image: ImageArgument, box: list[float]) -> SkillOutput:
            time.sleep(1)
            return Half(image=image)

    options = {"source": "lessons", "calls": [1, 1], "findings": "live", "turn_seconds": 0.2}
    environment = SkillEnvironment(dispatcher=LocalDispatcher([Slow()]), **options)
    episode = await environment.play(lmm(crop()), 0)
    assert set(episode.rewards.values()) == {None}
    await environment.aclose()


async def test_made_up_findings_are_the_same_for_the_same_call() -> None:
    environment = SkillEnvironment(source="lessons", offered=1)
    turns = [(await environment.play(lmm(crop()), 0)).conversation for _ in "ab"]
    assert turns[0] == turns[1]
    assert [spec.name for spec in turns[0].skills] == ["crop"], "what the task takes stays"
    alone = await environment.play(lmm(), 1)
    assert alone.rewards["left_alone"] == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"findings": "replay"}, "needs a folder: recordings"),
        ({"findings": "live"}, "needs workers, or skills to start"),
        ({"calls": [7, 9], "source": "lessons"}, "no example is a task that fits"),
        ({"finding": "live"}, "finding"),
    ],
)
async def test_options_that_do_not_fit_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadConfiguration, match=told):
        await SkillEnvironment(**options).play(lmm(crop()), 0)


def test_a_trajectory_that_went_wrong_is_no_task() -> None:
    asked = Conversation().ask("Go on.")
    use = SkillUse(id="1", name="a", arguments={})
    called = asked.reply(AssistantMessage(skill_uses=(use,)))
    found = SkillResult(id="1", name="a", text="Found 2.")
    failed = SkillResult(id="1", name="a", error=SkillProblem(kind="SkillFailed", message="no"))
    done = AssistantMessage(text="Done.")

    def task(conversation: Conversation) -> Any:
        return task_of(Example(conversation, {}), "1")

    good = task(called.add_result(found).reply(done))
    assert good.case.plan == ["a"]
    assert good.conversation == asked
    assert task(called.add_result(failed).reply(done)) is None
    assert task(called.add_result(found)) is None, "without an answer"
    assert task(asked.reply(done).ask("And?").reply(done)) is None, "of two turns"
