"""Settings: one TOML file and environment variables, read in this place only.

The file is `askaloud.toml` in the data folder (or what `ASKALOUD_CONFIG` names); `ASKALOUD_RETRIEVER__KIND=cascade` overrides
`[retriever] kind`. The data folder is `ASKALOUD_HOME`, else the platform's folder for user data.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, TypeVar, get_args

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from app.errors import SettingsInvalid
from generator.config import EMBEDDED, GeneratorConfig
from retriever.config import AudioLimits, Clsr, IndexConfig, RetrieverConfig, SegmentationConfig, SpeechPauses

NO_SUCH = dict.fromkeys(("extra_forbidden", "unexpected_keyword_argument"), "there is no such setting")


class Storage(BaseModel):
    """Where the library is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    database_url: str = ""  # empty: SQLite in the data folder
    min_free_bytes: int = 200 * 2**20


class Web(BaseModel):
    """The page's server."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = "127.0.0.1"
    port: int = 8501
    public_hosts: tuple[str, ...] = ()  # names under which a proxy with HTTPS serves the pages; others are refused
    max_upload_bytes: int = 4 * 2**30
    import_folder: Path | None = None  # files put here can be added without an upload; None: `import` in the data folder


class Settings(BaseSettings):
    """All settings; immutable once read."""

    model_config = SettingsConfigDict(env_prefix="ASKALOUD_", env_nested_delimiter="__", frozen=True, extra="forbid")

    home: Path = Field(default_factory=lambda: user_data_path("askaloud", appauthor=False))
    num_hits: Annotated[int, Field(ge=1, le=50)] = 5
    demo: bool = True  # put the demo lecture into a new library
    limits: AudioLimits = Field(default_factory=AudioLimits)
    segmentation: SegmentationConfig = Field(default_factory=SpeechPauses, discriminator="kind")
    retriever: RetrieverConfig = Field(default_factory=Clsr, discriminator="kind")
    index: IndexConfig = Field(default_factory=IndexConfig)
    generator: GeneratorConfig = Field(default=EMBEDDED, discriminator="kind")
    storage: Storage = Field(default_factory=Storage)
    web: Web = Field(default_factory=Web)

    @field_validator("segmentation", "retriever", "generator", mode="before")
    @classmethod
    def _of_the_default_kind(cls, value: object, info: ValidationInfo) -> object:
        """Fields without a kind are those of the default."""
        if not isinstance(value, Mapping) or "kind" in value:
            return value
        default = cls.model_fields[str(info.field_name)].get_default(call_default_factory=True)
        return {"kind": default.kind, **value}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic passes it; we read no .env file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_path())

    @property
    def import_folder(self) -> Path:
        """Where the app looks for files on this machine."""
        return self.web.import_folder or self.home / "import"

    @property
    def index_folder(self) -> Path:
        """Holds one folder for each model's index."""
        return self.home / "index"

    @property
    def upload_folder(self) -> Path:
        """Holds uploads while they arrive."""
        return self.home / "uploads"

    @property
    def log_folder(self) -> Path:
        """Holds the logs of worker and app."""
        return self.home / "logs"


def config_path() -> Path:
    """Return where the settings file is looked for; it need not exist."""
    if named := os.environ.get("ASKALOUD_CONFIG"):
        return Path(named)
    home = os.environ.get("ASKALOUD_HOME")
    return (Path(home) if home else user_data_path("askaloud", appauthor=False)) / "askaloud.toml"


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SettingsInvalid: a value is wrong; the message names the setting and the file.
    """
    named = os.environ.get("ASKALOUD_CONFIG")
    if named and not Path(named).is_file():
        raise SettingsInvalid(f"ASKALOUD_CONFIG names {named}, which is no file: name the settings file, or unset the variable")
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{_setting(e['loc'])}: {NO_SUCH.get(e['type'], e['msg'])}" for e in error.errors())
        raise SettingsInvalid(f"{problems}. Mend it in {config_path()} or in the ASKALOUD_… environment variables") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{config_path()} is not TOML: {error}. Mend it, or move it away to begin with the defaults") from error
    except OSError as error:
        raise SettingsInvalid(
            f"{config_path()} cannot be read: {error}. Mend its permissions, or name another in ASKALOUD_CONFIG"
        ) from error


def _setting(location: tuple[int | str, ...]) -> str:
    """Return a setting's name; pydantic puts the kind between the part and the field."""
    part, *rest = location
    return ".".join(
        str(name) for name in (part, *(rest[1:] if part in ("segmentation", "retriever", "generator") and len(rest) > 1 else rest))
    )


def require_home(settings: Settings) -> None:
    """Make the data folder if need be.

    Raises:
        SettingsInvalid: it cannot be made, or nothing can be written there.
    """
    way_out = "name a folder that is yours in ASKALOUD_HOME"
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsInvalid(f"the data folder {settings.home} cannot be made ({error.strerror}): {way_out}") from error
    if not os.access(settings.home, os.W_OK | os.X_OK):
        raise SettingsInvalid(f"nothing can be written into the data folder {settings.home}: mend its permissions, or {way_out}")


def with_kinds(settings: Settings, retriever: str | None, generator: str | None) -> Settings:
    """Return the settings with another retriever or generator; its own settings are kept if it is the one that was set anyway.

    Raises:
        SettingsInvalid: there is no such kind; the message lists those there are.
    """
    return settings.model_copy(
        update={
            "retriever": _chosen("retriever", retriever, settings.retriever, _records(RetrieverConfig)),
            "generator": _chosen("generator", generator, settings.generator, _records(GeneratorConfig)),
        }
    )


_Record = TypeVar("_Record", RetrieverConfig, GeneratorConfig)


def _chosen(part: str, kind: str | None, present: _Record, records: Mapping[str, type[_Record]]) -> _Record:
    if kind is None or kind == present.kind:
        return present
    if kind not in records:
        raise SettingsInvalid(f"{kind!r} is no {part}: choose one of {', '.join(sorted(records))}")
    return records[kind]()


def _records(union: object) -> dict[str, type]:
    """Return the records of a union (or of what has only one member yet) by their kind."""
    return {str(next(f.default for f in fields(record) if f.name == "kind")): record for record in get_args(union) or (union,)}
