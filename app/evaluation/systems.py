"""What is compared: named systems, each a retriever and what it is given.

`cascade` and every other kind of retriever is a system by its kind. `text` is the upper bound: the words that were truly said in the same
segments, through the text encoder and the fusion of the default retriever. `NAME=KIND[:FOLDER][@said|@text]` names any other: other weights
of the same kind are how a control is run that differs in its training.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path

from app.errors import CommandMisused
from app.settings import Settings, with_kinds
from retriever.config import RetrieverConfig

WEIGHT_FIELDS = ("weights", "model", "folder")  # what records call the folder of their weights


class Source(Enum):
    """What a system is given of a context."""

    SOUND = "sound"
    SAID = "said"  # the true words of each segment
    TEXT = "text"  # the whole context in writing, as one segment


@dataclass(frozen=True, slots=True)
class System:
    """A retriever under a name."""

    name: str
    retriever: RetrieverConfig
    source: Source = Source.SOUND

    def describe(self) -> dict[str, str]:
        """Return what reports say of it."""
        return {"name": self.name, "retriever": repr(self.retriever), "source": self.source.value}


def parse_systems(text: str, settings: Settings) -> list[System]:
    """Return the systems of a list with commas.

    Raises:
        CommandMisused: one cannot be read, or two have one name.
        SettingsInvalid: there is no such kind of retriever.
    """
    systems = [_parse(part.strip(), settings) for part in text.split(",") if part.strip()]
    names = [system.name for system in systems]
    if not systems or len(set(names)) != len(names):
        raise CommandMisused(f"systems need different names, got {names}; say NAME=KIND where a kind occurs twice")
    return systems


def needs_sound(systems: Sequence[System]) -> bool:
    """Return whether one of the systems listens."""
    return any(system.source is not Source.TEXT for system in systems)


def _parse(text: str, settings: Settings) -> System:
    if text == "text":
        return System(text, settings.retriever, Source.SAID)
    if text == "text-whole":
        return System(text, settings.retriever, Source.TEXT)
    parsed = re.fullmatch(r"(?:(?P<name>[\w.-]+)=)?(?P<kind>[\w-]+)(?::(?P<folder>[^@]+))?(?:@(?P<source>said|text|sound))?", text)
    if parsed is None:
        raise CommandMisused(f"{text!r} is no system: say text, text-whole, a kind of retriever, or NAME=KIND[:FOLDER][@said|@text]")
    config = with_kinds(settings, parsed["kind"], None).retriever
    if parsed["folder"]:
        config = _with_weights(config, Path(parsed["folder"]))
    return System(parsed["name"] or text, config, Source(parsed["source"] or "sound"))


def _with_weights(config: RetrieverConfig, folder: Path) -> RetrieverConfig:
    """Return the record with other weights."""
    names = [field.name for field in fields(config) if field.name in WEIGHT_FIELDS]
    if not names:
        raise CommandMisused(f"a retriever of kind {config.kind} always uses what ships with it; leave {folder} out")
    if not folder.is_dir():
        raise CommandMisused(f"{folder} is no folder of weights; name the one that training wrote")
    changes: dict[str, Path] = {names[0]: folder}
    return replace(config, **changes)  # type: ignore[arg-type]  # which record it is shows only when it runs
