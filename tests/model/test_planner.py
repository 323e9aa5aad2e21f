"""What a request wants next, as the planner that ships tells it and as one learns to."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.planner import Asked, Planner, PlanNetwork, as_states, plan_networks
from llava_plus.model.sentences import SentenceEncoder
from llava_plus.model.shortlist import Shortlist
from llava_plus.model.training.planner import Planned, train_planner
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.catalogue import catalogue

from .test_sentences import encoder_folder

__all__ = ["encoder_folder"]

ALL = sorted(catalogue())


@cache
def shipped() -> Planner:
    return Planner(Shortlist().encoder)


@pytest.fixture
def planner() -> Planner:
    return shipped()


def likeliest(planner: Planner, asked: Asked, called: list[str], offered: list[str]) -> str:
    outlook = planner(asked, called, offered)
    name = max(outlook.skills, key=outlook.skills.__getitem__)
    return name if outlook.for_call > 0 else "words"


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        (Asked("Blur every face, please.", image=True), ["detect", "adjust"]),
        (Asked("make it black and white", image=True), ["adjust"]),
        (Asked("What does the sign say?", image=True), ["ocr"]),
        (Asked("Read the sign, then find the dog.", image=True), ["ocr", "detect"]),
        (Asked("Find the dog, then read the sign.", image=True), ["detect", "ocr"]),
        (Asked("draw me a lighthouse in a storm"), ["generate"]),
        (Asked("blur this", image=True, marked=True), ["adjust"]),
        (Asked("put a red sofa into mask_1", image=True, masked=True), ["inpaint"]),
        (Asked("Thank you, that is lovely.", image=True), []),
        (Asked("ha, my boss again"), []),
    ],
)
def test_the_steps_of_a_plan_and_its_end_are_foreseen(
    planner: Planner, asked: Asked, steps: list[str]
) -> None:
    for made in range(len(steps)):
        assert likeliest(planner, asked, steps[:made], ALL) == steps[made]
    assert likeliest(planner, asked, steps, ALL) == "words"


def test_a_wanted_skill_that_is_not_on_offer_speaks_for_words(planner: Planner) -> None:
    asked = Asked("What does the sign say?", image=True)
    assert planner(asked, [], ["detect", "ocr"]).for_call > 2
    assert planner(asked, [], ["detect", "adjust"]).for_call < -2
    assert planner(asked, [], []).for_call < -2


def test_another_skill_is_foreseen_where_one_is_on_offer(planner: Planner) -> None:
    asked = Asked("play some jazz in the kitchen", image=True)
    outlook = planner(asked, [], [*ALL, "play_music", "tide_times"])
    assert outlook.skills["play_music"] == outlook.skills["tide_times"]
    assert outlook.skills["play_music"] == max(outlook.skills.values())
    assert outlook.for_call > planner(asked, [], ALL).for_call


@given(
    st.text(max_size=200),
    st.lists(st.sampled_from([*ALL, "tide_times"]), max_size=6),
    st.sets(st.sampled_from([*ALL, "tide_times"])),
)
def test_whatever_is_said_the_odds_are_odds(
    text: str, called: list[str], offered: set[str]
) -> None:
    outlook = shipped()(Asked(text, image=True), called, offered)
    assert set(outlook.skills) == offered
    assert math.exp(outlook.call) + math.exp(outlook.words) == pytest.approx(1, abs=1e-4)


LESSONS = [
    Planned(Asked("rain or sun"), ("weather",)),
    Planned(Asked("rain or sun", marked=True), ("weather", "map")),
    Planned(Asked("where is it"), ("map",)),
    Planned(Asked("hello there"), ()),
    Planned(Asked("sing a song"), None),
]


def test_a_planner_learns_its_lessons_and_is_kept(encoder_folder: Path, tmp_path: Path) -> None:
    encoder, losses = SentenceEncoder(str(encoder_folder)), list[float]()

    def learned() -> PlanNetwork:
        return train_planner(
            encoder, LESSONS, ["map", "weather"], layers=(0, 1), epochs=150,
            report=lambda step, steps, loss: losses.append(loss),
        )  # fmt: skip

    network = learned()
    assert losses[-1] < 0.4 * losses[0]
    network.save(tmp_path / "planner-0.safetensors")
    kept = Planner(encoder, plan_networks(tmp_path))
    for lesson in LESSONS:
        wanted = ["song"] if lesson.skills is None else [*lesson.skills, "words"]
        for made, name in enumerate(wanted):
            offered = ["map", "weather", "song"]
            assert likeliest(kept, lesson.asked, wanted[:made], offered) == name
    again = learned().state_dict()
    assert all(torch.equal(value, again[key]) for key, value in network.state_dict().items())


def test_what_was_called_is_told_by_number_and_by_the_last_one() -> None:
    states = as_states(["map", "weather"], Asked("", marked=True), ["map", "map", "weather"])
    assert states[0] == [0, 0, 0, 0, 1, 0]
    assert states[2] == [2, 0, 1, 0, 1, 0]
    assert states[3] == [2, 1, 0, 1, 1, 0]


def a_network(skills: list[str], *, layers: tuple[int, ...] = (3,), seed: int = 0) -> PlanNetwork:
    torch.manual_seed(seed)
    return PlanNetwork(skills, read=384, layers=layers, width=48).eval()


def test_several_networks_tell_the_mean_of_what_each_tells(tmp_path: Path) -> None:
    encoder, asked = Shortlist().encoder, Asked("Blur every face, please.", image=True)
    for seed in (0, 1):
        a_network(ALL, seed=seed).save(tmp_path / f"planner-{seed}.safetensors")
    networks = plan_networks(tmp_path)
    alone = [Planner(encoder, [network])(asked, [], ALL) for network in networks]
    both = Planner(encoder, networks)(asked, [], ALL)
    ahead = [one.skills["ocr"] - one.skills["tag"] for one in (*alone, both)]
    assert ahead[0] != ahead[1]
    assert ahead[2] == pytest.approx((ahead[0] + ahead[1]) / 2, abs=1e-4)


def test_eight_bits_keep_what_a_network_tells(tmp_path: Path) -> None:
    encoder, asked = Shortlist().encoder, Asked("Blur every face, please.", image=True)
    network = a_network(ALL)
    network.save(tmp_path / "planner-0.safetensors")
    told = Planner(encoder, [network])(asked, [], ALL)
    kept = Planner(encoder, plan_networks(tmp_path))(asked, [], ALL)
    assert kept.skills == pytest.approx(told.skills, abs=0.05)


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_a_planner_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "planner-0.safetensors").write_bytes(content)
    with pytest.raises(BadConfiguration, match=r"planner-0\.safetensors cannot be read"):
        plan_networks(tmp_path)


def test_a_folder_without_a_planner_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"holds no planner-.*train-planner makes them"):
        plan_networks(tmp_path)


def test_networks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a_network(ALL).save(tmp_path / "planner-0.safetensors")
    for stranger in (a_network(ALL[1:]), a_network(ALL, layers=(6,))):
        stranger.save(tmp_path / "planner-1.safetensors")
        with pytest.raises(BadConfiguration, match=r"planner-1.* knows other skills or layers"):
            plan_networks(tmp_path)
