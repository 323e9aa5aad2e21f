"""The operator's settings: one TOML file, the environment, and what a command line gave.

    [server]
    port = 8700             # or LLAVA_PLUS_SERVER__PORT=8700, or --port 8700

The command line goes before the environment, that before the file (of `skills/settings.py`, where
[skills.X] is for the skills' backends), that before the profile, that before the defaults.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ..skills.errors import BadConfiguration
from ..skills.images import MAX_PIXELS
from ..skills.settings import backend_variable, configurable_skills, read_config, unknown_name
from .mcp.headers import read_headers
from .profiles import PROFILES
from .store.places import default_artifacts, default_database

__all__ = [
    "AccessSettings",
    "DatabaseSettings",
    "LMMSettings",
    "MCPSettings",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "WorkerSettings",
    "load_settings",
    "origins",
]

PREFIX = "LLAVA_PLUS_"
_SECRET_VARIABLE = f"{PREFIX}WORKER_SECRET"
_SHORT_NAMES = {f"{PREFIX}LMM": "lmm.name", _SECRET_VARIABLE: "workers.secret"}
"""Variables that are older than the rule by which the others are named."""
_VARIABLES_OF_OTHERS = frozenset(
    PREFIX + name for name in ("API_KEY", "CONFIG", "DEBUG", "JUDGE_API_KEY", "LABELER_API_KEY")
)
_OWN_ENVIRONMENT_ONLY = frozenset({"workers.secret"})
"""Keys that are not taken from the file, which is copied and committed."""


def _listed(value: object) -> object:
    """Texts from one with commas between them, or from a JSON list, as a variable holds them."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            return json.loads(value)  # its error is a ValueError, which pydantic tells
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _worded(value: object) -> object:
    return value if value in ("refuse", "public") else _listed(value)


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
ImageUrls = Literal["refuse", "public"] | tuple[str, ...]
"""Which images of the web are fetched: none, all that the public web has, or those of hosts."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LMMSettings(_Section):
    """The LMMs, of which the first is the default, and how they take a turn."""

    name: Annotated[Texts, Field(min_length=1)] = ("embedded",)
    device: str = "cpu"
    max_steps: Annotated[int, Field(ge=1, le=100)] = 6
    turn_seconds: Annotated[float, Field(gt=0)] = 120.0
    offer: Annotated[int, Field(ge=2)] | None = None


class WorkerSettings(_Section):
    """Running workers to use; without any, one is started."""

    urls: Texts = ()
    secret: SecretStr | None = None


class MCPSettings(_Section):
    """MCP servers whose tools are offered as skills: a URL or a command each.

    `headers` are sent along to servers reached by their URL, such as a token each.
    """

    servers: Texts = ()
    headers: Annotated[dict[str, dict[str, SecretStr]], NoDecode, BeforeValidator(read_headers)] = (
        Field(default_factory=dict)
    )


class ServerSettings(_Section):
    """Where `llava-plus serve` listens, and what it serves there.

    `names` are the host names by which it is reached beside its address, and `trusted_proxies`
    the addresses of those in front of it whose X-Forwarded headers are believed.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8600
    page: bool = True
    mcp: bool = True
    root_path: Annotated[str, Field(pattern=r"^(/[^/?#\s]+)*$")] = ""
    names: Texts = ()
    trusted_proxies: Texts = ()

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        return _is_loopback(self.host)

    @property
    def is_private(self) -> bool:
        """Whether only programs of this machine reach it, and no proxy brings others."""
        return self.is_loopback and not self.names and not self.trusted_proxies


class DatabaseSettings(_Section):
    """Where conversations and the images in them are kept, and for how many days."""

    url: str = Field(default_factory=default_database)
    artifacts: str = Field(default_factory=default_artifacts)
    retention_days: Annotated[int, Field(ge=1)] | None = None


class AccessSettings(_Section):
    """Who may ask, and how much; the limits are those of one key.

    With `require_key` left out a key is needed unless only this machine reaches the server.
    """

    require_key: bool | None = None
    requests_per_minute: Annotated[int, Field(ge=1)] = 600
    concurrent: Annotated[int, Field(ge=1)] = 8
    upload_bytes: Annotated[int, Field(ge=1)] = 64 * 1024 * 1024
    pixels: Annotated[int, Field(ge=1, le=MAX_PIXELS)] = MAX_PIXELS
    image_urls: Annotated[ImageUrls, NoDecode, BeforeValidator(_worded)] = "refuse"
    allow_origins: Texts = ()


class TelemetrySettings(_Section):
    """What is told about the running program, and to whom."""

    otlp_endpoint: str | None = None
    json_logs: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """All settings of a gateway. `load_settings` makes them and names what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=False,
        extra="forbid", frozen=True,
    )  # fmt: skip

    profile: Literal["embedded", "standard", "cluster"] = "embedded"
    skills_on_offer: Texts | None = None
    lmm: LMMSettings = LMMSettings()
    workers: WorkerSettings = WorkerSettings()
    mcp: MCPSettings = MCPSettings()
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    access: AccessSettings = AccessSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def key_needed(self) -> bool:
        """Whether a caller must show a key."""
        needed = self.access.require_key
        return not self.server.is_private if needed is None else needed

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        profile = PROFILES[self.profile]
        if profile.lmm is None and "name" not in self.lmm.model_fields_set:
            raise ValueError(f"profile {self.profile!r} needs lmm.name, such as URL#MODEL")
        if not (self.workers.urls or profile.starts_workers):
            raise ValueError(f"profile {self.profile!r} needs workers.urls")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in their order; what an earlier one gives stands."""
        return (init_settings, _Environment(cls), _ConfigFile(cls), _ProfileDefaults(cls))


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force; `overrides` are the command line's, by key such as "server.port".

    Raises `BadConfiguration` that names the key, where its value came from, and what fits.
    """
    nested = _nested(overrides or {})
    try:
        return Settings(**nested)
    except ValidationError as error:
        came_from = origins(overrides)
        told = [_told(detail["loc"], detail["msg"], came_from) for detail in error.errors()]
        raise BadConfiguration("; ".join(dict.fromkeys(told))) from None  # values may be secret


def origins(overrides: Mapping[str, Any] | None = None) -> dict[str, str]:
    """For each key such as "server.port" where its value comes from."""
    environment, file = _Environment(Settings), _ConfigFile(Settings)
    given = [_nested(overrides or {}), environment(), file()]
    chosen = next((layer["profile"] for layer in given if "profile" in layer), "embedded")
    found = dict.fromkeys(_keys(), "default")
    if chosen != "embedded":  # whose values are the defaults
        found |= dict.fromkeys(_flat(_profile_defaults(chosen)), f"profile {chosen}")
    found |= dict.fromkeys(_flat(file()), str(read_config()[0]))
    found |= environment.variables()
    return found | dict.fromkeys(overrides or {}, "command line")


class _Environment(EnvSettingsSource):
    """Variables named LLAVA_PLUS_SECTION__KEY, and a few short names; all must be known."""

    def __call__(self) -> dict[str, Any]:
        known = _variables()
        for name in os.environ:
            if name.startswith(PREFIX) and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                meant = f"did you mean {close[0]}?" if close else f"such as {PREFIX}SERVER__PORT"
                raise BadConfiguration(f"there is no environment variable {name}; {meant}")
        texts = {key: os.environ[name] for key, name in self.variables().items()}
        self.env_vars = {
            f"{PREFIX}{key.replace('.', '__')}".lower(): text for key, text in texts.items()
        }
        return super().__call__()

    def variables(self) -> dict[str, str]:
        """The variables that are set, by the key of what they set; a short name gives way."""
        names = dict(_SHORT_NAMES)
        names |= {_variable(key): key for key in _keys() if key not in _OWN_ENVIRONMENT_ONLY}
        return {key: name for name, key in names.items() if name in os.environ}


class _ConfigFile(PydanticBaseSettingsSource):
    """The TOML file without [skills.X], which is read where a backend is created."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("the file is read as a whole")

    def __call__(self) -> dict[str, Any]:
        path, config = read_config()
        config.pop("skills", None)
        keys = _keys()
        sections = sorted({key.partition(".")[0] for key in keys})
        for name, table in config.items():
            if name not in sections:
                raise BadConfiguration(f"{path}: {unknown_name('section', name, sections)}")
            if name in keys:
                continue
            if not isinstance(table, dict):
                raise BadConfiguration(f"{path}: {name!r} must be a table: [{name}]")
            inside = [key.partition(".")[2] for key in keys if key.startswith(f"{name}.")]
            for key in table:
                if f"{name}.{key}" in _OWN_ENVIRONMENT_ONLY:
                    told = f"[{name}] {key} is taken from the variable {_SECRET_VARIABLE} only"
                    raise BadConfiguration(f"{path}: {told}")
                if key not in inside:
                    told = unknown_name(f"setting in [{name}]", key, inside)
                    raise BadConfiguration(f"{path}: {told}")
        return config


class _ProfileDefaults(PydanticBaseSettingsSource):
    """What the chosen profile takes where nothing else was said."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("a profile is taken as a whole")

    def __call__(self) -> dict[str, Any]:
        return _profile_defaults(self.current_state.get("profile", "embedded"))


def _profile_defaults(name: object) -> dict[str, Any]:
    profile = PROFILES.get(name) if isinstance(name, str) else None
    if profile is None:
        return {}  # the field itself says what there is
    return {"lmm": {"device": profile.device, **({"name": profile.lmm} if profile.lmm else {})}}


def _keys() -> list[str]:
    """Every key that there is, such as "server.port"."""
    keys = []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            keys += [f"{name}.{key}" for key in section.model_fields]
        else:
            keys.append(name)
    return keys


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "__").upper()


def _variables() -> list[str]:
    """Every variable that something reads."""
    own = [_variable(key) for key in _keys() if key not in _OWN_ENVIRONMENT_ONLY]
    backends = map(backend_variable, configurable_skills())
    return sorted({*own, *_SHORT_NAMES, *_VARIABLES_OF_OTHERS, *backends})


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return nested


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    return {
        (f"{section}.{name}" if name else section): value
        for section, table in nested.items()
        for name, value in (table.items() if isinstance(table, dict) else [("", table)])
    }


def _told(location: tuple[int | str, ...], message: str, came_from: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in location[:2])
    key = key if key in came_from else key.partition(".")[0]
    if key not in came_from:
        return message.removeprefix("Value error, ")
    return f"{key} (from {came_from[key]}): {message.removeprefix('Value error, ')}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
