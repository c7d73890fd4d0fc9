"""Composition root: settings in, a working application out; the only place that picks concrete classes."""

from dataclasses import dataclass
from pathlib import Path

from app.service import SpokenQA
from app.settings import Settings, require_home
from app.worker import Worker
from generator.base import Generator, StreamingGenerator
from generator.build import build_generator
from generator.config import EMBEDDED, GeneratorConfig
from generator.fallback import WithFallback
from retriever.base import Retriever, Segmenter
from retriever.build import build_fusion, build_retriever, build_segmenter
from retriever.index import LiveIndex
from storage.build import open_library
from storage.config import StorageConfig
from storage.library import SqlLibrary


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What both the application and the worker are made of."""

    settings: Settings
    library: SqlLibrary
    retriever: Retriever
    segmenter: Segmenter

    @property
    def index_folder(self) -> Path:
        """Where this model's index lies."""
        return self.settings.index_folder / self.retriever.fingerprint


def build_parts(settings: Settings) -> Parts:
    """Open the library (made or upgraded if need be) and choose retriever and segmenter. Models are loaded on first use.

    Raises:
        SettingsInvalid: the data folder cannot be made or written.
        StorageError: the library cannot be opened.
        ModelFilesMissing: shipped weights are absent.
    """
    require_home(settings)
    storage = settings.storage
    library = open_library(StorageConfig(settings.home, storage.database_url, min_free_bytes=storage.min_free_bytes))
    return Parts(settings, library, build_retriever(settings.retriever), build_segmenter(settings.segmentation))


def build_app(parts: Parts) -> SpokenQA:
    """Return the application of the local user."""
    return SpokenQA(
        library=parts.library,
        retriever=parts.retriever,
        index=LiveIndex(
            parts.index_folder,
            parts.retriever.fingerprint,
            parts.retriever.dimension,
            build_fusion(parts.settings.retriever),
            parts.settings.index.device,
        ),
        generator=build_answerer(parts.settings.generator, parts.settings.retriever.kind),
        segmenter=parts.segmenter,
        limits=parts.settings.limits,
        num_hits=parts.settings.num_hits,
    )


def build_answerer(config: GeneratorConfig, retriever_kind: str) -> Generator:
    """Return the generator that a record asks for; one that needs a server gets the embedded one to stand in for it.

    Raises:
        CalibrationMissing: nothing was measured for the embedded generator with this retriever.
        FamilyUnknown: the record names a family of models that is none.
    """
    generator = build_generator(config, retriever_kind)
    if not isinstance(generator, StreamingGenerator):
        return generator
    return WithFallback(generator, build_generator(EMBEDDED, retriever_kind), f"embedded generator ({EMBEDDED.kind})")


def build_worker(parts: Parts) -> Worker:
    """Return a worker over the same parts."""
    return Worker(
        library=parts.library,
        retriever=parts.retriever,
        segmenter=parts.segmenter,
        limits=parts.settings.limits,
        index_folder=parts.settings.index_folder,
        lock_path=parts.settings.home / "worker.lock",
    )
