"""Opening an LMM by the name that a person gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..skills.collecting import no_collections
from ..skills.errors import BadConfiguration
from .lmm import LMM
from .shipped import weights_of

__all__ = ["open_lmm"]


def open_lmm(
    name: str,
    *,
    device: str = "cpu",
    local: Mapping[str, Any] | None = None,
    remote: Mapping[str, Any] | None = None,
) -> LMM:
    """The LMM `embedded`, or behind `URL#MODEL`, or in a folder or a repository of the hub.

    `local` are further options of a `LocalLMM`, `remote` further fields of what a `RemoteLMM`
    asks. Raises `BadConfiguration` when there is no such model.
    """
    if name.startswith(("http://", "https://")):
        from .remote import RemoteLMM

        url, _, model = name.partition("#")
        if not model:
            raise BadConfiguration(f"the LMM {name} needs the model's name too: {url}#MODEL")
        return RemoteLMM(url, model, options=remote)
    with no_collections():
        from .local import LocalLMM

        return LocalLMM.load(weights_of(name), device=device, **(local or {}))
