"""What is compared: named systems, each a retriever and what it is given.

`cascade` and every other kind of retriever is a system by its kind. `text` is the upper bound: the words that were truly said in the same
segments, through the text encoder and the fusion of the default retriever. Any other is `NAME=KIND[+FIELD=VALUE…][:FOLDER][@said|@text]`:
other weights of the same kind are how a control is run that differs in its training. A kind of `app.evaluation.trained` is run from the
checkpoint in FOLDER, searched as the default retriever is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path

from app.errors import CommandMisused
from app.evaluation.trained import LOADERS, build_trained
from app.settings import Settings, with_kinds
from retriever.base import Retriever
from retriever.build import build_retriever
from retriever.config import RetrieverConfig

_PATTERN = re.compile(
    r"(?:(?P<name>[\w.-]+)=)?(?P<kind>[\w-]+)(?P<options>(?:\+\w+=[\w.]+)*)(?::(?P<folder>[^@]+))?(?:@(?P<source>said|text|sound))?"
)


class Source(Enum):
    """What a system is given of a context."""

    SOUND = "sound"
    SAID = "said"  # the true words of each segment
    TEXT = "text"  # the whole context in writing, as one segment


@dataclass(frozen=True, slots=True)
class System:
    """A retriever under a name.

    Attributes:
        weights: a folder of weights of this kind; None takes what ships.
        trained: which kind of checkpoint `weights` is, if none of a retriever that the application has; `retriever` then says how
            its vectors and words are searched.
    """

    name: str
    retriever: RetrieverConfig
    source: Source = Source.SOUND
    weights: Path | None = None
    trained: str | None = None

    def describe(self) -> dict[str, str | None]:
        """Return what reports say of it; of the folder only its name, the weights are told by the fingerprint of each outcome."""
        weights = self.weights.name if self.weights else None
        retriever = f"{self.trained}, searched as {self.retriever!r}" if self.trained else repr(self.retriever)
        return {"name": self.name, "retriever": retriever, "source": self.source.value, "weights": weights}

    def build(self) -> Retriever:
        """Return the retriever; models are loaded on first use.

        Raises:
            ModelFilesMissing: weights are absent.
            CommandMisused: this kind of retriever takes no other weights.
        """
        if self.trained and self.weights:
            return build_trained(self.trained, self.weights)
        if self.weights is None:
            return build_retriever(self.retriever)
        if self.retriever.kind == "clsr":
            from retriever.clsr import ClsrRetriever  # noqa: PLC0415 - only who runs it pays for it

            return ClsrRetriever(self.retriever, self.weights)
        raise CommandMisused(f"a retriever of kind {self.retriever.kind} always uses what ships with it; leave {self.weights} out")


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
    parsed = _PATTERN.fullmatch(text)
    if parsed is None:
        raise CommandMisused(f"{text!r} is no system: say text, text-whole, KIND, or NAME=KIND[+FIELD=VALUE…][:FOLDER][@said|@text]")
    trained = parsed["kind"] if parsed["kind"] in LOADERS else None
    config = _with_options(settings.retriever if trained else with_kinds(settings, parsed["kind"], None).retriever, parsed["options"])
    weights = Path(parsed["folder"]) if parsed["folder"] else None
    if trained and weights is None:
        raise CommandMisused(f"nothing of kind {trained} ships: say NAME={trained}:FOLDER with the folder that its training wrote")
    if weights and not weights.is_dir():
        raise CommandMisused(f"{weights} is no folder of weights; name the one that training wrote")
    return System(parsed["name"] or text, config, Source(parsed["source"] or "sound"), weights, trained)


def _with_options(config: RetrieverConfig, options: str) -> RetrieverConfig:
    """Return the record with fields of numbers set as `+FIELD=VALUE` says."""
    known = {field.name: type(getattr(config, field.name)) for field in fields(config)}
    for option in options.split("+")[1:]:
        name, _, value = option.partition("=")
        if known.get(name) not in (int, float):
            raise CommandMisused(f"a retriever of kind {config.kind} has no number called {name!r}: it has {', '.join(known)}")
        try:
            config = replace(config, **{name: known[name](value)})
        except ValueError as error:
            raise CommandMisused(f"{value!r} is no value for {name}; give a number") from error
    return config
