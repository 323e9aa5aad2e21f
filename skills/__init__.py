"""Floor 1: what a skill is, the skills that ship, and the worker that serves any of them."""

from .calls import Artifact, SkillProblem, SkillResult, SkillSpec, SkillUse
from .demonstration import Demonstration, check_demonstrations
from .discovery import installed_skills, load_skill
from .geometry import Box, Corners, Mask, Point, Position
from .images import ImageRef, ImageStore
from .progress import report_progress, reporting_each
from .skill import ImageArgument, MaskArgument, Skill, SkillOutput

__all__ = [
    "Artifact",
    "Box",
    "Corners",
    "Demonstration",
    "ImageArgument",
    "ImageRef",
    "ImageStore",
    "Mask",
    "MaskArgument",
    "Point",
    "Position",
    "Skill",
    "SkillOutput",
    "SkillProblem",
    "SkillResult",
    "SkillSpec",
    "SkillUse",
    "check_demonstrations",
    "installed_skills",
    "load_skill",
    "report_progress",
    "reporting_each",
]
