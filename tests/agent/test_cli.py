"""The command line as a person meets it: what is printed where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent import cli, session
from llava_plus.model.scripted import Scripted, ScriptedLMM
from llava_plus.skills import SkillUse
from llava_plus.skills.discovery import installed_skills
from llava_plus.skills.errors import BadReply, WorkerUnavailable

from ..serving import install_toys, png
from .scripted_server import scripted_server

PROGRAM = (sys.executable, "-m", "llava_plus.agent")
TOOL = {
    "type": "function",
    "function": {
        "name": "weigh",
        "description": "Weigh what an image shows.",
        "parameters": {
            "type": "object",
            "properties": {"image": {"type": "string"}},
            "required": ["image"],
        },
    },
}


def use(name: str, id_: str = "a", **arguments: object) -> SkillUse:
    return SkillUse(id=id_, name=name, arguments=arguments)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    return path


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy skills are installed, here and in workers that are started."""
    path = install_toys(tmp_path / "toys")
    monkeypatch.setenv("PYTHONPATH", path)
    for folder in path.split(":"):
        monkeypatch.syspath_prepend(folder)
    installed_skills.cache_clear()
    yield
    installed_skills.cache_clear()


class Program:
    """Runs the command line in this process, with an LMM that says what it is told to."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self.lmm = ScriptedLMM([])
        self.out = self.err = ""
        self._capfd = capfd
        monkeypatch.chdir(folder)
        monkeypatch.setattr(session, "open_lmm", lambda name, device: self.lmm)

    def __call__(self, *arguments: object, says: tuple[Scripted, ...] = ()) -> int:
        self.lmm = ScriptedLMM(says)
        code = cli.main([str(argument) for argument in arguments])
        self.out, self.err = self._capfd.readouterr()
        assert "Traceback" not in self.out + self.err
        return code

    @property
    def object(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Program:
    return Program(tmp_path, monkeypatch, capfd)


def check_whole(messages: list[dict[str, Any]]) -> None:
    calls = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert calls == [m["tool_call_id"] for m in messages if m["role"] == "tool"]


# --- ask


@pytest.mark.usefixtures("toys")
def test_ask_shows_calls_results_files_and_answer(program: Program, photo: Path) -> None:
    says = (use("paint", colour="red"), "A red \x1b[31mone.")
    assert program("ask", photo, "Paint.", "--skills", "paint,look", says=says) == 0
    lines = program.out.splitlines()
    assert lines[0] == '→ paint(colour="red")'
    assert lines[1].startswith("← paint One image was made. ")
    assert lines[2] == "  wrote llava-plus-out/photo-img_2.png (img_2)"
    assert lines[3] == "A red \ufffd[31mone.", "a model cannot colour our terminal"
    assert (program.folder / "llava-plus-out" / "photo-img_2.png").is_file()
    assert program.err == ""


@pytest.mark.usefixtures("toys")
def test_ask_json_is_one_object(program: Program, photo: Path) -> None:
    says = (use("paint", colour="red"), "Red.")
    for name in ("photo-img_2.png", "photo-img_2-2.png"):
        code = program(
            "ask", photo, "Paint.", "--json", "--out", "o", "--skills", "paint", says=says
        )
        assert code == 0
        told = program.object
        assert told["images"] == {"img_1": str(photo), "img_2": f"o/{name}"}, "none is replaced"
    assert told["answer"] == "Red."
    assert [message["role"] for message in told["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert [tool["function"]["name"] for tool in told["tools"]] == ["paint"]
    assert told["timings"]["steps"][0]["skill_seconds"]["a"] > 0
    check_whole(told["messages"])
    assert program.err == ""


def test_ask_sets_a_changed_image_beside_the_one_before(program: Program, photo: Path) -> None:
    says = (use("draw", image="img_1", points=[[0.5, 0.5]]), "There.")
    assert program("ask", photo, "Mark the middle.", "--json", "--skills", "draw", says=says) == 0
    sheet = "llava-plus-out/photo-draw-before-after.png"
    assert program.object["sheets"] == {"a": sheet}
    assert (program.folder / sheet).is_file()


def test_ask_without_skills_or_images(program: Program) -> None:
    assert program("ask", "What is two and two?", "--skills", "", says=("Four.",)) == 0
    assert program.out == "Four.\n"


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("says", "kind"),
    [
        ((use("noop"), use("die", "b")), "WorkerUnavailable"),
        ((use("noop"), use("hang", "b")), "DeadlineExceeded"),
        ((use("noop"), BadReply("x"), BadReply("x")), "BadReply"),
        ((use("noop"), WorkerUnavailable("the server is gone")), "WorkerUnavailable"),
    ],
)
def test_a_turn_that_fails_is_told_with_the_conversation_so_far(
    program: Program, says: tuple[Scripted, ...], kind: str
) -> None:
    skills = ("--skills", "noop,die,hang", "--turn-seconds", "3")
    assert program("ask", "Go on.", *skills, says=says) == 1
    assert program.err.startswith("error: ")
    assert program.err.count("\n") == 1
    assert program("ask", "Go on.", "--json", *skills, says=says) == 1
    assert program.object["error"]["kind"] == kind
    assert [message["role"] for message in program.object["messages"]][-1] == "tool"
    check_whole(program.object["messages"])


@pytest.mark.usefixtures("toys")
def test_nonsense_from_a_skill_is_for_the_model(program: Program) -> None:
    says = (use("nonsense"), "It could not be done.")
    assert program("ask", "Go on.", "--skills", "nonsense", says=says) == 0
    assert "← nonsense SkillFailed: " in program.out
    assert program.out.endswith("It could not be done.\n")


def bomb() -> bytes:
    """A small PNG that unpacks to 200 megapixels."""

    def chunk(kind: bytes, data: bytes = b"") -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(20_001) * 10_000)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


BAD_IMAGES = {
    "truncated.png": (png(width=300, height=300)[:-30], "damaged or cut short"),
    "bomb.png": (bomb(), "too many pixels; at most 50,000,000"),
    "text.jpg": (b"This is no picture.", "not an image that can be read"),
    "empty.png": (b"", "it has no bytes"),
    "missing.png": (None, "there is no file"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_refused_before_anything_is_loaded(program: Program, name: str) -> None:
    data, told = BAD_IMAGES[name]
    if data is not None:
        (program.folder / name).write_bytes(data)
    assert program("ask", name, "What is this?") == 2
    assert program.out == ""
    assert program.err.startswith(f"error: {'there is' if data is None else name}")
    assert told in program.err
    assert program("ask", name, "What is this?", "--json") == 2
    assert program.object["error"]["kind"] == "BadInput"
    assert program.lmm.asked == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ask",), "say what to do"),
        (("ask", "photo.png"), "put the request behind it"),
        (("ask", "photo.png", " "), "the request is empty"),
        (("ask", "photo.png", ""), "the request is empty"),
        (("ask", ".", "Look."), ". is no file"),
        (("ask", "photo.png", "Look.", "--skills", "fly"), "no skill 'fly' is installed"),
        (("ask", "photo.png", "Look.", "--max-steps", "0"), "--max-steps"),
        (("ask", "photo.png", "Look.", "--tools", "photo.png"), "--tools only goes with --plan"),
        (("ask", "Look.", "--plan", "--tools", "photo.png"), "photo.png is no JSON"),
        (("ask", "Look.", "--profile", "cluster"), "needs --lmm"),
        (("ask", "Look.", "--profile", "cluster", "--lmm", "http://x#y"), "needs --workers"),
        (("ask", "Look.", "--no-such-option"), "--no-such-option"),
        (("ask", "Look.", "--batch", "photo.png"), "--batch takes"),
        (("ask", "--batch", "missing.jsonl"), "missing.jsonl"),
        (("ask", "Look.", "--plan", "--save", "kept.jsonl"), "--save does not go"),
        (("ask", "Look.", "--save", "missing/kept.jsonl"), "no folder missing"),
        (("nothing",), "No such command"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    program: Program, photo: Path, arguments: tuple[str, ...], told: str
) -> None:
    assert program(*arguments) == 2
    assert program.out == ""
    assert program.err.startswith("error: ")
    assert told in program.err
    assert program.err.count("\n") == 1
    assert program(*arguments, "--json") == 2
    assert told in program.object["error"]["message"]


# --- ask --plan


@pytest.mark.usefixtures("toys")
def test_plan_shows_calls_and_runs_none(program: Program, photo: Path) -> None:
    says = ([use("paint", colour="red"), use("look", "b", zoom=1)],)
    assert program("ask", photo, "Go on.", "--plan", "--skills", "paint,look", says=says) == 0
    assert program.out == '→ paint(colour="red")\n→ look(zoom=1)\n'
    arguments = ("ask", photo, "Go on.", "--plan", "--json", "--skills", "paint,look")
    assert program(*arguments, says=says) == 0
    paint, look = program.object["calls"]
    assert paint == {"id": "a", "name": "paint", "arguments": {"colour": "red"}}
    assert "'image' is a required property" in look["problem"] or "zoom" in look["problem"]
    assert not (program.folder / "llava-plus-out").exists()


def test_plan_with_other_tools_and_no_image(program: Program) -> None:
    (program.folder / "tools.json").write_text(json.dumps([TOOL]))
    arguments = ("ask", "How heavy is it?", "--plan", "--json", "--tools", "tools.json")
    assert program(*arguments, says=(use("weigh", image="img_1"),)) == 0
    assert program.object["tools"] == [TOOL]
    assert program.object["calls"][0]["arguments"] == {"image": "img_1"}
    assert program.object["images"] == {}
    (asked,) = program.lmm.asked
    assert asked.messages[0].images == ("img_1",)  # type: ignore[union-attr]
    assert not asked.images


def test_plan_may_be_an_answer(program: Program) -> None:
    assert program("ask", "Hello.", "--plan", "--skills", "", says=("Hello you.",)) == 0
    assert program.out == "Hello you.\n"


@pytest.mark.parametrize(
    "tools",
    [
        {"no": "list"},
        [3],
        [{"function": 3}],
        [{"function": {"description": "nameless"}}],
        [{"function": {"name": "a b"}}],
        [TOOL, TOOL],
        [{"function": {"name": "a", "parameters": {"type": "thing"}}}],
    ],
)
def test_bad_tools_are_refused(program: Program, tools: object) -> None:
    (program.folder / "tools.json").write_text(json.dumps(tools))
    assert program("ask", "Go on.", "--plan", "--json", "--tools", "tools.json") == 2
    assert program.object["error"]["kind"] == "BadInput"


# --- ask --batch


@pytest.mark.usefixtures("toys")
def test_batch_answers_line_by_line(program: Program, photo: Path) -> None:
    folder = program.folder / "batch"
    folder.mkdir()
    photo.rename(folder / "photo.png")
    lines = [
        json.dumps({"images": ["photo.png"], "request": "Paint."}),
        "not JSON",
        "",
        json.dumps({"images": ["missing.png"], "request": "Look."}),
        json.dumps({"request": " "}),
        json.dumps({"request": "Go on.", "tools": [TOOL]}),
        json.dumps({"request": "Go on.", "extra": 1}),
        "\udcff{}",
        json.dumps({"request": "Hello."}),
    ]
    file = folder / "requests.jsonl"
    file.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    says = (use("paint", colour="red"), "Red.", "Hello you.")
    assert program("ask", "--batch", file, "--skills", "paint", says=says) == 1
    first, *failed, last = map(json.loads, program.out.splitlines())
    assert first["answer"] == "Red."
    assert first["images"]["img_2"] == "llava-plus-out/0001-photo-img_2.png"
    assert [line["error"]["kind"] for line in failed] == ["BadInput"] * 6
    assert last["answer"] == "Hello you."
    assert "8/8" in program.err


@pytest.mark.usefixtures("toys")
def test_answers_are_saved_as_training_records(program: Program, photo: Path) -> None:
    file = program.folder / "requests.jsonl"
    line = json.dumps({"images": [str(photo)], "request": "Paint."})
    file.write_text(f"{line}\n{line}\n")
    says = (use("paint", colour="red"), "Red.", "No colour is needed.")
    kept = program.folder / "kept.jsonl"
    assert program("ask", "--batch", file, "--skills", "paint", "--save", kept, says=says) == 0
    first, second = map(json.loads, kept.read_text().splitlines())
    assert [message["role"] for message in first["messages"]] == [
        *("user", "assistant", "tool", "assistant")
    ]
    assert second["messages"][-1]["content"] == "No colour is needed."
    assert all((program.folder / name).is_file() for name in first["images"])
    assert all((program.folder / name).is_file() for name in first["made"].values())
    assert (
        program(
            "ask", photo, "Fail.", "--skills", "", "--save", kept, says=(WorkerUnavailable("gone"),)
        )
        == 1
    )
    assert len(kept.read_text().splitlines()) == 2, "a turn that failed is no record"


def test_batch_plans(program: Program) -> None:
    lines = [{"request": "How heavy?", "tools": [TOOL]}, {"request": "Hello.", "tools": []}]
    file = program.folder / "requests.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    says = (use("weigh", image="img_1"), "Hello you.")
    assert program("ask", "--batch", file, "--plan", "--skills", "", says=says) == 0
    first, second = map(json.loads, program.out.splitlines())
    assert [call["name"] for call in first["calls"]] == ["weigh"]
    assert second["calls"] == []
    assert second["answer"] == "Hello you."


@pytest.mark.usefixtures("toys")
def test_batch_goes_on_after_a_turn_that_failed(program: Program) -> None:
    file = program.folder / "requests.jsonl"
    file.write_text('{"request": "One."}\n{"request": "Two."}\n')
    says = (WorkerUnavailable("the server is gone"), "Two.")
    assert program("ask", "--batch", file, "--skills", "", says=says) == 1
    first, second = map(json.loads, program.out.splitlines())
    assert first["error"]["message"] == "the server is gone"
    assert [message["role"] for message in first["messages"]] == ["user"]
    assert second["answer"] == "Two."


# --- chat


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def type_lines(*lines: object) -> None:
        text = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return type_lines


@pytest.mark.usefixtures("toys")
def test_chat_keeps_the_conversation_through_errors(
    program: Program, photo: Path, typed: Any
) -> None:
    typed(
        "Paint it.",
        "/image missing.png",
        "/fly",
        "Break.",
        "/retry",
        "/retry",
        "/save records.jsonl",
        "/skills",
        "/help",
        "/quit",
    )
    says = (
        use("paint", colour="red"),
        "Red.",
        use("noop", "b"),
        WorkerUnavailable("the server is gone"),
        "Here again.",
    )
    assert program("chat", photo, "--skills", "paint,noop", says=says) == 0
    assert program.err.splitlines() == [
        "error: there is no file missing.png",
        "error: there is no command /fly; /help lists those there are",
        "error: the server is gone",
        "error: no request has failed",
    ]
    record = json.loads((program.folder / "records.jsonl").read_text())
    check_whole(record["messages"])
    said = [m["content"] for m in record["messages"] if m["role"] == "assistant"]
    assert said == ["", "Red.", "", "Here again."]
    assert len(record["images"]) == len(record["made"]) == 1
    assert "/retry" in program.out
    assert "Make an image of one colour." in program.out


@pytest.mark.usefixtures("toys")
def test_chat_drops_marks_that_cannot_be_used(program: Program, photo: Path, typed: Any) -> None:
    typed(
        "/sketch", "/box 1,2,3,4", "/sketch gone.png", "Look.", "/point 0.5,0.5", "Look.", "/quit"
    )
    assert program("chat", photo, "--skills", "noop", says=("Seen.",)) == 0
    assert [line.split(":")[1].strip() for line in program.err.splitlines()] == [
        "say which picture",
        "'1,2,3,4' is no box",
        "the sketch gone.png cannot be read",
    ]
    assert "the marks are dropped" in program.err
    assert "Seen." in program.out


@pytest.mark.usefixtures("toys")
def test_chat_sends_an_image_again_when_its_request_failed(
    program: Program, photo: Path, typed: Any
) -> None:
    typed(f"/image {photo}", "Break.", "Look.", "/save", "/save records.jsonl")
    says = (WorkerUnavailable("the server is gone"), "A blue one.")
    assert program("chat", "--skills", "noop", says=says) == 0
    record = json.loads((program.folder / "records.jsonl").read_text())
    assert [message["role"] for message in record["messages"]] == ["user", "assistant"]
    assert len(record["images"]) == 1


# --- the program as a process


def run(
    *arguments: object, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_the_whole_program_with_workers_and_a_server(tmp_path: Path, photo: Path) -> None:
    environment = {"PYTHONPATH": install_toys(tmp_path / "toys")}
    says = ([use("look", image="img_1"), use("paint", "b", colour="red")], "Blue and red.")
    with scripted_server(*says) as (lmm, seen):
        options = ("--lmm", lmm, "--skills", "look,paint", "--out", tmp_path / "out", "--json")
        done = run("ask", photo, "Go on.", *options, environment=environment)
    assert done.stderr == ""
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["answer"].strip() == "Blue and red."
    assert [m["content"] for m in told["messages"] if m["role"] == "tool"] == [
        "8 x 6, (0, 0, 255)",
        "One image was made.\nMade img_2 (a colour).",
    ]
    assert told["timings"]["steps"][0]["prompt_tokens"] == 7
    assert Path(told["images"]["img_2"]).is_file()
    assert len(seen) == 2


def test_a_running_worker_is_used(tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": install_toys(tmp_path / "toys"),
        "LLAVA_PLUS_WORKER_SECRET": "open sesame",
    }
    command = [*PROGRAM, "worker", "noop", "--port", "0", "--memory", "1.5"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as worker:
        assert worker.stdout
        url = json.loads(worker.stdout.readline())["url"]
        try:
            with scripted_server(use("noop", text="hi"), "Done.") as (lmm, _):
                options = ("--lmm", lmm, "--workers", url)
                done = run("ask", "Go on.", *options, environment=environment)
                refused = run("ask", "Go on.", *options)
        finally:
            worker.send_signal(signal.SIGTERM)
    assert done.returncode == 0, done.stderr
    assert "← noop hi" in done.stdout
    assert refused.returncode != 0
    assert "secret" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("ask", "Hi.", "--lmm", "http://127.0.0.1:9", "--skills", ""), 2, "#MODEL"),
        (("ask", "Hi.", "--lmm", "no/such/folder", "--skills", ""), 2, "no/such/folder"),
        (("worker", "fly"), 1, "no skill 'fly'"),
        (("worker", "adjust", "--memory", "-1"), 2, "not in the range x>0"),
        (("bridge", "serve", "--workers", "nowhere"), 2, "'nowhere' is no address of a worker"),
        (("new-skill", "Bad-Name", "x"), 2, "does not do as a name"),
    ],
)
def test_errors_are_told_without_a_traceback(
    arguments: tuple[str, ...], code: int, told: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path, environment={"HF_HUB_OFFLINE": "1"})
    assert told in done.stderr
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "cv2", "fastapi", "pydantic", "numpy", "PIL", "httpx", "rich")
    code = (
        "import sys; from llava_plus.agent.cli import main; main(['--help']); "
        f"sys.stderr.write(' '.join(m for m in {heavy} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == ""
    for name in ("ask", "chat", "new-skill", "skills", "worker"):
        assert f"  {name} " in done.stdout


def test_ask_help_loads_no_model_and_no_worker() -> None:
    heavy = ("torch", "transformers", "cv2", "fastapi", "uvicorn", "numpy")
    code = (
        "import sys; from llava_plus.agent.cli import main; main(['ask', '--help']); "
        f"sys.stderr.write(' '.join(m for m in {heavy} if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stderr == ""


def test_another_package_adds_a_command(tmp_path: Path) -> None:
    info = tmp_path / "more-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 0\n")
    entries = ["[llava_plus.commands]", "greet = greeting:command", "broken = gone:command"]
    (info / "entry_points.txt").write_text("\n".join(entries))
    (tmp_path / "greeting.py").write_text(
        '"""Greet whoever is there."""\n'
        "import click, sys\n"
        "command = click.Command('greet', callback=lambda: click.echo('hello'))\n"
        "sys.stderr.write('imported')\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    listed = run("--help", environment=environment)
    assert "Greet whoever is there." in listed.stdout
    assert listed.stderr == "", "listing a command does not import it"
    assert run("greet", environment=environment).stdout == "hello\n"
    broken = run("broken", environment=environment)
    assert broken.returncode == 2
    assert "No module named 'gone'" in broken.stderr


def test_interrupting_stops_the_workers(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": install_toys(tmp_path / "toys")}
    with scripted_server(use("slow", seconds=30)) as (lmm, _):
        command = [*PROGRAM, "ask", "Go on.", "--lmm", lmm, "--skills", "slow"]
        # Whoever starts tests in the background may have them ignore interrupts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as asking:
            signal.signal(signal.SIGINT, before)
            assert asking.stdout
            assert asking.stdout.readline().startswith("→ slow")
            began = time.monotonic()
            asking.send_signal(signal.SIGINT)
            _, told = asking.communicate(timeout=20)
    assert told.endswith("error: stopped\n"), "the worker may have its own last words"
    assert asking.returncode == 130
    assert time.monotonic() - began < 10


def test_the_table_of_backends_is_the_one_that_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["skills", "backends"]) == 0
    document = Path(__file__).parents[2] / "docs" / "backends.md"
    assert f"\n\n{capsys.readouterr().out}" in document.read_text(encoding="utf-8")
