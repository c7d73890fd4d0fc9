"""Keeps one model's index equal to the library: the worker's side of the index."""

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

from retriever.domain import EmbeddedSegment
from retriever.errors import IndexUnusable
from retriever.index import SegmentIndex
from retriever.index_files import stamp
from storage.base import Library

SAVE_EVERY_S = 5.0  # how long what was heard may take to become searchable
RETRY_S = 10.0  # after the index could not be saved

log = logging.getLogger(__name__)


@dataclass(eq=False)
class IndexKeeper:
    """The only writer of one model's index files.

    Attributes:
        folder: holds the index of the model named by `fingerprint`.
    """

    library: Library
    folder: Path
    fingerprint: str
    dimension: int

    def __post_init__(self) -> None:
        self._index = self._open()
        self._saved_at = 0.0
        self._failed_at = -math.inf
        self._generation = -1  # of the library, that the index in memory is known to hold
        self._stamp = stamp(self.folder)

    def _open(self) -> SegmentIndex:
        try:
            return SegmentIndex.open(self.folder, self.fingerprint, self.dimension)
        except IndexUnusable as error:
            log.info("making the index anew: %s", error)
            return SegmentIndex.create(self.fingerprint, self.dimension)

    def sync(self) -> None:
        """Make the index equal to the library, and save it if anything changed: the library, or the files by another's hand."""
        if time.monotonic() - self._failed_at < RETRY_S:
            return
        generation = self.library.lectures.generation(self.fingerprint)
        if generation == self._generation:
            if stamp(self.folder) == self._stamp:
                return
            log.warning("the index in %s was removed or altered; it is saved again", self.folder)
        kept = self.library.lectures.embedded_ids(self.fingerprint)
        gone, missing = self._index.ids - kept, kept - self._index.ids
        self._index.remove(gone)
        if missing:
            everything = not self._index.ids
            for one in self.library.lectures.embedded(self.fingerprint, None if everything else missing):
                self._index.add([one])
        self._save(generation)

    def add(self, embedded: EmbeddedSegment) -> None:
        """Add a segment that is already in the library; saved now and then."""
        self._index.add([embedded])
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.sync()

    def rebuild(self) -> int:
        """Make the index again from the library alone; return how many segments it holds."""
        self._index = SegmentIndex.create(self.fingerprint, self.dimension)
        self._generation = -1
        self.sync()
        return len(self._index.ids)

    def _save(self, generation: int) -> None:
        """Save, or try again later where the disk is full: the library has everything, and listening goes on."""
        try:
            self._index.save(self.folder, generation)
        except OSError as error:
            log.warning("the index cannot be saved and is tried again in a while: %s", error)
            self._failed_at = time.monotonic()
            return
        self._generation, self._saved_at, self._stamp = generation, time.monotonic(), stamp(self.folder)
