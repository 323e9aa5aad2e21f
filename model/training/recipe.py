"""A recipe: everything that makes a training run, in one small YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ...skills.errors import BadConfiguration
from ...skills.skill import describe_validation
from ..finetuning.recipe import FineTune
from ..reinforcement.recipe import Reinforce
from ..scratch import Architecture

__all__ = ["RECIPES", "Data", "Recipe", "load_recipe"]

RECIPES = Path(__file__).parents[1] / "recipes"


class Data(BaseModel):
    """Where examples come from: an entry point of `llava_plus.data_sources`, and its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    options: dict[str, Any] = {}


class Recipe(BaseModel):
    """What to train, on what, for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["embedded"] = "embedded"
    name: str
    architecture: Architecture = Architecture()
    """A model made from scratch with these sizes (and its tokenizer from the data's corpus)."""
    start_from: str | None = None
    """A folder with a LLaVA that the run begins with, of its own sizes, instead of from nothing.

    `embedded` is the one that ships in the package.
    """
    language_model: str | None = None
    """A pre-trained language model whose words and layers a run from nothing starts with."""
    language_layers: tuple[int, ...] | None = None
    """Which of its layers are kept, as many as the architecture has; else the lowest ones."""
    shortlist: bool = True
    """Whether requests are followed by the shortlist of the shipped encoder, mostly."""
    alignment_steps: int = Field(default=0, ge=0)
    """Steps of stage 1, in which the vision tower learns to see before all else."""
    alignment_images: int = Field(default=6000, ge=20)
    data: Data
    steps: PositiveInt
    groups_per_step: PositiveInt = 8
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=200, ge=0)
    decay_fraction: float = Field(default=0.4, ge=0, le=1)
    """The share of the steps, at the end, over which the learning rate falls to zero."""
    weight_decay: float = Field(default=0.05, ge=0)
    round_from: int | None = Field(default=None, ge=0)
    """From this step on the model learns with the weights that four bits would leave it."""
    gradient_norm: float = Field(default=1.0, gt=0)
    seed: int = 0
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    save_every: PositiveInt = 200
    validate_every: PositiveInt = 200
    validation_groups: PositiveInt = 24

    @model_validator(mode="after")
    def _one_start(self) -> Recipe:
        if self.start_from and self.language_model:
            raise ValueError("start_from and language_model: a run starts from one of them")
        if self.language_layers and not self.language_model:
            raise ValueError("language_layers: there is no language_model to take them from")
        return self


def load_recipe(
    name_or_path: str, overrides: dict[str, Any] | None = None
) -> Recipe | FineTune | Reinforce:
    """Read a recipe file, or a shipped one by name. Raises `BadConfiguration`.

    `engine: transformers` makes it a `FineTune`, whose files are looked for from its folder; a
    shipped one's from where the person is. `engine: grpo` makes it a `Reinforce`.
    """
    import yaml

    path, beside = Path(name_or_path), Path(name_or_path).parent
    if not path.suffix:
        path, beside = RECIPES / f"{name_or_path}.yaml", Path()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise BadConfiguration(f"recipe {path} does not hold keys and values")
        return _validated({**content, **(overrides or {})}, beside)
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml")))
        raise BadConfiguration(f"there is no recipe {path}; shipped: {shipped}") from error
    except yaml.YAMLError as error:
        raise BadConfiguration(f"recipe {path} is not YAML: {error}") from error
    except ValidationError as error:
        raise BadConfiguration(f"recipe {path}: {describe_validation(error)}") from error


def _validated(content: dict[str, Any], beside: Path) -> Recipe | FineTune | Reinforce:
    """The recipe of the engine that `content` names: `embedded`, unless it says otherwise."""
    engine = content.get("engine", "embedded")
    if engine == "transformers":
        return FineTune.model_validate(content).beside(beside)
    if engine == "grpo":
        return Reinforce.model_validate(content)
    if engine != "embedded":
        raise BadConfiguration(f"engine: {engine!r} is not one of embedded, grpo and transformers")
    return Recipe.model_validate(content)
