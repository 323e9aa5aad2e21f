"""Runs recipes in processes of their own: `recipe_runs.py [--kill-after STEP] RUN.json ...`.

Each file has a run's recipe and folder. With `--kill-after` a run kills itself with SIGKILL behind
that step, in a fork of this process, so that the libraries are loaded once for all.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import torch
from llava_plus.model.finetuning.recipe import FineTune
from llava_plus.model.finetuning.run import Watch, fine_tune
from llava_plus.model.training.runs import Progress


def run(file: Path, watch: Watch) -> None:
    settings = json.loads(file.read_text(encoding="utf-8"))
    fine_tune(FineTune.model_validate(settings["recipe"]), Path(settings["folder"]), watch=watch)


def run_until_killed(file: Path, step: int) -> None:
    def kill(progress: Progress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        run(file, Watch(step=kill))
        sys.exit("the run came to its end")
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        sys.exit(f"{file} was not killed but ended with {status}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill-after", type=int)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for path in options.files:
        if options.kill_after:
            run_until_killed(path, options.kill_after)
        else:
            run(path, Watch())
