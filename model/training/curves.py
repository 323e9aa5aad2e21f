"""The loss curve of a run, as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...skills.errors import BadInput

__all__ = ["draw_curves"]


def draw_curves(folder: Path) -> Path:
    """Draw `log.jsonl` of a run as `loss.png` beside it; the picture's path. Raises `BadInput`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = folder / "log.jsonl"
    if not log.exists():
        raise BadInput(f"{folder} holds no log of a training run")
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    measured = [line for line in lines if line["validation_loss"] is not None]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    axes.plot(steps, losses, color="0.8", linewidth=0.8)
    axes.plot(steps, _smooth(losses), color="tab:blue", label="training")
    if measured:
        axes.plot(
            [line["step"] for line in measured],
            [line["validation_loss"] for line in measured],
            color="tab:orange",
            marker="o",
            markersize=3,
            label="validation",
        )
    axes.set(xlabel="step", ylabel="loss per learned token (nats)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    path = folder / "loss.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


def _smooth(values: list[float], keep: float = 0.95) -> list[float]:
    """An exponential moving average without the bias of its start."""
    smoothed, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        smoothed.append(mean / weight)
    return smoothed
