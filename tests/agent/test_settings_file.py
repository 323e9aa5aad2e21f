"""The operator's settings: which source wins, what a slip is told, what is shown of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from llava_plus.agent import cli
from llava_plus.agent.session import load_skills
from llava_plus.agent.settings import Settings, load_settings, origins
from llava_plus.skills import settings as skill_settings
from llava_plus.skills.errors import BadConfiguration

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLAVA_PLUS_CONFIG", raising=False)


def write(text: str) -> None:
    Path("llava-plus.toml").write_text(text)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('[server]\nhost = "::1"\nport = 1\nroot_path = "/chat"\n[lmm]\nmax_steps = 3')
    monkeypatch.setenv("LLAVA_PLUS_SERVER__PORT", "2")
    monkeypatch.setenv("LLAVA_PLUS_SERVER__ROOT_PATH", "/talk")
    given = {"server.port": 3}
    settings = load_settings(given)
    assert (settings.server.host, settings.server.port) == ("::1", 3)
    assert settings.server.root_path == "/talk"
    assert settings.lmm.max_steps == 3
    assert settings.lmm.turn_seconds == 120
    found = origins(given)
    assert found["server.host"] == "llava-plus.toml"
    assert found["server.port"] == "command line"
    assert found["server.root_path"] == "LLAVA_PLUS_SERVER__ROOT_PATH"
    assert found["lmm.turn_seconds"] == "default"


def test_a_profile_stands_below_all_that_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    write('profile = "standard"\n[lmm]\nname = "my/model"')
    settings = load_settings()
    assert (settings.lmm.name, settings.lmm.device) == (("my/model",), "auto")
    assert origins()["lmm.device"] == "profile standard"
    monkeypatch.setenv("LLAVA_PLUS_PROFILE", "embedded")
    assert load_settings().lmm.device == "cpu"
    with pytest.raises(BadConfiguration, match=r"needs workers\.urls"):
        load_settings({"profile": "cluster"})
    Path("llava-plus.toml").unlink()
    with pytest.raises(BadConfiguration, match=r"needs lmm\.name"):
        load_settings({"profile": "cluster", "workers.urls": ["http://a"]})


def test_lists_are_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVA_PLUS_WORKERS__URLS", "http://a, http://b")
    monkeypatch.setenv("LLAVA_PLUS_MCP__SERVERS", '["tool --only a,b"]')
    monkeypatch.setenv("LLAVA_PLUS_SKILLS_ON_OFFER", "")
    monkeypatch.setenv("LLAVA_PLUS_ACCESS__IMAGE_URLS", "a.example")
    settings = load_settings()
    assert settings.workers.urls == ("http://a", "http://b")
    assert settings.mcp.servers == ("tool --only a,b",)
    assert settings.skills_on_offer == ()
    assert settings.access.image_urls == ("a.example",)
    assert load_settings({"access.image_urls": "public"}).access.image_urls == "public"


def test_short_names_of_old_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAVA_PLUS_LMM", "http://a#b")
    monkeypatch.setenv("LLAVA_PLUS_WORKER_SECRET", "sesame")
    settings = load_settings()
    assert settings.lmm.name == ("http://a#b",)
    assert settings.workers.secret
    assert settings.workers.secret.get_secret_value() == "sesame"
    monkeypatch.setenv("LLAVA_PLUS_LMM__NAME", "embedded")
    assert load_settings().lmm.name == ("embedded",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nprot = 1", "called 'prot'; did you mean 'port'"),
        ("[sever]\nport = 1", "did you mean 'server'"),
        ("server = 1", "must be a table"),
        ('[server]\nport = "many"', r"server.port \(from llava-plus.toml\): .*integer"),
        ("[access]\npixels = 900000000", "access.pixels .*less than or equal to 50000000"),
        ('[access]\nimage_urls = ["a", 1]', "access.image_urls"),
        ("[lmm]\nname = []", "lmm.name"),
        ('profile = "large"', "'embedded', 'standard' or 'cluster'"),
        ('[workers]\nsecret = "open"', "variable LLAVA_PLUS_WORKER_SECRET only"),
        ('[mcp.headers."http://a"]\nX = "${NOT_SET_HERE}"', "variable NOT_SET_HERE is not set"),
        ('[mcp.headers."http://a"]\nX = "open\\nY: z"', "header 'X' .* not all printable"),
        ('[mcp.headers."http://a"]\n"X:" = "open"', "'X:' cannot be the name of a header"),
        ('[mcp.headers]\n"tool --open" = {X = "y"}', "reached by its URL"),
        ('[mcp]\nheaders = "open"', r"mcp.headers \(from llava-plus.toml\)"),
        ("[server", "not TOML"),
    ],
)
def test_a_slip_in_the_file_is_named(text: str, told: str) -> None:
    write(text)
    with pytest.raises(BadConfiguration, match=told) as refused:
        load_settings()
    assert "open" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("LLAVA_PLUS_SERVER__PROT", "did you mean LLAVA_PLUS_SERVER__PORT"),
        ("LLAVA_PLUS_SERVER_PORT", "did you mean LLAVA_PLUS_SERVER__PORT"),
        ("LLAVA_PLUS_DETCET_BACKEND", "did you mean LLAVA_PLUS_DETECT_BACKEND"),
        ("LLAVA_PLUS_SERVER__PORT", r"server.port \(from LLAVA_PLUS_SERVER__PORT\)"),
        ("LLAVA_PLUS_WORKERS__SECRET", "did you mean LLAVA_PLUS_WORKER"),
    ],
)
def test_a_slip_in_a_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, told: str
) -> None:
    monkeypatch.setenv(variable, "xyz")
    with pytest.raises(BadConfiguration, match=told) as refused:
        load_settings()
    assert "xyz" not in str(refused.value), "a value may be secret"


def test_headers_of_mcp_servers_are_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write('[mcp.headers."http://a/mcp"]\nAuthorization = "Bearer ${TOKEN_OF_A}"')
    monkeypatch.setenv("TOKEN_OF_A", "sesame\n")
    headers = load_settings().mcp.headers
    assert headers["http://a/mcp"]["Authorization"].get_secret_value() == "Bearer sesame"
    assert cli.main(["config", "show", "--json"]) == 0
    shown = {row["key"]: row["value"] for row in json.loads(capsys.readouterr().out)}
    assert shown["mcp.headers"] == {"http://a/mcp": {"Authorization": "***"}}
    monkeypatch.setenv("LLAVA_PLUS_MCP__HEADERS", '{"http://b": {"X-Key": "sesame"}}')
    assert load_settings().mcp.headers["http://b"]["X-Key"].get_secret_value() == "sesame"
    monkeypatch.setenv("LLAVA_PLUS_MCP__HEADERS", '{"http://b": sesame}')
    with pytest.raises(BadConfiguration, match=r"mcp.headers \(from LLAVA_PLUS_MCP__") as refused:
        load_settings()
    assert "sesame" not in str(refused.value) + repr(headers)


def test_every_variable_that_the_program_reads_may_be_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = [
        path
        for room in ("agent", "model", "skills", "training_data")
        for path in (ROOT / room).rglob("*.py")
        if path != ROOT / "agent" / "settings.py"
    ]
    named = {
        name
        for path in sources
        for name in re.findall(r"LLAVA_PLUS_[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    assert "LLAVA_PLUS_JUDGE_API_KEY" in named
    given = {"LLAVA_PLUS_PROFILE": "standard", "LLAVA_PLUS_SERVER__PORT": "1"}
    for name in named - {"LLAVA_PLUS_CONFIG"}:
        monkeypatch.setenv(name, given.get(name, "1"))
    load_settings()


def test_one_file_is_for_skills_too(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[skills.detect]\nthreads = 1\n[server]\nport = 9\n")
    assert load_settings().server.port == 9
    assert skill_settings.skill_settings("detect") == {"threads": 1}


@pytest.mark.parametrize("skills", [None, ("calculate",)])
def test_settings_of_no_skill_are_told_in_one_line_before_any_is_set_up(
    skills: tuple[str, ...] | None,
) -> None:
    write("[skills.detcet]\nthreads = 1\n")
    with pytest.raises(BadConfiguration, match=r"^llava-plus.toml: .*'detcet'; did you mean 'det"):
        load_skills(skills)


def test_a_key_is_needed_where_others_can_come_in() -> None:
    assert not load_settings().key_needed
    assert not load_settings({"server.host": "::1"}).key_needed
    for reachable in (
        {"server.host": "0.0.0.0"},
        {"server.host": "10.0.0.1"},
        {"server.names": ["chat.example"]},
        {"server.trusted_proxies": ["127.0.0.1"]},
        {"access.require_key": True},
    ):
        assert load_settings(reachable).key_needed, reachable
    assert not load_settings({"server.host": "0.0.0.0", "access.require_key": False}).key_needed


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


def test_config_show_tells_values_and_places_but_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write('[database]\nurl = "postgresql+asyncpg://me:open%20it@db/chats?password=open"\n')
    monkeypatch.setenv("LLAVA_PLUS_WORKER_SECRET", "open")
    monkeypatch.setenv("LLAVA_PLUS_WORKERS__URLS", "http://me:open@a:1/b")
    assert cli.main(["config", "show", "--json"]) == 0
    out = capsys.readouterr().out
    assert "open" not in out
    rows = {row["key"]: row for row in json.loads(out)}
    assert rows["database.url"]["value"] == "postgresql+asyncpg://me:***@db/chats?***"
    assert rows["database.url"]["from"] == "llava-plus.toml"
    assert rows["workers.secret"]["value"] == "***"
    assert rows["workers.secret"]["from"] == "LLAVA_PLUS_WORKER_SECRET"
    assert rows["workers.urls"]["value"] == ["http://me:***@a:1/b"]
    assert rows["server.port"] == {"key": "server.port", "value": 8600, "from": "default"}
    assert cli.main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^server\.port +8600 +default$", out, re.MULTILINE)
    assert "open" not in out


def test_a_file_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 7")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LLAVA_PLUS_CONFIG", "to be replaced")
        assert cli.main(["config", "show", "--config", str(other), "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["server.port"]["value"], rows["server.port"]["from"]) == (7, str(other))
    assert cli.main(["config", "show", "--config", "missing.toml"]) == 2
    assert "missing.toml" in capsys.readouterr().err
