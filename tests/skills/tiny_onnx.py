"""ONNX graphs whose output is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["save_answer", "save_means"]

Side = int | str
"""Pixels, or the name of a size that may be any."""


def save_answer(
    path: Path,
    answer: NDArray[np.float32],
    *,
    size: tuple[Side, Side] = (64, 64),
    kind: int = TensorProto.FLOAT,
    **told: object,
) -> str:
    """A model that takes an image (height, width) and always gives `answer`."""
    graph = [helper.make_node("Identity", ["answer"], ["output0"])]
    return _save(path, graph, {"answer": answer}, answer.shape, size, kind, told)


def save_means(
    path: Path, box: Sequence[float], *, size: tuple[Side, Side] = (64, 64), **told: object
) -> str:
    """A YOLO of one box whose scores for three kinds are the means of red, green and blue."""
    graph = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Reshape", ["means", "shape"], ["scores"]),
        helper.make_node("Concat", ["box", "scores"], ["output0"], axis=1),
    ]
    numbers = {"shape": np.array([1, 3, 1]), "box": np.array(box, np.float32).reshape(1, 4, 1)}
    return _save(path, graph, numbers, (1, 7, 1), size, TensorProto.FLOAT, told)


def _save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    numbers: dict[str, NDArray[np.generic]],
    answers: Sequence[int],
    size: tuple[Side, Side],
    kind: int,
    told: dict[str, object],
) -> str:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", kind, [1, 3, *size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, answers)],
        [numpy_helper.from_array(array, name) for name, array in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {key: str(value) for key, value in told.items()})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return str(path)
