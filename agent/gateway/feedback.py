"""POST /v1/feedback: what a person thinks of an answer."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from ..store.values import Vote
from .problems import documented
from .requests import StrictRoute
from .routing import ChatCaller, chats_of
from .wire import RequestForm

__all__ = ["router"]

router = APIRouter(route_class=StrictRoute, tags=["feedback"])


class Feedback(RequestForm):
    """A vote on a turn, in place of the one before; without a vote it is taken back."""

    turn: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    vote: Literal["up", "down", "flag"] | None
    comment: Annotated[str, Field(max_length=4000)] = ""


class FeedbackKept(BaseModel):
    """What is now known of the turn."""

    turn: str
    vote: Vote | None
    comment: str


@router.post("/v1/feedback", responses=documented(404))
async def give_feedback(request: Request, body: Feedback, caller: ChatCaller) -> FeedbackKept:
    """Keep a vote and a comment; `llava-plus data` chooses records by them."""
    vote = Vote(body.vote) if body.vote else None
    turn = await chats_of(request).store.vote(body.turn, caller.owner, vote, body.comment)
    return FeedbackKept(turn=turn.id, vote=turn.vote, comment=turn.comment)
