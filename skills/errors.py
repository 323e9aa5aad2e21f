"""Every error of the project, in one tree, ordered by who must act.

LlavaPlusError
├── BadInput            the person: an image, request or file that cannot be used
├── BadConfiguration    the operator: a setting, plugin or model that does not fit
│   └── DuplicateSkill  two packages offer one skill name
├── SkillError          told to the model as the result of its call
│   ├── BadSkillUse     the model may correct its call
│   │   └── UnknownSkill
│   └── SkillFailed     the model should not repeat the call
├── WorkerUnavailable   the operator: a worker is down, too busy or too slow
│   └── DeadlineExceeded
└── BadReply            the LMM or its server said something that is not a reply
"""

from __future__ import annotations

__all__ = [
    "BadConfiguration",
    "BadInput",
    "BadReply",
    "BadSkillUse",
    "DeadlineExceeded",
    "DuplicateSkill",
    "LlavaPlusError",
    "SkillError",
    "SkillFailed",
    "UnknownSkill",
    "WorkerUnavailable",
]


class LlavaPlusError(Exception):
    """Base of every error that this package raises on purpose.

    `told` says it to whoever asked, without the machines that the message may name.
    """

    def __init__(self, message: str = "", *, told: str = "") -> None:
        super().__init__(message)
        self.told = told or message

    @property
    def kind(self) -> str:
        """The name under which the error travels in JSON."""
        return type(self).__name__


class BadInput(LlavaPlusError):
    """What the person gave cannot be used; nothing was changed by it."""


class BadConfiguration(LlavaPlusError):
    """A setting, a plugin or a model does not fit what it is used for."""


class DuplicateSkill(BadConfiguration):
    """Two packages offer a skill under one name."""


class SkillError(LlavaPlusError):
    """A skill call went wrong in a way that the model is told about."""


class BadSkillUse(SkillError):
    """The call does not fit the skill's spec; the model may correct it."""


class UnknownSkill(BadSkillUse):
    """No skill on offer has the name that was called."""


class SkillFailed(SkillError):
    """The skill ran and could not do its work; calling it again will not help."""


class WorkerUnavailable(LlavaPlusError):
    """A worker cannot be reached, died, or answered with nonsense."""


class DeadlineExceeded(WorkerUnavailable):
    """The work was not done when the time that it was given had passed."""


class BadReply(LlavaPlusError):
    """The LMM's reply cannot be read."""
