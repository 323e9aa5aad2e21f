"""The recipe of a fine-tuning run: any image-text model, on files of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from .freezing import Part
from .rows import Learn

__all__ = ["FineTune", "Lora"]

Share = Annotated[float, Field(gt=0, lt=1)]


class Lora(BaseModel):
    """Low-rank adapters beside the linear layers of these parts (Hu et al. 2021)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: PositiveInt = 128
    alpha: PositiveInt = 256
    dropout: float = Field(default=0.05, ge=0, lt=1)
    parts: tuple[Part, ...] = ("language",)


class FineTune(BaseModel):
    """What to train, on which records, what of it learns, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["transformers"]
    name: str
    start_from: str
    """A folder, a name on the hub, or `embedded`."""
    chat: str | None = None
    """For a LLaVA whose own template knows of no skills: `v1`, `plus-v1`, `v0` or `plus-v0`."""
    new_projector: bool = False
    """Whether the projector forgets what it was, as in LLaVA's stage 1."""
    records: tuple[Path, ...] = ()
    """JSON-lines files as `llava-plus data` writes them; from the recipe's folder."""
    validation: Share | Path | None = None
    """A share of the records that is held out, or a file of its own."""
    longest: PositiveInt = 2048
    """Tokens of a record at most; a longer one ends with the last reply that fits."""
    tool_images: bool | None = None
    """Whether images that skills made are shown with their results, in training and by the finished
    model; unless given, where the chat template has a place for them."""
    learn: Learn = Learn()
    refuse: Literal["records", "run"] = "records"
    """Whether what the gate refuses is left out, or stops the run."""

    learning_rates: dict[Part, PositiveFloat] = Field(min_length=1)
    """For each part that learns; a part without one stays as it is."""
    frozen: tuple[str, ...] = ()
    """Parameters that stay as they are all the same, by patterns like `*.layers.0.*`."""
    lora: Lora | None = None
    """Parts that learn by adapters, which are merged into the finished model."""
    keep_adapter: bool = False
    """Whether the adapter is kept as well, in the run's folder `adapter`, as peft reads it."""
    quantized: Literal["nf4"] | None = None
    """QLoRA (Dettmers et al. 2023): the frozen weights in four bits while adapters learn."""

    records_per_step: PositiveInt
    tokens_per_row: PositiveInt = 4096
    """How many tokens the model is given at once; a step takes as many rows as its records need."""
    packing: Literal["auto", "always", "never"] = "auto"
    """Several records in one row. `auto` packs where that changes nothing, `always` insists."""
    epochs: PositiveFloat = 1.0
    steps: PositiveInt | None = None
    """Instead of what `epochs` come to."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """The share of the steps over which the learning rates rise."""
    weight_decay: float = Field(default=0.0, ge=0)
    gradient_norm: PositiveFloat = 1.0
    gradient_checkpointing: bool = False
    sharded: bool = False
    """Whether weights, gradients and the optimizer's state are split among the processes (FSDP)."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """What is computed in, and what frozen parts are kept in; what learns is kept in float32."""
    seed: int = 0
    workers: int = Field(default=0, ge=0)
    """Processes that prepare rows beside the training."""
    save_every: PositiveInt = 100
    keep_checkpoints: PositiveInt = 2
    validate_every: PositiveInt = 100

    @model_validator(mode="after")
    def _fits_together(self) -> FineTune:
        if self.tokens_per_row < self.longest and self.packing != "never":
            raise ValueError(
                f"tokens_per_row: a row of {self.tokens_per_row} tokens has no room for a record "
                f"of {self.longest} (longest)"
            )
        if self.new_projector and "projector" not in self.learning_rates:
            raise ValueError("new_projector: the projector has no rate in learning_rates")
        if self.lora:
            for part in self.lora.parts:
                if part not in self.learning_rates:
                    raise ValueError(f"lora: its part {part} has no rate in learning_rates")
        elif self.quantized or self.keep_adapter:
            name = "quantized" if self.quantized else "keep_adapter"
            raise ValueError(f"{name}: this is for runs with lora")
        if self.quantized and self.sharded:
            raise ValueError("sharded: weights in four bits are held whole by every process")
        if self.quantized or self.keep_adapter:
            self._only_adapters_and_projector()
        return self

    def _only_adapters_and_projector(self) -> None:
        """Four-bit weights cannot learn, and an adapter's folder has room for no other part."""
        adapted = self.lora.parts if self.lora else ()
        for part in self.learning_rates:
            if part not in (*adapted, "projector"):
                raise ValueError(
                    f"learning_rates: with quantized or keep_adapter the {part} learns by lora or "
                    "not at all"
                )

    def beside(self, folder: Path) -> FineTune:
        """The recipe with its files looked for from `folder`."""
        held_out = (
            folder / self.validation if isinstance(self.validation, Path) else self.validation
        )
        records = tuple(folder / path for path in self.records)
        return self.model_copy(update={"records": records, "validation": held_out})
