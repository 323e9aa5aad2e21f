"""Trajectories of plugins: made of their demonstrations, among those that the model knows."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.agent.session import SessionOptions, open_session
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage
from llava_plus.model.loading import load_model, load_processor
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.shipped import embedded_folder, familiar_skills
from llava_plus.model.training.examples import TeachesSkills, load_source
from llava_plus.model.training.recipe import Recipe, load_recipe
from llava_plus.model.training.runs import open_run
from llava_plus.model.training.trainer import train
from llava_plus.skills.calls import SkillSpec
from llava_plus.skills.demonstration import Demonstration
from llava_plus.skills.discovery import installed_skills, load_skill
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.bank import Bank
from llava_plus.training_data.catalogue import catalogue
from llava_plus.training_data.embedded import EmbeddedSource
from llava_plus.training_data.plugin_source import PluginSource
from llava_plus.training_data.renewing import renewed, with_other_figures
from llava_plus.training_data.slots import Filler

from ..model.tiny_models import third

MODULE = """
from typing import Annotated, Literal

from llava_plus.skills import Demonstration, ImageArgument, MaskArgument, Skill, SkillOutput
from pydantic import Field


class Tally(Skill):
    name = "tally"
    description = "Count things of one kind."
    demonstrations = (
        Demonstration("Where's a dog? Count on.", {"things": ["dog"]}, "Counted 4 dogs."),
        Demonstration(
            "is there a tree? look three times",
            {"things": ["tree"], "passes": 3},
            "Counted 12 trees.",
            answer="There are 12 trees.",
        ),
        Demonstration("count by hand", {"how": "hand"}, "Counted nothing."),
    )

    def run(
        self,
        image: ImageArgument,
        things: list[str] | None = None,
        passes: Annotated[int, Field(ge=1, le=4)] = 1,
        how: Literal["hand", "eye"] = "eye",
    ) -> SkillOutput: ...


class Paste(Skill):
    name = "paste"
    description = "Put the masked part of one image into another."
    demonstrations = (
        Demonstration(
            "put it into the other one",
            {"source": "img_1", "onto": "img_2"},
            "Pasted 1 part.",
            makes=("image", "mask"),
        ),
    )

    def run(self, source: ImageArgument, onto: ImageArgument, mask: MaskArgument) -> SkillOutput:
        ...


class Mute(Skill):
    name = "mute"
    description = "Show nothing of itself."

    def run(self, image: ImageArgument) -> SkillOutput: ...
"""


@pytest.fixture(scope="module", autouse=True)
def _plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A package of three skills, installed for these tests."""
    folder = tmp_path_factory.mktemp("plugins")
    info = folder / "tallying-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tallying\nVersion: 0\n")
    lines = [f"{name.lower()} = tallying:{name}" for name in ("Tally", "Paste", "Mute")]
    (info / "entry_points.txt").write_text("\n".join(["[llava_plus.skills]", *lines]))
    (folder / "tallying.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        installed_skills.cache_clear()
        yield
    installed_skills.cache_clear()


SMALL = {"scenes": 5, "corpus_groups": 1}
OURS = ["tally", "paste"]
BANK = Bank()


def source(**options: object) -> PluginSource:
    made = load_source("plugins", {**SMALL, "skills": OURS, **options}, seed=0)
    assert isinstance(made, PluginSource)
    return made


@pytest.fixture(scope="module")
def taught() -> list[Conversation]:
    """Thirty groups, all with plugins on offer."""
    made = source(share=1.0)
    return [example.conversation for index in range(30) for example in made.group(index)]


def uses_of(conversation: Conversation) -> list[str]:
    messages = [m for m in conversation.messages if isinstance(m, AssistantMessage)]
    return [use.name for message in messages for use in message.skill_uses]


def test_every_call_fits_its_spec(taught: list[Conversation]) -> None:
    for conversation in taught:
        schemas = {spec.name: spec.parameters for spec in conversation.skills}
        for message in conversation.messages:
            for use in getattr(message, "skill_uses", ()):
                jsonschema.validate(use.arguments, schemas[use.name])
                assert list(use.arguments) == [
                    name for name in schemas[use.name]["properties"] if name in use.arguments
                ], "in the order in which the grammar lets them be written"


def test_handles_stand_for_what_is_there(taught: list[Conversation]) -> None:
    pasted = [c for c in taught if "paste" in uses_of(c)]
    assert pasted
    for conversation in pasted:
        asked = conversation.messages[0]
        assert asked.role == "user"
        assert asked.images == ("img_1", "img_2")
        assert asked.marks
        assert asked.marks.masks == ("mask_1",)
    made = {m.text for c in pasted for m in c.messages if isinstance(m, SkillMessage)}
    assert any(text.endswith("Made img_3, mask_2.") for text in made)


def test_a_plugin_is_not_called_because_it_is_there(taught: list[Conversation]) -> None:
    calling = [bool(set(OURS) & set(uses_of(c))) for c in taught]
    assert 0.5 < sum(calling) / len(calling) < 0.7
    assert all(set(OURS) & {spec.name for spec in c.skills} for c in taught)


def test_things_numbers_findings_and_order_change(taught: list[Conversation]) -> None:
    calls = [
        use.arguments
        for conversation in taught
        for message in conversation.messages
        for use in getattr(message, "skill_uses", ())
        if use.name == "tally"
    ]
    assert len({str(call.get("things")) for call in calls}) > 30
    assert {call.get("passes") for call in calls} == {None, 2, 3, 4}, "as the spec allows"
    findings = {m.text for c in taught for m in c.messages if isinstance(m, SkillMessage)}
    assert len([text for text in findings if text.startswith("Counted ")]) > 30
    assert len({conversation.skills[0].name for conversation in taught}) > 8


def test_answers_tell_what_was_found(taught: list[Conversation]) -> None:
    said = [
        (before.text, after.text)
        for conversation in taught
        for before, after in zip(conversation.messages, conversation.messages[1:], strict=False)
        if isinstance(before, SkillMessage) and before.result.name == "tally"
    ]
    for found, answer in said:
        numbers = re.findall(r"\d+", found.split("\n")[0])
        assert all(number in answer for number in numbers), (found, answer)
    assert any(answer.startswith("There are ") for _, answer in said), "in the plugin's own words"
    assert any(found.startswith("Error: ") for found, _ in said)


def test_a_group_depends_on_seed_and_number_alone() -> None:
    one, other = source(share=0.9), source(share=0.9)
    assert [e.conversation for e in one.group(3)] == [e.conversation for e in other.group(3)]
    assert one.group(3)[0].conversation != one.group(4)[0].conversation
    assert one.held_out(1)[0][0].conversation != one.group(0)[0].conversation


def test_the_rest_of_the_groups_are_the_embedded_sources_own() -> None:
    mixed = source(share=0.25, group_size=1)
    plain = EmbeddedSource(**SMALL, group_size=1)
    same = [
        mixed.group(index)[0].conversation == plain.group(index)[0].conversation
        for index in range(100)
    ]
    assert 65 < sum(same) < 85


def test_it_teaches_the_catalogue_and_the_plugins() -> None:
    made = source(skills=None)
    assert isinstance(made, TeachesSkills)
    assert {*catalogue(), *OURS} <= set(made.skills), "and others that are installed"
    assert "mute" not in made.skills
    assert any("Counted" in text for text in source(share=1.0, corpus_groups=5).corpus())


def test_it_teaches_only_the_plugins_that_are_named() -> None:
    made = source(skills=["tally"], share=1.0)
    assert set(made.skills) == {*catalogue(), "tally"}
    offered = {spec.name for e in made.group(0) for spec in e.conversation.skills}
    assert "tally" in offered
    assert "paste" not in offered


def test_requests_are_not_among_the_examples_that_they_are_ranked_by(
    taught: list[Conversation],
) -> None:
    assert all(not spec.examples for spec in taught[0].skills if spec.name in OURS)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"skills": ["mute"]}, "'mute' has no demonstrations"),
        ({"skills": []}, "no skill of another package"),
        ({"share": 0}, "share is 0"),
        ({"shares": 0.5}, "shares"),
    ],
)
def test_what_cannot_be_learned_is_told(options: dict[str, object], told: str) -> None:
    with pytest.raises(BadConfiguration, match=told):
        source(**options)


def test_calls_and_answers_are_learned_and_nothing_else(taught: list[Conversation]) -> None:
    """With the tokenizer and the template of the model that ships."""
    renderer = ChatRenderer(load_processor(str(embedded_folder())))
    conversation = next(c for c in taught if uses_of(c) == ["tally"])
    rendered = renderer.training(conversation, lambda handle: [])
    pairs = list(zip(rendered.ids, rendered.learned, strict=True))
    learned, read = (
        renderer.tokenizer.decode([token for token, on in pairs if on is wanted])
        for wanted in (True, False)
    )
    asked, _, found, answered = conversation.messages
    assert "tally" in learned
    assert answered.text in learned
    assert asked.text in read
    assert asked.text not in learned
    assert found.text in read


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model after one step on plugins."""
    sizes = {"vocabulary": 600, "hidden": 32, "layers": 1, "heads": 2, "feed_forward": 64}
    eyes = {"image_size": 32, "patch": 16, "vision_hidden": 16, "vision_layers": 1}
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "architecture": {**sizes, **eyes, "vision_heads": 2},
            "data": {"source": "plugins", "options": {**SMALL, "skills": OURS, "group_size": 2}},
            "steps": 1,
            "groups_per_step": 1,
            "validation_groups": 1,
            "shortlist": False,
        }
    )
    folder = tmp_path_factory.mktemp("run")
    assert train(recipe, folder)
    return folder / "model"


async def test_a_model_is_offered_the_plugins_and_what_else_it_was_taught(model: Path) -> None:
    assert familiar_skills(str(model)) == {*catalogue(), *OURS}
    async with open_session(SessionOptions(lmm=str(model), plan=True)) as session:
        offered = {spec.name for spec in session.skills}
    shipped = {name for name, one in installed_skills().items() if one.package == "llava-plus"}
    assert offered & shipped <= set(catalogue())
    assert {"detect", "mute", *OURS} <= offered


def test_the_shipped_recipe_goes_on_from_the_shipped_model(tmp_path: Path) -> None:
    data = {"source": "plugins", "options": {**SMALL, "skills": OURS}}
    recipe = load_recipe("plugin", {"data": data})
    run = open_run(recipe, tmp_path, "cpu")
    shipped, _ = load_model(str(embedded_folder()), device="cpu", dtype="float32")
    name, weights = next(iter(shipped.named_parameters()))
    assert torch.equal(run.model.get_parameter(name), weights)
    assert run.processor.chat_template == load_processor(str(embedded_folder())).chat_template


def test_a_run_starts_from_a_llava_alone(tmp_path: Path) -> None:
    start = third(tmp_path / "start")
    data = {"source": "plugins", "options": {**SMALL, "skills": OURS}}
    recipe = load_recipe("plugin", {"start_from": str(start), "data": data})
    with pytest.raises(BadConfiguration, match=r"start_from: .*Idefics3.* not a LLaVA"):
        open_run(recipe, tmp_path / "run", "cpu")


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), which=st.integers(0, 2))
def test_a_renewed_demonstration_fits_and_says_what_it_asks_for(seed: int, which: int) -> None:
    skill = load_skill("tally")
    shown = skill.demonstrations[which]
    new = renewed(shown, skill.spec, Filler.of(BANK, random.Random(seed)))
    jsonschema.validate(new.call(skill.spec), skill.spec.parameters)
    assert new.arguments.keys() == shown.arguments.keys()
    assert all(thing in new.request for thing in new.arguments.get("things", ()))
    assert {"2": "two", "3": "three", "4": "four"}.get(
        str(new.arguments.get("passes")), ""
    ) in new.request


def test_articles_and_plurals_follow_the_thing() -> None:
    nouns = [("tree", "trees"), ("owl", "owls")]
    shown = Demonstration(
        "Is a tree here, or {many} trees?", {"thing": "tree"}, "Found 2 trees.", "A tree and more."
    )
    filler = Filler(random.Random(0), nouns, chosen={"a": "owl", "as": "owls"})

    def taking(**schema: object) -> Demonstration:
        parameters = {"type": "object", "properties": {"thing": schema}}
        return renewed(shown, SkillSpec(name="x", description="", parameters=parameters), filler)

    new = taking(type="string")
    assert new.request == "Is an owl here, or {many} owls?"
    assert (new.finding, new.answer) == ("Found 2 owls.", "An owl and more.")
    assert taking(enum=["tree", "bush"]) == shown, "it knows no owls"


def test_figures_change_alike_where_they_are_told() -> None:
    shown = Demonstration("the 3 largest", {}, "3 of 40: 55 %, 1 m (img_2)", "55 % of 40 parts.")
    for seed in range(20):
        new = with_other_figures(shown, random.Random(seed))
        match = re.fullmatch(r"3 of (\d\d): (\d\d) %, 1 m \(img_2\)", new.finding)
        assert match
        assert new.answer == f"{match[2]} % of {match[1]} parts."
    kept = Demonstration("how many", {}, "Counted 2 cars.", "There are two cars.")
    assert with_other_figures(kept, random.Random(0)) == kept
