"""The planner: which of the familiar skills a request wants first, which next, and when none.

A vector for a whole request tells little of its order, and a small language model has seen few
words. So smaller networks look at what two layers of the shortlist's encoder say of every word,
once for what was called so far, by cross-attention (Vaswani et al. 2017). What they say is the
mean of several that differ by their seed alone, since their mistakes differ too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..skills.errors import BadConfiguration
from .sentences import SentenceEncoder
from .shortlist import FOLDER, request_text
from .small_weights import eight_bits, restored

__all__ = ["LAYERS", "Asked", "Outlook", "PlanNetwork", "Planner", "as_states", "plan_networks"]

FILES = "planner-*.safetensors"
LAYERS = (3, 6)
"""Of the encoder: the words before they are made one meaning, and after."""
_HEADS = 6


@dataclass(frozen=True)
class Asked:
    """A request, and whether it came with an image, with marks in one, with masks made before."""

    text: str
    image: bool = False
    marked: bool = False
    masked: bool = False

    @property
    def read(self) -> str:
        """What the encoder reads."""
        return request_text(self.text, image=self.image)


@dataclass(frozen=True)
class Outlook:
    """The log probabilities of what comes next: a call of each skill on offer, a call, words."""

    skills: Mapping[str, float]
    call: float
    words: float

    @property
    def for_call(self) -> float:
        """The log-odds of a call."""
        return self.call - self.words


class PlanNetwork(nn.Module):
    """Log-odds of the skill that is called next, of another one, and of words."""

    def __init__(
        self,
        skills: Sequence[str],
        *,
        read: int,
        layers: Sequence[int] = LAYERS,
        width: int = 192,
        depth: int = 2,
    ) -> None:
        """It reads `read` numbers a word, of `layers` of the encoder together."""
        super().__init__()
        self.skills, self.read_layers = tuple(skills), tuple(layers)
        self._made_with = {"read": read, "layers": layers, "width": width, "depth": depth}
        self.words = nn.Sequential(nn.LayerNorm(read), nn.Linear(read, width), nn.Dropout(0.2))
        self.so_far = nn.Linear(2 * len(self.skills) + 2, width)
        self.layers = nn.ModuleList(_Looking(width) for _ in range(depth))
        self.next = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(self.skills) + 2))

    def forward(
        self, words: torch.Tensor, padded: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        """(requests, points, skills + 2) from words (requests, words, read), where they are
        `padded` (requests, words), and what was called before (requests, points, `as_states`).
        """
        seen, now = self.words(words), self.so_far(states)
        for layer in self.layers:
            now = layer(now, seen, padded)
        odds: torch.Tensor = self.next(now)
        return odds

    def save(self, path: Path) -> None:
        """Write the weights, matrices in eight bits, and the names of the skills into one file."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        weights: dict[str, torch.Tensor] = {}
        for key, value in self.state_dict().items():
            weights |= eight_bits(key, value) if value.ndim == 2 else {key: value.half()}
        told = {"skills": json.dumps(self.skills), "made_with": json.dumps(self._made_with)}
        save_file(weights, path, metadata=told)

    @classmethod
    def load(cls, path: Path) -> PlanNetwork:
        """What `save` wrote. Raises `BadConfiguration` when it is missing or broken."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                told = file.metadata()
                stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            network = cls(json.loads(told["skills"]), **json.loads(told["made_with"]))
            network.load_state_dict(restored(stored))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadConfiguration(f"{path} cannot be read: {error}") from error
        return network.eval()


def plan_networks(folder: Path) -> list[PlanNetwork]:
    """The networks of a planner that `llava-plus train-planner` wrote into `folder`.

    Raises `BadConfiguration` when there is none, or one is broken or of other skills or layers.
    """
    paths = sorted(folder.glob(FILES))
    if not paths:
        raise BadConfiguration(f"{folder} holds no {FILES}: llava-plus train-planner makes them")
    networks = [PlanNetwork.load(path) for path in paths]
    for path, network in zip(paths, networks, strict=True):
        if (network.skills, network.read_layers) != (networks[0].skills, networks[0].read_layers):
            raise BadConfiguration(f"{path} knows other skills or layers than {paths[0].name}")
    return networks


class _Looking(nn.Module):
    """One look at the words, and a thought about it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, _HEADS, dropout=0.1, batch_first=True)
        self.before, self.behind = nn.LayerNorm(width), nn.LayerNorm(width)
        self.thought = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * width, width)
        )

    def forward(self, now: torch.Tensor, seen: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
        looked, _ = self.attention(
            self.before(now), seen, seen, key_padding_mask=padded, need_weights=False
        )
        now = now + looked
        thought: torch.Tensor = now + self.thought(self.behind(now))
        return thought


class Planner:
    """Tells what a request wants next, with an encoder and networks, by default those that ship."""

    def __init__(
        self, encoder: SentenceEncoder, networks: Sequence[PlanNetwork] | None = None
    ) -> None:
        self._encoder = encoder
        self._networks = networks or plan_networks(FOLDER)

    @torch.inference_mode()
    def __call__(self, asked: Asked, called: Sequence[str], offered: Iterable[str]) -> Outlook:
        """The outlook behind the calls made so far in the turn.

        A skill that is wanted and not on offer speaks for words: that it is missing.
        """
        [words] = self._encoder.states([asked.read], self._networks[0].read_layers)
        skills, offer = self._networks[0].skills, set(offered)
        state = as_states(skills, asked, [name for name in called if name in skills])[-1]
        padded = torch.zeros(1, len(words), dtype=torch.bool)
        told = [net(words[None].float(), padded, torch.tensor([[state]])) for net in self._networks]
        odds = torch.cat(told).log_softmax(dim=-1).mean(dim=(0, 1))
        *known, other, end = odds.log_softmax(dim=-1).tolist()
        wanted = {name: nats for name, nats in zip(skills, known, strict=True) if name in offer}
        missing = [nats for name, nats in zip(skills, known, strict=True) if name not in offer]
        unknown = dict.fromkeys(offer - set(skills), other)
        calls = [*wanted.values(), *([other] if unknown else [])]
        silent = [end, *missing, *([] if unknown else [other])]
        return Outlook({**wanted, **unknown}, _together(calls), _together(silent))


def as_states(skills: Sequence[str], asked: Asked, called: Sequence[str]) -> list[list[float]]:
    """What the network is told before each of the calls of a turn and behind the last one.

    How often each skill was called, which one last, and whether there were marks and masks.
    """
    counts, last = [0.0] * len(skills), [0.0] * len(skills)
    around = [float(asked.marked), float(asked.masked)]
    states = [[*counts, *last, *around]]
    for name in called:
        counts[skills.index(name)] += 1
        last = [float(skill == name) for skill in skills]
        states.append([*counts, *last, *around])
    return states


def _together(nats: Sequence[float]) -> float:
    """The log of a sum of probabilities; a floor where there are none."""
    return math.log(sum(map(math.exp, nats)) + 1e-6)
