"""A recipe of reinforcement learning: `engine: grpo`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

__all__ = ["EnvironmentChoice", "Reinforce"]


class EnvironmentChoice(BaseModel):
    """Where turns are played: an entry point of `llava_plus.environments`, and its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any] = {}


class Reinforce(BaseModel):
    """What a policy starts from, where it acts, and what it is rewarded for.

    Of every task several rollouts are played, and each is learned from by how much better it is
    than the others (GRPO; Shao et al. 2024).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["grpo"]
    name: str
    start_from: str = "embedded"
    """A folder or a name on the hub; `embedded` is the model that ships in the package."""
    environment: EnvironmentChoice
    rewards: dict[str, float] = Field(min_length=1)
    """Which of the environment's rewards count, with their weights."""
    steps: PositiveInt
    tasks_per_step: PositiveInt = 4
    rollouts_per_task: int = Field(default=8, ge=2)
    rows: PositiveInt = 4
    """So many rollouts are learned from before their memory is given back."""
    max_tokens: PositiveInt = 256
    """The longest reply; a turn may have several."""
    temperature: float = Field(default=1.0, gt=0)
    served: bool = True
    """Sample as the model is served: under the grammar and with all that has a say in its replies.

    That keeps a row of the vocabulary for every token; for models with many words and long replies
    leave it out.
    """
    learning_rate: float = Field(default=1e-6, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    gradient_norm: float = Field(default=1.0, gt=0)
    kl: float = Field(default=0.0, ge=0)
    """How much staying near the start counts; above 0 a second copy of the model is held."""
    rounded: bool = False
    """Act and learn with the weights that four bits would leave, so that `pack` loses nothing."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    gradient_checkpointing: bool = False
    """Compute again what the backward pass needs: less memory, more time."""
    save_every: PositiveInt = 10
    held_out: int = Field(default=0, ge=0)
    """So many other tasks are played before and after, as the model is served."""
    seed: int = 0

    @model_validator(mode="after")
    def _whole_batches(self) -> Reinforce:
        rollouts = self.tasks_per_step * self.rollouts_per_task
        if rollouts % self.rows:
            raise ValueError(f"rows: {rollouts} rollouts a step are no multiple of {self.rows}")
        return self
