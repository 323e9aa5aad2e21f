"""Profiles: which LMM and which devices a command takes when it is told nothing else."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True)
class Profile:
    """Defaults that belong together; `lmm=None` means that one must be named."""

    lmm: str | None
    device: str = "cpu"
    starts_workers: bool = True


PROFILES = {
    "embedded": Profile(lmm="embedded"),
    "standard": Profile(lmm="Qwen/Qwen3-VL-2B-Instruct", device="auto"),
    "cluster": Profile(lmm=None, starts_workers=False),
}
