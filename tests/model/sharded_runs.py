"""Runs recipes in shards on processors: `torchrun ... sharded_runs.py RUN.json ...`, files as for
`recipe_runs.py`. Each run stops behind its first step and goes on from there.

accelerate shards on GPUs alone, so it is told that every process has one; what shards, gathers and
saves is torch's own FSDP, over gloo, or DeepSpeed's ZeRO where the environment asks for it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import DistributedType, PartialState
from llava_plus.model.finetuning.recipe import FineTune
from llava_plus.model.finetuning.run import fine_tune

DEEPSPEED = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


class _OnProcessors(PartialState):
    def _prepare_backend(self, *args: object, **kwargs: object) -> tuple[str, DistributedType]:
        return "gloo", DistributedType.DEEPSPEED if DEEPSPEED else DistributedType.MULTI_GPU

    def set_device(self) -> None:
        self.device = torch.device("cpu")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    if DEEPSPEED:
        import deepspeed

        # What it has of its own between processors, it compiles; a fresh machine has no compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed("gloo")
    for name in ("_prepare_backend", "set_device"):
        setattr(PartialState, name, getattr(_OnProcessors, name))
    for path in map(Path, sys.argv[1:]):
        run = json.loads(path.read_text(encoding="utf-8"))
        recipe = FineTune.model_validate(run["recipe"])
        for stop_after in (0, float("inf")):
            fine_tune(recipe, Path(run["folder"]), stop_after=stop_after)
    torch.distributed.destroy_process_group()
