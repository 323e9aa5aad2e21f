"""What a policy learns in by trial: an environment that plays turns with it and scores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..conversation import Conversation
from ..extensions import create_extension
from ..lmm import LMM

__all__ = ["GROUP", "Environment", "Episode", "load_environment"]

GROUP = "llava_plus.environments"


@dataclass(frozen=True)
class Episode:
    """A turn that was played, and how good it was by each reward, from 0 to 1.

    A reward that does not apply is None. Where all are, as after a turn that a worker ended and
    not the policy, nothing is learned from it.
    """

    conversation: Conversation
    rewards: Mapping[str, float | None]


class Environment(Protocol):
    """Gives tasks by number, so that a run can stop and go on anywhere."""

    @property
    def rewards(self) -> Sequence[str]:
        """The names of what episodes are scored by."""
        ...

    async def play(self, lmm: LMM, number: int, *, held_out: bool = False) -> Episode:
        """Let the LMM take the turn of task `number`, always the same one.

        With `held_out` the task is one that training never has. Raises `WorkerUnavailable` for
        what only the operator can mend.
        """
        ...

    async def aclose(self) -> None:
        """Let go of workers and connections."""
        ...


def load_environment(name: str, options: Mapping[str, Any], seed: int) -> Environment:
    """Create an environment by its entry-point name. Raises `BadConfiguration`."""
    environment: Environment = create_extension(GROUP, "environment", name, options, seed)
    return environment
