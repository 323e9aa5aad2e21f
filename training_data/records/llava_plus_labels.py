"""What LLaVA-Plus's labelling writes before it becomes conversations: one question, one call.

`{image_id, image_file_name, captions, objects, question, NAME_input, NAME_output, answer}`, where
NAME is an API and its output is Python's way of writing an answer.
"""

from __future__ import annotations

from ...model.llava_plus.calls import APIS
from .imported import Imported, Raw, Reason, Refusal
from .llava_plus import read as read_conversation
from .llava_plus_turns import IMAGE

__all__ = ["is_labelled", "read"]

_OUTPUT = "_output"


def is_labelled(raw: Raw) -> bool:
    """Whether it is a question with the output of an API."""
    return "question" in raw and "answer" in raw and any(_api(name) for name in raw)


def read(raw: Raw) -> Imported:
    """The question, the call, its result and the answer. Raises `Refusal`."""
    api = next((api for name in raw if (api := _api(name))), None)
    question, answer = raw.get("question"), raw.get("answer")
    if api is None or not isinstance(question, str) or not isinstance(answer, str):
        raise Refusal(Reason.NOT_THIS_FORMAT, "it is no question with an answer and an output")
    params = {"caption": raw[f"{api}_input"]} if f"{api}_input" in raw else {}
    output = f"{api} output: {raw[f'{api}{_OUTPUT}']}\n\nAnswer my first question: {question}"
    turns = [
        {"from": "human", "value": f"{IMAGE}\n{question}"},
        {"from": "gpt", "actions": [{"API_name": api, "API_params": params}], "value": ""},
        {"from": "human", "value": output},
        {"from": "gpt", "value": answer},
    ]
    used = ("question", "answer", f"{api}_input", f"{api}{_OUTPUT}")
    rest = {name: value for name, value in raw.items() if name not in used}
    return read_conversation({**rest, "conversations": turns})


def _api(name: str) -> str | None:
    api = name.removesuffix(_OUTPUT)
    return api if api != name and api in APIS else None
