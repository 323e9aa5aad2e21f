"""What goes between the LMM and the skills: specs, calls and results."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from .geometry import Mask
from .images import ImageRef

__all__ = ["Artifact", "SkillProblem", "SkillResult", "SkillSpec", "SkillUse"]

SkillName = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]{0,63}$")]


class SkillSpec(BaseModel):
    """What the LMM is told about a skill: its name, what it does, and its arguments' schema.

    `examples` are requests that call for it; the LMM does not read them, but a shortlist does.
    """

    model_config = ConfigDict(frozen=True)

    name: SkillName
    description: str
    parameters: dict[str, Any]
    examples: tuple[str, ...] = ()

    def tool(self) -> dict[str, Any]:
        """The spec in the OpenAI `tools` form, which chat templates and servers read."""
        return {"type": "function", "function": self.model_dump(exclude={"examples"})}

    @classmethod
    def from_tool(cls, tool: dict[str, Any]) -> SkillSpec:
        """Read a spec from the OpenAI `tools` form. Raises pydantic's `ValidationError`."""
        function = tool.get("function", tool)
        if not isinstance(function, dict):
            raise ValueError(f"a tool's 'function' must be an object, not {function!r}")
        empty = {"type": "object", "properties": {}}
        return cls.model_validate(
            {"description": "", **function, "parameters": function.get("parameters") or empty}
        )


class SkillUse(BaseModel):
    """One call of a skill, as the LMM asked for it (`skill_use` in LLaVA-Plus)."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    arguments: dict[str, Any]

    def tool_call(self) -> dict[str, Any]:
        """The call in the OpenAI `tool_calls` form, its arguments as JSON text."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        function = {"name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


class Artifact(BaseModel):
    """An image or a mask that a skill made; it gets its handle when it joins a conversation."""

    model_config = ConfigDict(frozen=True)

    label: str = ""
    image: ImageRef | None = None
    mask: Mask | None = None


class SkillProblem(BaseModel):
    """Why a call brought no finding, in the words that the LMM reads."""

    model_config = ConfigDict(frozen=True)

    kind: str
    message: str


class SkillResult(BaseModel):
    """What one call brought (`skill_result` in LLaVA-Plus): a finding or a problem, never both.

    `text` is what the LMM reads and opens with a summary; `data` is the same for programs.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    text: str = ""
    data: dict[str, Any] = {}
    artifacts: tuple[Artifact, ...] = ()
    error: SkillProblem | None = None
