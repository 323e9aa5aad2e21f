"""TRL's GRPO with rollouts of our own: served prompts, and a loss on sampled tokens alone."""

from __future__ import annotations

import asyncio
import copy
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from ..finetuning.checkpoints import load_learned, save_learned
from ..small_weights import LANGUAGE, rounded_weights
from .environment import Environment
from .rollouts import Rollout, SamplingLMM

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["PolicyTrainer"]

Tensors = dict[str, Any]


class PolicyTrainer(GRPOTrainer):
    """Plays the first `tasks` of an environment and learns from the tokens that the policy chose.

    Log-probabilities are computed rollout by rollout, without padding, from the tokens and the
    images that the policy read: TRL would render the prompt anew for its images, without the
    skills on offer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: GRPOConfig,
        *,
        environment: Environment,
        policy: SamplingLMM,
        tasks: int,
        rewards: Mapping[str, float],
        kl: float = 0.0,
        rounded: bool = False,
        runner: asyncio.Runner,
    ) -> None:
        from datasets import Dataset

        start = copy.deepcopy(model).requires_grad_(False).eval() if kl else None
        args.reward_weights = list(rewards.values())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)
            super().__init__(
                model=model,
                reward_funcs=[_reward(name) for name in rewards],
                args=args,
                # A prompt is the number of a task; the environment has what it says.
                train_dataset=Dataset.from_dict({"prompt": [str(n) for n in range(tasks)]}),
                processing_class=processor,
                rollout_func=self._play,
            )
        self._environment, self._policy, self._runner = environment, policy, runner
        self._learner = model
        self._rounded = rounded
        self._rollouts: list[Rollout] = []
        self._rows: Sequence[int] = ()
        self._idle: Sequence[bool] = ()
        if start is not None:
            # TRL would read its copy from where the model came from, and ours may be packed.
            self.beta = kl
            self.ref_model = self.accelerator.prepare_model(start, evaluation_mode=True)

    # --- rollouts

    def _play(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        """Play the tasks of a step, each as often as it is named."""
        key = f"{self.args.seed} {self.state.global_step} {self.accelerator.process_index}"
        self._policy.seed(zlib.crc32(key.encode()))
        self._rollouts, scores = [], []
        self._learner.eval()
        with self.accelerator.autocast():
            for prompt in prompts:
                self._policy.begin()
                episode = self._runner.run(self._environment.play(self._policy, int(prompt)))
                self._rollouts.append(self._policy.rollout)
                scores.append(dict(episode.rewards))
        self._learner.train()
        chosen = [odds for rollout in self._rollouts for odds in rollout.log_odds]
        self._metrics["train"]["surprise"].append(-sum(chosen) / len(chosen))
        return {
            "prompt_ids": [rollout.prompt for rollout in self._rollouts],
            "completion_ids": [rollout.ids for rollout in self._rollouts],
            "env_mask": [list(map(int, rollout.sampled)) for rollout in self._rollouts],
            "logprobs": None,  # type: ignore[dict-item]  # only vLLM's are looked at
            "scores": scores,
        }

    def _generate_and_score_completions(self, inputs: list[Tensors]) -> Tensors:
        self._rows, self._idle = range(len(inputs)), [False] * len(inputs)
        with warnings.catch_warnings():
            # TRL 1.16 asks transformers 5.23 by a name that it has given up.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            scored: Tensors = super()._generate_and_score_completions(inputs)
        # Shuffled and split with all else, so that a batch knows which rollouts it has.
        scored["rollout"] = torch.arange(len(inputs))
        return scored

    # --- the loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass, and where it is due the rollouts before it."""
        with self._weights():
            loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[no-untyped-call]
        return loss

    def _weights(self) -> AbstractContextManager[None]:
        return rounded_weights(self._learner, LANGUAGE) if self._rounded else nullcontext()

    def _compute_loss(self, model: torch.nn.Module, inputs: Tensors) -> torch.Tensor:
        self._rows = inputs["rollout"].tolist()
        # Where all rollouts of a task are equally good, nothing is learned from them.
        self._idle = [self.beta == 0 and one == 0 for one in inputs["advantages"].tolist()]
        loss: torch.Tensor = super()._compute_loss(model, inputs)  # type: ignore[no-untyped-call]
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Log-probabilities [rollouts, tokens] of what was chosen behind prompts, 0 elsewhere."""
        # With no graph at all, a batch of nothing but idle rollouts could not be gone back.
        anchor = next(p for p in self._learner.parameters() if p.requires_grad)
        nothing = anchor.flatten()[0] * 0 + input_ids.new_zeros(logits_to_keep).float()
        known: dict[tuple[int | str, ...], torch.Tensor] = {}
        rows = []
        for row, idle in zip(self._rows, self._idle, strict=True):
            rollout = self._rollouts[row]
            if not idle and rollout.key not in known:
                places, values = self._log_odds(model, rollout)
                known[rollout.key] = nothing.index_put((places,), values)
            rows.append(nothing if idle else known[rollout.key])
        stacked = torch.stack(rows)
        return stacked, torch.zeros_like(stacked).detach(), None

    def _log_odds(
        self, model: torch.nn.Module, rollout: Rollout
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the policy chose, behind the prompt, and the log-probability of each choice."""
        device = self.accelerator.device
        places = torch.tensor(rollout.sampled, device=device).nonzero().squeeze(1)
        ids = torch.tensor([[*rollout.prompt, *rollout.ids]], device=device)
        with self.accelerator.autocast():
            output = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                # The logits that a token is chosen from stand at the token before it.
                logits_to_keep=places + len(rollout.prompt) - 1,
                use_cache=False,
                **self._seen(rollout, ids),
            )
        logits = output.logits[0].float()
        logits[:, self._policy.never] = -torch.inf
        if rollout.offsets[0] is not None:
            offsets = torch.stack([one for one in rollout.offsets if one is not None])
            logits = logits + offsets.to(device).float()
        chosen = ids[0, len(rollout.prompt) :][places]
        odds = torch.log_softmax(logits / self.temperature, dim=-1)
        return places, odds.gather(1, chosen[:, None]).squeeze(1)

    def _seen(self, rollout: Rollout, ids: torch.Tensor) -> Tensors:
        """The images of a rollout as the model takes them."""
        if not rollout.images:
            return {}
        names = rollout.images[0].features
        seen = {
            name: torch.cat([image.features[name] for image in rollout.images]).to(ids.device)
            for name in names
        }
        if any(image.token_types for image in rollout.images) and self._takes_types:
            types = torch.zeros_like(ids)
            for place, image in zip(rollout.places, rollout.images, strict=True):
                types[0, place.start : place.stop] = torch.tensor(image.token_types)
            seen["mm_token_type_ids"] = types
        return seen

    @property
    def _takes_types(self) -> bool:
        """Whether the model tells images by token types (Qwen-VL and its kin); LLaVA refuses."""
        return hasattr(self._learner.base_model, "get_rope_index")

    # --- checkpoints

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: TRL's would tell of its own way with prompts."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A checkpoint: what learns, under the names that it has in memory."""
        if self.args.should_save:
            save_learned(self._learner, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        load_learned(model or self._learner, Path(resume_from_checkpoint))


def _reward(name: str) -> Callable[..., list[float | None]]:
    """A reward function as TRL wants it, which takes what the environment has scored."""

    def reward(scores: Sequence[Mapping[str, float | None]], **kwargs: Any) -> list[float | None]:
        return [score[name] for score in scores]

    reward.__name__ = name
    return reward
