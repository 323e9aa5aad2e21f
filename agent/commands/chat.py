"""`llava-plus chat`: a conversation at the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ...model.conversation import Conversation
from ...skills.errors import BadInput, LlavaPlusError
from ...skills.images import ImageRef, ImageStore
from ..outputs import Outputs
from ..places import read_box, read_point
from ..record import append_record
from ..report import plain
from ..session import Session, open_session
from .marks import Marking
from .narrator import Narrator
from .options import out_option, read_images, session_options, with_session_options
from .requests import Asked, answer_request

__all__ = ["command"]

_HELP = """\
/image PATH  attach an image to the next request
/box X0,Y0,X1,Y1, /point X,Y, /sketch FILE
             mark a place in the newest image, as fractions of it, for the next request
/retry       go on with the request that failed last
/save FILE   add the conversation to FILE as a training record, with its images beside it
/skills      list the skills on offer
/help        show this
/quit        leave (so does Ctrl-D)"""


@click.command("chat")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=click.Path(path_type=Path))
@out_option
@with_session_options
def command(images: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Talk about the IMAGEs, or about those that /image attaches; /help lists what else there is.

    An error never loses the conversation: it goes back to where it stood before the request.
    """
    chosen = session_options(**options)
    store = ImageStore()
    attached = list(zip(images, read_images(images, store), strict=True))
    # The event loop runs only while a request is answered, so that Ctrl-C stops just that.
    with asyncio.Runner() as runner:
        opened = open_session(chosen)
        session = runner.run(opened.__aenter__())
        try:
            chat = _Chat(session, store, Outputs(out, "chat"), runner)
            for path, ref in attached:
                chat.attach(path, ref)
            chat.talk()
        finally:
            runner.run(opened.__aexit__(None, None, None))


class _Chat:
    """The conversation and the commands that work on it."""

    def __init__(
        self, session: Session, store: ImageStore, outputs: Outputs, runner: asyncio.Runner
    ) -> None:
        self._session = session
        self._store = store
        self._outputs = outputs
        self._runner = runner
        self._conversation = session.conversation()
        self._attached: list[tuple[Path, ImageRef]] = []
        self._marking = Marking()
        self._broken_off: Conversation | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: click.echo(_HELP),
            "/box": lambda told: self._mark(boxes=(read_box(told),)),
            "/image": self._image,
            "/point": lambda told: self._mark(points=(read_point(told),)),
            "/retry": self._retry,
            "/save": self._save,
            "/sketch": self._sketch,
            "/skills": self._list_skills,
        }

    def attach(self, path: Path, ref: ImageRef) -> None:
        """Let an image come along with the next request."""
        self._attached.append((path, ref))
        click.secho(f"{path} ({ref.width} x {ref.height}) comes with the next request", dim=True)

    def talk(self) -> None:
        """Read lines and do what they say, until /quit or the end of input."""
        with suppress(ImportError):
            import readline  # noqa: F401 - gives `input` its history and its editing keys
        if sys.stdin.isatty():
            click.secho("/help lists the commands, /quit leaves.", dim=True)
        while (line := _read_line()) not in (None, "/quit", "/exit"):
            try:
                if line:
                    self._do(line)
            except LlavaPlusError as error:
                click.secho(f"error: {error}", fg="red", err=True)
            except OSError as error:
                click.secho(f"error: {error.strerror}: {error.filename}", fg="red", err=True)
            except KeyboardInterrupt:
                click.secho("\n(stopped; the conversation is as before)", dim=True)

    def _do(self, line: str) -> None:
        if not line.startswith("/"):
            self._ask(line)
            return
        name, _, argument = line.partition(" ")
        if name not in self._commands:
            raise BadInput(f"there is no command {name}; /help lists those there are")
        self._commands[name](argument.strip())

    # --- what lines do

    def _ask(self, text: str) -> None:
        asked = self._conversation.ask(text, [ref for _, ref in self._attached])
        try:
            marked = self._marking.add_to(asked)
        except BadInput as error:  # what cannot be used must not stand in every later request's way
            self._marking = Marking()
            raise BadInput(f"{error}; the marks are dropped") from error
        self._answer(marked)

    def _answer(self, asked: Conversation) -> None:
        paths = [str(path) for path, _ in self._attached]
        new = [handle for handle in asked.images if handle not in self._conversation.images]
        files = {**self._outputs.files, **dict(zip(new, paths, strict=False))}
        turn = Asked(asked, self._store, files, has_skills=True)
        narrator = Narrator()
        answered = self._runner.run(answer_request(turn, self._session, self._outputs, narrator))
        if answered.error:
            self._broken_off = answered.conversation
            raise answered.error
        self._conversation, self._attached, self._broken_off = answered.conversation, [], None
        self._marking = Marking()

    def _retry(self, _: str) -> None:
        if self._broken_off is None:
            raise BadInput("no request has failed")
        self._answer(self._broken_off)

    def _image(self, argument: str) -> None:
        if not argument:
            raise BadInput("say which image: /image PATH")
        path = Path(argument).expanduser()
        self.attach(path, read_images([path], self._store)[0])

    def _sketch(self, argument: str) -> None:
        if not argument:
            raise BadInput("say which picture: /sketch FILE")
        self._mark(sketch=Path(argument).expanduser())

    def _mark(self, **place: Any) -> None:
        """Add a mark to those of the next request; of sketches the last one counts."""
        more = {
            key: getattr(self._marking, key) + value if isinstance(value, tuple) else value
            for key, value in place.items()
        }
        self._marking = self._marking.model_copy(update=more)
        click.secho("marked for the next request", dim=True)

    def _save(self, argument: str) -> None:
        if not argument:
            raise BadInput("say where to: /save FILE")
        if not self._conversation.messages:
            raise BadInput("there is nothing to save yet")
        path = Path(argument).expanduser()
        append_record(self._conversation, self._store, path)
        count = len(self._conversation.images)
        click.echo(f"added to {path}, with {count} image{'' if count == 1 else 's'} beside it")

    def _list_skills(self, _: str) -> None:
        for spec in self._session.skills:
            click.echo(f"{click.style(spec.name, fg='cyan')}  {plain(spec.description)}")


def _read_line() -> str | None:
    """A line without the space around it; None at the end of input."""
    try:
        return input("you> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None
    except KeyboardInterrupt:
        click.echo()
        return ""
