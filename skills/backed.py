"""Skills that leave their work to the backend that the settings name."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from .settings import create_backend
from .skill import Skill

__all__ = ["BackedSkill"]


class _Loads(Protocol):
    def load(self, device: str) -> None: ...


Backend = TypeVar("Backend", bound=_Loads)


class BackedSkill(Skill, Generic[Backend]):
    """A skill whose work `backend` does."""

    backend: Backend

    def setup(self, device: str) -> None:
        """Make the backend and load it. Raises `BadConfiguration` when that cannot be done."""
        self.backend = create_backend(self.name)
        self.backend.load(device)

    def teardown(self) -> None:
        """Let go of the backend, with all that it holds."""
        del self.backend

    @property
    def batch(self) -> int:
        """As many calls as the backend takes at once, which its options say."""
        return getattr(self.backend, "batch", 1)
