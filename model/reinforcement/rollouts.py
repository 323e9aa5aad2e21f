"""Turns that a policy takes, kept as the very tokens that it read and sampled."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ...skills.errors import BadConfiguration, BadReply
from ...skills.images import ImageStore
from ..advisor import Advisor
from ..conversation import AssistantMessage, Conversation
from ..grammar import ReplyGrammar, allowed_tokens
from ..images import EncodedImage, ImageEncoder
from ..kept_cache import CachedModel
from ..lmm import Event, Replied, Usage
from ..local import end_ids_of, shortlist_of
from ..rendering import ChatRenderer, ImagePlace, Rendered
from ..weighing import Weighing

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["Rollout", "SamplingLMM"]

_MOST_KNOWN = 1000
"""Of so many prefixes the logits are kept."""


@dataclass
class Rollout:
    """The tokens of one turn: the prompt, and behind it all that was sampled or came in between.

    `sampled` says of each token behind the prompt whether it was the policy's choice; results of
    skills, what the template writes around them and tokens that the grammar forced are not.
    For each of those that are, `log_odds` has the log-probability with which it was sampled, and
    `offsets` what decoding had added to the logits [vocabulary], or None where nothing was.
    """

    prompt: list[int]
    images: list[EncodedImage]
    places: list[ImagePlace]
    ids: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    offsets: list[torch.Tensor | None] = field(default_factory=list)
    log_odds: list[float] = field(default_factory=list)

    @property
    def key(self) -> tuple[int | str, ...]:
        """Its content so far: the images by their hashes, and all tokens."""
        return (*(image.sha256 for image in self.images), *self.prompt, *self.ids)

    def add(self, ids: Sequence[int], *, sampled: bool) -> None:
        """Put tokens behind those that there are."""
        self.ids.extend(ids)
        self.sampled.extend([sampled] * len(ids))


class SamplingLMM:
    """An LMM that samples from a model while it is trained, and notes every token.

    One turn at a time: `begin`, let an environment play, take `rollout`. With `served` it samples
    under the grammar, and with the advisor's and the copied texts' say, with which `LocalLMM`
    serves the model; without, from the model's own odds alone. A reply that cannot be read stands
    as words, so that it is scored as it is and not asked for again.
    """

    name = "policy"

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        max_tokens: int = 256,
        temperature: float = 1.0,
        served: bool = True,
    ) -> None:
        shortlist = shortlist_of(processor)
        self._advisor = Advisor.of(model, shortlist) if served else None
        self.renderer = ChatRenderer(processor, shortlist)
        self._cached = CachedModel(model)
        self._images = ImageEncoder(processor, self.renderer.image_token)
        self._max_tokens, self._temperature, self._served = max_tokens, temperature, served
        tokenizer = self.renderer.tokenizer
        self._end_ids = end_ids_of(model, self.renderer)
        self._end = tokenizer.encode(self.renderer.format.end, add_special_tokens=False)[:1]
        # An image token without an image cannot be learned from, so none is sampled.
        self.never = tokenizer.encode(self.renderer.image_token, add_special_tokens=False)
        size = model.get_output_embeddings().weight.shape[0]
        self._grammar = ReplyGrammar(tokenizer, self.renderer.format, size) if served else None
        self._call = tokenizer.encode(self.renderer.format.begin, add_special_tokens=False)[:1]
        self._random = torch.Generator()
        self._known: dict[tuple[int | str, ...], torch.Tensor] = {}
        self._rollout: Rollout | None = None
        self._ids = (f"call_{number}" for number in itertools.count(1))

    def seed(self, seed: int) -> None:
        """Begin the random numbers anew, and forget what older weights have computed."""
        self._random.manual_seed(seed)
        self._cached.clear()
        self._known.clear()

    def begin(self) -> None:
        """Begin another turn."""
        self._rollout = None

    @property
    def rollout(self) -> Rollout:
        """The turn so far. Raises `BadConfiguration` when the LMM was not asked for anything."""
        if self._rollout is None:
            raise BadConfiguration("the environment played a turn without asking the policy")
        return self._rollout

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Sample a reply; see `LMM`."""
        images = self._shown(conversation, store)
        rollout = self._read(conversation, images)
        read = len(rollout.prompt) + len(rollout.ids)
        written, ended = self._sample(conversation, images, rollout, calls_allowed)
        message = self._message(conversation, written, ended and calls_allowed)
        yield Replied(message, Usage(prompt_tokens=read, completion_tokens=len(written)))

    async def aclose(self) -> None:
        """Let the kept keys and values go."""
        self._cached.clear()

    # --- what is read

    def _shown(self, conversation: Conversation, store: ImageStore) -> dict[str, EncodedImage]:
        return {
            handle: self._images.encode(conversation.images[handle], store)
            for handle in self.renderer.shown(conversation.messages, conversation.images)
        }

    def _read(self, conversation: Conversation, images: Mapping[str, EncodedImage]) -> Rollout:
        """The rollout with all that came since its last reply; a new one at the first reply.

        What was sampled stays as it is: of the rendered prompt only the part behind the end of
        the last reply is taken.
        """
        prompt = self.renderer.prompt(conversation, lambda handle: images[handle].ids)
        if self._rollout is None:
            encoded = [images[place.handle] for place in prompt.images]
            self._rollout = Rollout(prompt.ids, encoded, prompt.images)
            return self._rollout
        stop = self._last_reply_stop(conversation, prompt, images)
        rollout = self._rollout
        if rollout.ids[-1] not in self._end_ids:
            rollout.add(self._end, sampled=False)  # it was cut at its longest
        shift = len(rollout.prompt) + len(rollout.ids) - stop
        for place in prompt.images:
            if place.start >= stop:
                moved = ImagePlace(place.handle, place.start + shift, place.stop + shift)
                rollout.places.append(moved)
                rollout.images.append(images[place.handle])
        rollout.add(prompt.ids[stop:], sampled=False)
        return rollout

    def _last_reply_stop(
        self, conversation: Conversation, prompt: Rendered, images: Mapping[str, EncodedImage]
    ) -> int:
        """Where the last reply ends in a rendered prompt."""
        last = max(n for n, said in enumerate(conversation.messages) if said.role == "assistant")
        replied = conversation.model_copy(update={"messages": conversation.messages[: last + 1]})
        told = self.renderer.training(replied, lambda handle: images[handle].ids)
        stop = max(n for n, part in enumerate(told.parts) if part) + 1
        if prompt.ids[:stop] != told.ids[:stop]:
            raise BadConfiguration("the chat template rewrites a reply once more follows it")
        return stop

    # --- what is written

    def _sample(
        self,
        conversation: Conversation,
        images: Mapping[str, EncodedImage],
        rollout: Rollout,
        calls_allowed: bool,
    ) -> tuple[list[int], bool]:
        """The tokens of a reply without its end, and whether it came to its end."""
        matcher = self._matcher(conversation, calls_allowed)
        weighing = self._weighing(conversation)
        written: list[int] = []
        while len(written) < self._max_tokens:
            logits = self._logits(rollout, images)
            token = self._choose(logits, matcher, weighing, written, rollout)
            if token in self._end_ids:
                return written, True
            written.append(token)
            if matcher:
                if not matcher.consume_token(token):
                    raise BadConfiguration(f"the grammar stopped: {matcher.get_error()}")
                forced = matcher.compute_ff_tokens()
                matcher.consume_tokens(forced)
                forced = [one for one in forced if one not in self._end_ids]
                rollout.add(forced, sampled=False)
                written += forced
                if matcher.is_stopped():
                    rollout.add(self._end, sampled=False)
                    return written, True
        return written, False

    @torch.no_grad()
    def _logits(self, rollout: Rollout, images: Mapping[str, EncodedImage]) -> torch.Tensor:
        """The logits [vocabulary] after all that there is, in float32 on the CPU.

        The rollouts of one task mostly begin alike, and what is known is not computed again.
        """
        key = rollout.key
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            read = Rendered([*rollout.prompt, *rollout.ids], [], rollout.places)
            logits, _ = self._cached.begin(read, images)
            self._known[key] = logits.float().cpu()
        return self._known[key]

    def _choose(
        self,
        logits: torch.Tensor,
        matcher: LLMatcher | None,
        weighing: Weighing | None,
        written: Sequence[int],
        rollout: Rollout,
    ) -> int:
        """Sample one token and note it, with what was added to the logits."""
        weighed = logits.clone()
        weighed[self.never] = -torch.inf
        if matcher:
            weighed[~allowed_tokens(matcher, len(logits))] = -torch.inf
        if weighing and written:
            weighed = weighing(weighed, written)
        elif weighing:
            weighed[self._call] += weighing.for_call()
        odds = torch.log_softmax(weighed / self._temperature, dim=-1)
        token = int(torch.multinomial(odds.exp(), 1, generator=self._random))
        rollout.add([token], sampled=True)
        rollout.offsets.append((weighed - logits).half() if self._served else None)
        rollout.log_odds.append(float(odds[token]))
        return token

    def _matcher(self, conversation: Conversation, calls_allowed: bool) -> LLMatcher | None:
        if self._grammar is None:
            return None
        return self._grammar.matcher(conversation, calls_allowed=calls_allowed)

    def _weighing(self, conversation: Conversation) -> Weighing | None:
        if self._advisor is None:
            return None
        return Weighing.of(conversation, self._advisor, self.renderer, self._end_ids)

    def _message(
        self, conversation: Conversation, written: Sequence[int], may_call: bool
    ) -> AssistantMessage:
        said = str(self.renderer.tokenizer.decode(list(written), skip_special_tokens=False))
        try:
            message = self.renderer.parse(said, lambda: next(self._ids), conversation)
        except BadReply as error:
            return AssistantMessage(text=f"(no reply: {error})")
        if message.skill_uses and not may_call:
            return AssistantMessage(text=f"(no reply: {said!r} is a call that cannot be made)")
        if not message.skill_uses and not message.text.strip():
            return AssistantMessage(text="(no reply)")
        return message
