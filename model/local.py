"""A local LMM: any image-text model of transformers, decoded under a grammar, its cache kept."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..skills.errors import BadConfiguration, BadReply
from ..skills.images import ImageStore
from .advisor import Advisor
from .conversation import AssistantMessage, Conversation
from .grammar import ReplyGrammar, allowed_tokens
from .images import EncodedImage, ImageEncoder
from .kept_cache import CachedModel
from .lmm import Event, Replied, SkillUseDelta, TextDelta, Usage
from .rendering import ChatRenderer, Rendered, shows_shortlist
from .repeating import goes_round, made_before
from .sampling import Sampling
from .shortlist import Shortlist
from .weighing import Weighing

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from transformers import PreTrainedModel, ProcessorMixin

__all__ = ["LocalLMM", "end_ids_of", "shortlist_of"]


class LocalLMM:
    """Runs one model in this process; replies are made one at a time, in a thread.

    With `temperature=0` the likeliest token is taken each time. The keys and values of earlier
    tokens are kept between replies, so only what is new in a conversation is computed. With
    `calls=False` no reply can be a call, and models whose template knows of none will do. For
    `tool_images` see `ChatRenderer`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        name: str = "local",
        max_tokens: int = 768,
        temperature: float = 0.0,
        seed: int = 0,
        use_grammar: bool = True,
        keep_cache: bool = True,
        calls: bool = True,
        tool_images: bool | None = None,
    ) -> None:
        self.name = name
        shortlist = shortlist_of(processor)
        self._advisor = Advisor.of(model, shortlist)
        self.renderer = ChatRenderer(processor, shortlist, calls=calls, tool_images=tool_images)
        self._model = CachedModel(model.eval(), keep=keep_cache)
        self._images = ImageEncoder(processor, self.renderer.image_token)
        self._max_tokens = max_tokens
        self._most_words = math.inf
        """Tokens after which a reply is cut off, unless it is within a call."""
        self._temperature, self._top_p = temperature, 1.0
        self._random = torch.Generator().manual_seed(seed)
        self._end_ids = end_ids_of(model, self.renderer)
        size = model.get_output_embeddings().weight.shape[0]
        tokenizer = self.renderer.tokenizer
        self._grammar = ReplyGrammar(tokenizer, self.renderer.format, size) if use_grammar else None
        self._call_id = self.renderer.call_token
        self._lock = asyncio.Lock()
        self._ids = (f"call_{number}" for number in itertools.count(1))

    @classmethod
    def load(
        cls, name: str | Path, *, device: str = "cpu", dtype: str | None = None, **options: Any
    ) -> LocalLMM:
        """Load a model and its processor by folder or hub name.

        `dtype` is float32 on a CPU and what the checkpoint has elsewhere, unless given. Raises
        `BadConfiguration` when it cannot be loaded or has no usable chat template.
        """
        from .loading import load_model

        model, processor = load_model(str(name), device=device, dtype=dtype)
        return cls(model, processor, name=Path(name).name, **options)

    def with_sampling(self, wanted: Sampling) -> LocalLMM:
        """The same model with another temperature, `top_p`, seed or length; the rest it has not.

        The length is that of words: a call that has begun is written to its end.
        """
        other = copy(self)
        if wanted.temperature is not None:
            other._temperature = wanted.temperature
        if wanted.top_p is not None:
            other._top_p = wanted.top_p
        if wanted.longest is not None:
            other._most_words = wanted.longest
        if wanted.seed is not None:
            other._random = torch.Generator().manual_seed(wanted.seed)
        return other

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream a reply; closing the iterator stops the decoding after the token at hand."""
        events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stopped = threading.Event()

        def work() -> None:
            try:
                for event in self._reply(conversation, store, calls_allowed, stopped):
                    loop.call_soon_threadsafe(events.put_nowait, event)
            except Exception as error:  # it is raised again on the other side of the queue
                loop.call_soon_threadsafe(events.put_nowait, error)

        async with self._lock:
            task = asyncio.create_task(asyncio.to_thread(work))
            try:
                while True:
                    event = await events.get()
                    if isinstance(event, BaseException):
                        raise event
                    yield event
                    if isinstance(event, Replied):
                        return
            finally:
                stopped.set()
                await task

    async def aclose(self) -> None:
        """Let the kept keys and values go."""
        self._model.clear()

    def _reply(
        self,
        conversation: Conversation,
        store: ImageStore,
        calls_allowed: bool,
        stopped: threading.Event,
    ) -> Iterator[Event]:
        started = time.perf_counter()
        images: dict[str, EncodedImage] = {
            handle: self._images.encode(conversation.images[handle], store)
            for handle in self.renderer.shown(conversation.messages, conversation.images)
        }
        prompt = self.renderer.prompt(conversation, lambda handle: images[handle].ids)
        asked = _Asked(conversation, prompt, images, stopped, self._weighing(conversation))
        draft = yield from self._write(asked, calls_allowed)
        tokens, uses = draft.tokens, draft.message.skill_uses
        if asked.weighing and not draft.message.text and made_before(uses, conversation.turn):
            again = yield from self._write(asked, calls_allowed=False)
            draft, tokens = replace(again, cached=draft.cached), tokens + again.tokens
        for use in draft.message.skill_uses:
            yield SkillUseDelta(use)
        seconds = time.perf_counter() - started
        first = draft.first_at - started if draft.first_at else seconds
        usage = Usage(len(prompt.ids), draft.cached, tokens, first, seconds, draft.is_cut)
        yield Replied(draft.message, usage)

    def _write(self, asked: _Asked, calls_allowed: bool) -> Generator[TextDelta, None, _Draft]:
        """One reply to what was asked, its words as they come."""
        matcher = self._matcher(asked.conversation, calls_allowed)
        logits, cached = self._model.begin(asked.prompt, asked.images)
        written: list[int] = []
        text = _TextStream(self.renderer)
        first_at = 0.0
        for token in self._decode(logits, matcher, asked.stopped, asked.weighing):
            first_at = first_at or time.perf_counter()
            written.append(token)
            if piece := text.add(token):
                yield TextDelta(piece)
        message = self._parse(written, asked.conversation)
        if rest := message.text[text.shown :]:
            yield TextDelta(rest)
        is_cut = self._is_enough(written) and not message.skill_uses
        return _Draft(message, len(written), cached, first_at, is_cut)

    def _parse(self, written: Sequence[int], conversation: Conversation) -> AssistantMessage:
        reply = self._text(written)
        if len(written) >= self._max_tokens and self.renderer.format.unfinished(reply):
            raise BadReply(f"the call was not finished within {self._max_tokens} tokens: {reply!r}")
        return self.renderer.parse(reply, lambda: next(self._ids), conversation)

    def _matcher(self, conversation: Conversation, calls_allowed: bool) -> LLMatcher | None:
        if self._grammar is None:
            return None
        return self._grammar.matcher(conversation, calls_allowed=calls_allowed)

    @torch.inference_mode()
    def _decode(
        self,
        logits: torch.Tensor,
        matcher: LLMatcher | None,
        stopped: threading.Event,
        weighing: Weighing | None = None,
    ) -> Iterator[int]:
        """Tokens of the reply, end token left out; forced tokens are not sampled at all."""
        written: list[int] = []
        while not stopped.is_set():
            if matcher is not None:
                logits = self._masked(logits, matcher)
            if weighing and written:
                logits = weighing(logits, written)
            token = self._choose(logits, weighing, first=not written)
            if token in self._end_ids:
                return
            tokens = [token]
            if matcher is not None:
                if not matcher.consume_token(token):
                    raise BadReply(f"the grammar stopped: {matcher.get_error()}")
                forced = matcher.compute_ff_tokens()
                matcher.consume_tokens(forced)
                tokens += [forced_id for forced_id in forced if forced_id not in self._end_ids]
            yield from tokens
            written += tokens
            if self._is_enough(written) or (matcher is not None and matcher.is_stopped()):
                return
            logits = self._model.go_on(tokens)

    def _is_enough(self, written: Sequence[int]) -> bool:
        if len(written) >= self._max_tokens:
            return True
        at_length = len(written) >= self._most_words
        in_circles = self._temperature == 0 and goes_round(written)
        stops = at_length or in_circles
        return stops and not self.renderer.format.unfinished(self._text(written))

    def _text(self, written: Sequence[int]) -> str:
        return str(self.renderer.tokenizer.decode(list(written), skip_special_tokens=False))

    def _weighing(self, conversation: Conversation) -> Weighing | None:
        """What else has a say in the next reply, for a model that was trained to share it."""
        if self._advisor is None:
            return None
        return Weighing.of(conversation, self._advisor, self.renderer, self._end_ids)

    @staticmethod
    def _masked(logits: torch.Tensor, matcher: LLMatcher) -> torch.Tensor:
        """The logits with -inf for every token that the grammar forbids next."""
        allowed = allowed_tokens(matcher, logits.shape[-1])
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def _choose(self, logits: torch.Tensor, weighing: Weighing | None, *, first: bool) -> int:
        if self._temperature > 0:
            odds = torch.softmax(logits.float() / self._temperature, dim=-1).cpu()
            likeliest = _nucleus(odds, self._top_p)
            return int(torch.multinomial(likeliest, 1, generator=self._random))
        if first and self._call_id is not None:
            # Words can begin with many tokens that share their probability, such a call with one
            # only: the likeliest single token would call where words are likelier as a whole.
            logits = logits.clone()
            if weighing is not None:
                logits[self._call_id] += weighing.for_call()
            if torch.softmax(logits.float(), dim=-1)[self._call_id] < 0.5:
                logits[self._call_id] = -torch.inf
            elif weighing is not None:
                return self._call_id
        return int(logits.argmax())


@dataclass(frozen=True)
class _Asked:
    """What a reply is written from."""

    conversation: Conversation
    prompt: Rendered
    images: Mapping[str, EncodedImage]
    stopped: threading.Event
    weighing: Weighing | None


@dataclass(frozen=True)
class _Draft:
    """A reply, how many tokens it has, how many of its prompt were known, when it began.

    `is_cut` is whether its words would have gone on.
    """

    message: AssistantMessage
    tokens: int
    cached: int
    first_at: float
    is_cut: bool


class _TextStream:
    """Turns tokens into text pieces as they come, up to where calls begin."""

    def __init__(self, renderer: ChatRenderer) -> None:
        from tokenizers.decoders import DecodeStream

        self._renderer = renderer
        self._stream = DecodeStream(skip_special_tokens=False)
        self._text = ""
        self._used = 0
        self.shown = 0

    def add(self, token: int) -> str:
        """The text that has become certain with this token; empty when none has."""
        backend = self._renderer.tokenizer.backend_tokenizer
        self._text += self._stream.step(backend, token) or ""
        words = self._renderer.format.shown(self._text)
        piece = self._renderer.control.restore(words[self._used :])
        self._used = max(self._used, len(words))
        self.shown += len(piece)
        return piece


def _nucleus(odds: torch.Tensor, top_p: float) -> torch.Tensor:
    """The odds of the fewest tokens that share `top_p` (Holtzman et al. 2020); of others none."""
    if top_p >= 1:
        return odds
    ranked, order = odds.sort(descending=True)
    likelier = ranked.cumsum(dim=0) - ranked
    return odds.index_fill(0, order[1:][likelier[1:] >= top_p], 0.0)


def shortlist_of(processor: ProcessorMixin) -> Shortlist | None:
    """The shipped shortlist, for a model that was trained to read one."""
    template = processor.chat_template
    return Shortlist() if isinstance(template, str) and shows_shortlist(template) else None


def end_ids_of(model: PreTrainedModel, renderer: ChatRenderer) -> set[int]:
    """The tokens that end a reply: the model's own and the one its template closes turns with."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = set(configured if isinstance(configured, list) else [configured])
    ids.add(renderer.tokenizer.eos_token_id)
    known = {index for index in ids if index is not None}
    if not known:
        raise BadConfiguration("the model does not say which token ends its replies")
    return known
