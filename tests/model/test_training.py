"""Training: a run that learns, stops, goes on as if it had not, and gives a model that loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from llava_plus.model.conversation import Conversation
from llava_plus.model.lmm import Replied
from llava_plus.model.local import LocalLMM
from llava_plus.model.training.examples import Example
from llava_plus.model.training.recipe import Recipe, load_recipe
from llava_plus.model.training.runs import Progress
from llava_plus.model.training.trainer import learning_rate, train
from llava_plus.skills import ImageStore
from llava_plus.skills.errors import BadConfiguration
from llava_plus.training_data.catalogue import catalogue
from safetensors.torch import load_file
from transformers import AutoConfig

from .conftest import ARCHITECTURE, CORPUS

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "architecture": ARCHITECTURE.model_dump() | {"vocabulary": 600},
    "data": {
        "source": "embedded",
        "options": {"group_size": 2, "scenes": 10, "corpus_groups": 10},
    },
    "steps": 8,
    "groups_per_step": 2,
    "learning_rate": 0.003,
    "warmup_steps": 2,
    "precision": "float32",
    "save_every": 3,
    "validate_every": 4,
    "validation_groups": 2,
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    folder = tmp_path_factory.mktemp("unbroken")
    log: list[Progress] = []
    assert train(Recipe.model_validate(RECIPE), folder, report=log.append)
    return folder, log


def test_the_loss_falls(unbroken: tuple[Path, list[Progress]]) -> None:
    _, log = unbroken
    assert [progress.step for progress in log] == list(range(1, 9))
    measured = [p.validation_loss for p in log if p.validation_loss is not None]
    assert len(measured) == 2
    assert measured[1] < measured[0] < log[0].loss


def test_stopping_anywhere_changes_nothing(
    unbroken: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """A run stopped after every step takes the same steps and ends with the same weights."""
    recipe = Recipe.model_validate(RECIPE)
    sittings = 1
    while not train(recipe, tmp_path, stop_after=0):
        sittings += 1
    assert sittings == recipe.steps
    folder, log = unbroken
    ours = load_file(tmp_path / "model" / "model.safetensors")
    theirs = load_file(folder / "model" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [progress.step for progress in log]
    assert [line["loss"] for line in lines] == [progress.loss for progress in log]


async def test_what_was_trained_is_loaded_like_any_model(
    unbroken: tuple[Path, list[Progress]],
) -> None:
    lmm = LocalLMM.load(unbroken[0] / "model", max_tokens=8)
    events = [event async for event in lmm.reply(Conversation().ask("hello"), ImageStore())]
    assert isinstance(events[-1], Replied)


def test_a_model_keeps_which_skills_it_was_taught(unbroken: tuple[Path, list[Progress]]) -> None:
    config = AutoConfig.from_pretrained(unbroken[0] / "model")
    assert config.familiar_skills == sorted(catalogue())


def test_a_run_can_start_from_a_model(
    unbroken: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    start = unbroken[0] / "model"
    still = {**RECIPE, "steps": 1, "start_from": str(start), "learning_rate": 1e-12}
    train(Recipe.model_validate(still), tmp_path)
    ours = load_file(tmp_path / "model" / "model.safetensors")
    for name, weights in load_file(start / "model.safetensors").items():
        torch.testing.assert_close(ours[name], weights, atol=1e-9, rtol=0)


def test_a_run_begins_with_learning_to_see(tmp_path: Path) -> None:
    stage = {**RECIPE, "steps": 1, "alignment_steps": 3, "alignment_images": 80}
    heard: list[int] = []
    train(Recipe.model_validate(stage), tmp_path, aligned=heard.append)
    assert heard == [1, 2, 3]
    told = json.loads((tmp_path / "alignment.json").read_text(encoding="utf-8"))
    assert {"colour", "kind", "shape"} <= told.keys()
    assert all(0 <= share <= 1 for share in told.values())


def test_a_source_without_images_cannot_be_aligned_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind:
        def corpus(self) -> Iterator[str]:
            yield from CORPUS

        def group(self, index: int) -> list[Example]:
            return []

        def held_out(self, count: int) -> list[list[Example]]:
            return []

    monkeypatch.setattr("llava_plus.model.training.runs.load_source", lambda *_: Blind())
    with pytest.raises(BadConfiguration, match=r"'embedded'.*alignment_steps to 0"):
        train(Recipe.model_validate({**RECIPE, "alignment_steps": 1}), tmp_path)


def test_weights_that_are_learned_rounded_do_well_rounded(
    unbroken: tuple[Path, list[Progress]], tmp_path: Path
) -> None:
    """The same run with rounding from its middle on: the same until then, and other afterwards."""
    wide = {**RECIPE["architecture"], "hidden": 64, "heads": 2}
    recipe = {**RECIPE, "architecture": wide, "steps": 4}
    logs: dict[int | None, list[Progress]] = {}
    for begin in (None, 2):
        rounding = Recipe.model_validate({**recipe, "round_from": begin})
        train(rounding, tmp_path / str(begin), report=logs.setdefault(begin, []).append)
    exact, rounded = ([progress.loss for progress in logs[begin]] for begin in (None, 2))
    assert exact[:2] == rounded[:2]
    assert exact[2] != rounded[2]
    assert exact[3] == pytest.approx(rounded[3], rel=0.1)


def test_a_run_is_not_continued_as_another(unbroken: tuple[Path, list[Progress]]) -> None:
    other = {**RECIPE, "architecture": {**RECIPE["architecture"], "layers": 1}}
    with pytest.raises(BadConfiguration, match="another model"):
        train(Recipe.model_validate(other), unbroken[0])


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = Recipe.model_validate({**RECIPE, "steps": 100, "warmup_steps": 10})
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[9] == rates[50] == recipe.learning_rate
    assert rates[:10] == sorted(rates[:10])
    assert 0 < rates[99] < rates[80] < rates[61] < recipe.learning_rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: [", "not YAML"),
        ("just words", "keys and values"),
        ("name: x\nstepps: 3", "stepps"),
        ("name: x\nsteps: 3\ndata: {source: nowhere}", "nowhere"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=words):
        train(load_recipe(str(path)), tmp_path / "run")


def test_the_shipped_recipe_is_read() -> None:
    assert load_recipe("embedded").data.source == "embedded"
    with pytest.raises(BadConfiguration, match="shipped: embedded"):
        load_recipe("missing")
