"""Reinforcement learning: what a rollout keeps, what is learned from, and that a reward rises."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from llava_plus.model.local import LocalLMM
from llava_plus.model.reinforcement.gains import gain
from llava_plus.model.reinforcement.policy_trainer import PolicyTrainer
from llava_plus.model.reinforcement.recipe import Reinforce
from llava_plus.model.reinforcement.rollouts import Rollout, SamplingLMM
from llava_plus.model.reinforcement.run import reinforce
from llava_plus.model.small_weights import four_bits
from llava_plus.model.training.recipe import load_recipe
from llava_plus.skills.errors import BadConfiguration
from trl.trainer.grpo_config import GRPOConfig

from .talking import Talk
from .tiny_models import FAMILIES, load_model, load_processor

HERE = Path(__file__).parent
RECIPE: dict[str, Any] = {
    "engine": "grpo",
    "name": "tiny",
    "environment": {"name": "none"},
    "rewards": {"letters": 1.0},
    "steps": 2,
    "tasks_per_step": 2,
    "rollouts_per_task": 4,
    "rows": 4,
    "max_tokens": 6,
    "served": False,
    "learning_rate": 0.003,
    "precision": "float32",
    "save_every": 1,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in FAMILIES.items()}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def sampling(folder: Path, **options: Any) -> SamplingLMM:
    policy = SamplingLMM(load_model(folder), load_processor(str(folder)), max_tokens=6, **options)
    policy.seed(1)
    return policy


def trainer_of(folder: Path, run: Path, runner: asyncio.Runner, **options: Any) -> PolicyTrainer:
    model, processor = load_model(folder), load_processor(str(folder))
    arguments = GRPOConfig(
        str(run), max_steps=1, per_device_train_batch_size=4, gradient_accumulation_steps=2,
        num_generations=4, use_cpu=True, bf16=False, activation_checkpointing=False, report_to=[],
        shuffle_dataset=False, save_strategy="no", disable_tqdm=True, learning_rate=0.01,
    )  # fmt: skip
    policy = SamplingLMM(model, processor, max_tokens=6, served=options.pop("served", False))
    return PolicyTrainer(
        model,
        processor,
        arguments,
        environment=Talk(),
        policy=policy,
        tasks=2,
        rewards={"letters": 1.0},
        runner=runner,
        **options,
    )


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_rollout_is_the_served_prompt_and_what_was_sampled(
    family: str, folders: dict[str, Path]
) -> None:
    policy = sampling(folders[family], served=False)
    episode = await Talk().play(policy, 0)
    rollout = policy.rollout
    first, second = (
        policy.renderer.prompt(
            episode.conversation.model_copy(update={"messages": episode.conversation.messages[:n]}),
            lambda handle: rollout.images[0].ids,
        ).ids
        for n in (1, 3)
    )
    assert rollout.prompt == first
    # Between the replies stand the finding and what the template writes around it, as served.
    between = [token for token, own in zip(rollout.ids, rollout.sampled, strict=True) if not own]
    decode = policy.renderer.tokenizer.decode
    assert second[-len(between) :] == between
    assert "2 dogs" in decode(between)
    assert "2 dogs" not in decode(
        [token for token, own in zip(rollout.ids, rollout.sampled, strict=True) if own]
    )
    assert sum(rollout.sampled) == len(rollout.log_odds) == len(rollout.offsets)


@pytest.mark.parametrize("served", [False, True], ids=["own odds", "served"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learned_from_has_the_odds_it_was_sampled_with(
    family: str, served: bool, folders: dict[str, Path], tmp_path: Path, runner: asyncio.Runner
) -> None:
    trainer = trainer_of(folders[family], tmp_path, runner, served=served)
    played = trainer._play(["0", "1"], trainer)
    for rollout in trainer._rollouts:
        with torch.no_grad():
            places, odds = trainer._log_odds(trainer.model, rollout)
        assert places.tolist() == [n for n, own in enumerate(rollout.sampled) if own]
        # What decoding added is kept in sixteen bits.
        near = 2e-3 if served else 1e-4
        torch.testing.assert_close(odds, torch.tensor(rollout.log_odds), atol=near, rtol=0)
    assert played["env_mask"] == [[int(own) for own in r.sampled] for r in trainer._rollouts]


@pytest.mark.parametrize(("family", "kl"), [("llava", 0.0), ("qwen_vl", 0.1)])
def test_the_loss_pushes_chosen_tokens_by_their_advantage_and_no_others(
    family: str, kl: float, folders: dict[str, Path], tmp_path: Path, runner: asyncio.Runner
) -> None:
    trainer = trainer_of(folders[family], tmp_path, runner, kl=kl)
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1
    batch = trainer._generate_and_score_completions([{"prompt": "0"} for _ in range(4)])
    assert batch["advantages"].abs().max() > 0.1
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    got = trainer.model.lm_head.weight.grad.clone()
    # By hand: minus advantage times log-probability, over all chosen tokens. The policy is where
    # it started, so the distance from there has no slope yet.
    trainer.model.zero_grad()
    by_hand, count = torch.zeros(()), 0
    for rollout, advantage in zip(trainer._rollouts, batch["advantages"].tolist(), strict=True):
        by_hand = by_hand - advantage * chosen_odds(trainer, rollout).sum()
        count += sum(rollout.sampled)
    (by_hand / count).backward()
    torch.testing.assert_close(got, trainer.model.lm_head.weight.grad, atol=1e-6, rtol=1e-3)


def chosen_odds(trainer: PolicyTrainer, rollout: Rollout) -> torch.Tensor:
    """The log-probabilities of sampled tokens, from a plain forward pass over everything."""
    ids = torch.tensor([[*rollout.prompt, *rollout.ids]])
    logits = trainer.model(input_ids=ids, **trainer._seen(rollout, ids)).logits[0].float()
    logits[:, trainer._policy.never] = -torch.inf
    odds = torch.log_softmax(logits[:-1], dim=-1).gather(1, ids[0, 1:, None]).squeeze(1)
    return odds[len(rollout.prompt) - 1 :][torch.tensor(rollout.sampled)]


def test_a_rounded_policy_plays_and_learns_with_what_four_bits_would_leave(
    folders: dict[str, Path], tmp_path: Path, runner: asyncio.Runner
) -> None:
    trainer = trainer_of(folders["llava"], tmp_path, runner, rounded=True)
    matrix = trainer.model.model.language_model.layers[0].mlp.up_proj.weight
    start = matrix.detach().clone()
    seen = []
    log_odds = trainer._log_odds

    def watched(*arguments: Any) -> Any:
        seen.append(matrix.detach().clone())
        return log_odds(*arguments)

    trainer._log_odds = watched  # type: ignore[method-assign]
    trainer.train()
    codes, scales = four_bits(start)
    rounded = (codes.float().view(*scales.shape, 64) * scales.float()[..., None]).view_as(start)
    assert all(torch.equal(one, rounded) for one in seen)
    assert not torch.equal(rounded, start)
    assert not torch.equal(matrix, start), "the exact weights have learned"


def test_a_reward_rises(folders: dict[str, Path], tmp_path: Path) -> None:
    environment = Talk(finding=False)
    recipe = Reinforce.model_validate(
        {**RECIPE, "start_from": str(folders["llava"]), "steps": 8, "held_out": 2, "max_tokens": 1,
         "tasks_per_step": 1, "rollouts_per_task": 32, "rows": 32, "save_every": 8,
         "learning_rate": 0.03}
    )  # fmt: skip
    assert reinforce(recipe, tmp_path, environment=environment)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    rewards = [line["rewards/letters/mean"] for line in lines]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.6, rewards
    gains = json.loads((tmp_path / "gains.json").read_text())
    assert gains["letters"]["tasks"] == 2
    assert "silent" not in gains
    assert environment.closed
    assert LocalLMM.load(tmp_path / "model").renderer.format.begin == "<tool_call>"


def test_a_stopped_run_goes_on_as_if_it_had_not(folders: dict[str, Path], tmp_path: Path) -> None:
    recipe = Reinforce.model_validate({**RECIPE, "start_from": str(folders["llava"])})
    assert reinforce(recipe, tmp_path / "whole", environment=Talk())
    assert not reinforce(recipe, tmp_path / "parts", environment=Talk(), stop_after=0)
    assert reinforce(recipe, tmp_path / "parts", environment=Talk())
    whole, parts = (load_model(tmp_path / name / "model") for name in ("whole", "parts"))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)
    other_recipe = recipe.model_copy(update={"steps": 3})
    with pytest.raises(BadConfiguration, match="begun with another recipe"):
        reinforce(other_recipe, tmp_path / "parts", environment=Talk())


def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Killed in the midst of the third step's turns, and once more while it saved."""
    settings = {**RECIPE, "start_from": str(folders["llava"]), "steps": 3, "held_out": 1}
    recipe = Reinforce.model_validate(settings)
    file, folder = tmp_path / "recipe.json", tmp_path / "killed"
    file.write_text(recipe.model_dump_json(), encoding="utf-8")
    plays = recipe.held_out + 2 * recipe.tasks_per_step * recipe.rollouts_per_task + 3
    done = subprocess.run(
        [sys.executable, str(HERE / "talking.py"), str(file), str(folder), str(plays)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "learned.safetensors").write_bytes(b"half")
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 3.0, "reward": 0.1}\n{"st')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums over several threads may differ in the last bit
    assert reinforce(recipe, folder, environment=Talk())
    assert reinforce(recipe, tmp_path / "whole", environment=Talk())
    torch.set_num_threads(threads)
    whole, killed = (load_model(path / "model") for path in (tmp_path / "whole", folder))
    for one, other in zip(whole.parameters(), killed.parameters(), strict=True):
        assert torch.equal(one, other)
    rewards = [
        [(line["step"], line["reward"]) for line in map(json.loads, log.splitlines())]
        for log in ((path / "log.jsonl").read_text() for path in (tmp_path / "whole", folder))
    ]
    assert rewards[0] == rewards[1]
    assert len(rewards[0]) == 3


def test_rewards_that_the_environment_lacks_are_named(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    recipe = Reinforce.model_validate(
        {**RECIPE, "start_from": str(folders["llava"]), "rewards": {"kindness": 1.0}}
    )
    with pytest.raises(BadConfiguration, match="no 'kindness'; it has letters, silent"):
        reinforce(recipe, tmp_path, environment=Talk())


def test_recipes_are_read_by_their_engine(tmp_path: Path) -> None:
    shipped = load_recipe("grpo")
    assert isinstance(shipped, Reinforce)
    assert shipped.rounded
    path = tmp_path / "odd.yaml"
    path.write_text(json.dumps({**RECIPE, "rows": 3}))
    with pytest.raises(BadConfiguration, match="8 rollouts a step are no multiple of 3"):
        load_recipe(str(path))


def test_gains_are_those_of_the_same_tasks() -> None:
    found = gain([0, 0, 0, 0, 1], [1, 1, 1, 0, 1])
    assert (found.before, found.after, found.better, found.worse) == (0.2, 0.8, 3, 0)
    assert found.chance == 0.25, "three heads or three tails of three coins"
    assert found.low <= 0.6 <= found.high
    assert found.low >= 0
    assert gain([1, 0], [0, 1]).chance == 1
