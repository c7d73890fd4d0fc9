"""What is searched: vectors in FAISS, words and letters in postings, and their files; the only module that imports faiss.

A cache: it can be made again from the library at any time. Scope is filtered inside the search, for vectors and words alike, so a short
lecture among a hundred hours still yields its k hits. What is found depends on which segments are in it, not on the order they came in.

Shapes: S segments, D dimensions, P terms of all segments with repetitions.
"""

import io
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID
from zipfile import BadZipFile

import faiss
import numpy as np
import numpy.typing as npt

from retriever.domain import EmbeddedSegment, EncodedQuestion, Hit, HitFeatures, Segment, join_words
from retriever.errors import DeviceUnavailable, IndexDamaged, IndexForeign, IndexMissing, InvalidSegment
from retriever.fusion import Fusion, Scores, ranking
from retriever.index_files import REBUILT, Manifest, check_maker, read_manifest, read_parts, write
from retriever.lexical import (
    GRAM_SATURATION,
    NUM_GRAMS,
    Ids,
    Mask,
    Postings,
    Vocabulary,
    content_letters,
    content_terms,
    letter_grams,
)

VECTORS: Final = "vectors"
SEGMENTS: Final = "segments"
Device = Literal["cpu", "cuda"]
NUM_LOADS: Final = 5  # a writer saves every few seconds at most: it does not outrun a reader five times


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A segment, the numbers of its terms, and the letters of its content words."""

    segment: Segment
    terms: Ids
    letters: bytes


class _View:
    """All segments in their own order (lecture, time), ready to be searched; does not change."""

    def __init__(self, entries: Iterable[_Entry], num_terms: int) -> None:
        ordered = sorted(entries, key=lambda entry: _order(entry.segment))
        self.segments = [entry.segment for entry in ordered]
        self.postings = Postings([entry.terms for entry in ordered], num_terms)
        self.grams = Postings([letter_grams(entry.letters) for entry in ordered], NUM_GRAMS, GRAM_SATURATION)
        self.lectures = {lecture: number for number, lecture in enumerate({segment.lecture_id: None for segment in self.segments})}
        self._lecture_of = np.array([self.lectures[segment.lecture_id] for segment in self.segments], np.int64)
        self._ids = np.array([segment.id for segment in self.segments], np.int64)
        self._by_id = np.argsort(self._ids)

    def scope(self, within: Collection[UUID]) -> npt.NDArray[np.bool_]:
        """Return (S,), True for the segments of these lectures."""
        wanted = np.zeros(len(self.lectures), np.bool_)
        wanted[[self.lectures[lecture] for lecture in within if lecture in self.lectures]] = True
        mask: npt.NDArray[np.bool_] = wanted[self._lecture_of]
        return mask

    def ids(self, scope: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the ids of the segments in scope."""
        return self._ids[scope]

    def rows(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return where segments stand in `segments`."""
        found: npt.NDArray[np.intp] = self._by_id[np.searchsorted(self._ids, ids, sorter=self._by_id)]
        return found


class SegmentIndex:
    """Embedded segments of one model, to be searched by question.

    One thread at a time may change it; any number may search what nobody changes.
    """

    def __init__(self, fingerprint: str, dimension: int, fusion: Fusion, device: Device) -> None:
        """Make an empty index; callers use `create` or `open`."""
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._fusion = fusion
        self._gpu: Any = _open_gpu() if device == "cuda" else None
        self._vectors: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._entries: dict[int, _Entry] = {}
        self._vocabulary = Vocabulary()
        self._view: _View | None = None
        self._viewing = threading.Lock()

    @classmethod
    def create(cls, fingerprint: str, dimension: int, fusion: Fusion = Fusion(), device: Device = "cpu") -> "SegmentIndex":  # noqa: B008 - frozen
        """Return an empty index.

        Args:
            fingerprint: of the model whose vectors it will hold.
            dimension: D.
            fusion: how to rank.
            device: where cosines are computed.

        Raises:
            DeviceUnavailable: "cuda" is asked for without faiss-gpu or without a GPU.
        """
        return cls(fingerprint, dimension, fusion, device)

    @classmethod
    def open(cls, folder: Path, fingerprint: str, dimension: int, fusion: Fusion = Fusion(), device: Device = "cpu") -> "SegmentIndex":  # noqa: B008
        """Return the index that a folder holds; arguments as of `create`.

        Raises:
            DeviceUnavailable: "cuda" is asked for without faiss-gpu or without a GPU.
            IndexMissing: there is none.
            IndexDamaged: files are absent, cut short, altered, or of an unknown version.
            IndexForeign: made by another model.
        """
        manifest = read_manifest(folder)
        check_maker(manifest, fingerprint, dimension)
        parts = read_parts(folder, manifest)
        index = cls(fingerprint, dimension, fusion, device)
        try:
            index._restore(parts[VECTORS], parts[SEGMENTS])
        except (KeyError, ValueError, OSError, RuntimeError, BadZipFile) as error:
            raise IndexDamaged(f"{folder} holds files that do not fit together ({error!r}); {REBUILT}") from error
        return index

    @property
    def ids(self) -> set[int]:
        """The ids of all segments in it."""
        return set(self._entries)

    def add(self, segments: Sequence[EmbeddedSegment]) -> None:
        """Add segments; those already in it stay as they are.

        Raises:
            IndexForeign: a vector was made by another model.
            InvalidSegment: a vector is not of length 1.
        """
        new = {one.segment.id: one for one in segments if one.segment.id not in self._entries}
        for one in new.values():
            self._check(one)
        if not new:
            return
        self._vectors.add_with_ids(np.stack([one.vector for one in new.values()]), np.fromiter(new, np.int64))
        for number, one in new.items():
            text = join_words(one.words)
            self._entries[number] = _Entry(one.segment, self._vocabulary.learn(content_terms(text)), content_letters(text))
        self._view = None

    def remove(self, ids: Collection[int]) -> None:
        """Remove segments; ids that are not in it are no error."""
        gone = [number for number in ids if self._entries.pop(number, None) is not None]
        if gone:
            self._vectors.remove_ids(faiss.IDSelectorBatch(np.array(gone, np.int64)))
            self._view = None

    def search(self, question: EncodedQuestion, k: int, within: Collection[UUID]) -> list[Hit]:
        """Return the k best segments of some lectures, best first; fewer only if they have fewer.

        Equal scores are in order of lecture and time.

        Raises:
            IndexForeign: the question was encoded by another model.
        """
        if question.vector.shape != (self._dimension,):
            raise IndexForeign(f"the question has a vector of shape {question.vector.shape}, this index has {self._dimension} dimensions")
        view = self.prepare()
        scope = view.scope(within)
        if k < 1 or not scope.any():
            return []
        cosine = self._cosines(question, view, scope)  # (S,) of the segments in scope
        matches = view.postings.match([self._vocabulary.number(term) for term in dict.fromkeys(content_terms(question.wording))], scope)
        lexical, coverage = matches.bm25[scope], matches.coverage[scope]
        grams = view.grams.match(dict.fromkeys(letter_grams(content_letters(question.wording)).tolist()), scope).bm25[scope]
        scores = self._fusion.scores(cosine, lexical, grams, k)
        middle = float(np.median(cosine))
        rows = np.flatnonzero(scope)
        return [
            Hit(
                view.segments[rows[place]],
                float(scores[place]),
                HitFeatures(float(cosine[place]), float(lexical[place]), float(coverage[place]), float(cosine[place]) - middle),
            )
            for place in ranking(scores, k)
        ]

    def save(self, folder: Path, generation: int) -> None:
        """Replace what the folder holds by this index; a reader sees the old one or the new one, nothing between.

        Args:
            folder: made if need be. One writer at a time.
            generation: of the library that this index equals.
        """
        manifest = Manifest(self._fingerprint, self._dimension, len(self._entries), generation)
        vectors = faiss.serialize_index(self._vectors).tobytes()
        write(folder, manifest, {VECTORS: vectors, SEGMENTS: _pack(list(self._entries.values()), self._vocabulary)})

    def prepare(self) -> _View:
        """Make ready for searching, which the first search after a change does otherwise."""
        with self._viewing:
            if self._view is None:
                self._view = _View(self._entries.values(), len(self._vocabulary))
            return self._view

    def _cosines(self, question: EncodedQuestion, view: _View, scope: Mask) -> Scores:
        """Return (S,) the cosines of all segments in scope, in the view's order.

        All of them, not the best few: the margin needs their median, the best of the lexical side need theirs, and among a flat index's
        costs sorting is small (100 hours: see the benchmarks).
        """
        faiss.omp_set_num_threads(1)  # of this thread: two would wait for each other wherever recognition keeps the cores busy
        ids = view.ids(scope)
        query = question.vector[None].astype(np.float32)
        if self._gpu is not None:  # faiss has no selectors on a GPU: what is in scope goes there whole
            found = faiss.pairwise_distance_gpu(self._gpu, query, self._vectors.reconstruct_batch(ids), metric=faiss.METRIC_INNER_PRODUCT)
            on_gpu: Scores = np.clip(found[0], -1.0, 1.0).astype(np.float64)
            return on_gpu
        chosen = None if scope.all() else faiss.SearchParameters(sel=faiss.IDSelectorBatch(ids))  # type: ignore[call-arg]
        found, found_ids = self._vectors.search(query, len(ids), params=chosen)
        cosines = np.empty(len(scope))
        cosines[view.rows(found_ids[0])] = np.clip(found[0], -1.0, 1.0)
        in_scope: Scores = cosines[scope]
        return in_scope

    def _check(self, one: EmbeddedSegment) -> None:
        if one.fingerprint != self._fingerprint or one.vector.shape != (self._dimension,):
            raise IndexForeign(
                f"a vector of shape {one.vector.shape} by {one.fingerprint} does not belong here: "
                f"this index holds {self._dimension} dimensions by {self._fingerprint}; embed the lecture anew"
            )
        length = float(np.linalg.norm(one.vector))
        if not abs(length - 1.0) < 1e-3:  # also catches NaN
            raise InvalidSegment(f"a vector must have length 1, got {length}; the model that made it is broken")

    def _restore(self, vectors: bytes, segments: bytes) -> None:
        self._vectors = faiss.deserialize_index(np.frombuffer(vectors, np.uint8))
        entries, self._vocabulary = _unpack(segments)
        self._entries = {entry.segment.id: entry for entry in entries}
        if self._vectors.d != self._dimension or set(faiss.vector_to_array(self._vectors.id_map).tolist()) != self.ids:
            raise ValueError("vectors and segments differ")


def _open_gpu() -> Any:
    """Return faiss's hold on a GPU."""
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        raise DeviceUnavailable('device = "cuda" needs faiss-gpu (extra `gpu`, instead of faiss-cpu) and an NVIDIA GPU; set device = "cpu"')
    return faiss.StandardGpuResources()


def _order(segment: Segment) -> tuple[int, int, int, int]:
    """Return what sorts segments as they sort themselves, ten times faster."""
    return segment.lecture_id.int, segment.start, segment.end, segment.run_id.int


def _pack(entries: Sequence[_Entry], vocabulary: Vocabulary) -> bytes:
    """Return segments and their terms as the bytes of an .npz file without objects."""
    used, terms = np.unique(np.concatenate([np.empty(0, np.int32), *(entry.terms for entry in entries)]), return_inverse=True)
    known = vocabulary.terms
    file = io.BytesIO()
    np.savez(
        file,
        lectures=np.frombuffer(b"".join(entry.segment.lecture_id.bytes for entry in entries), np.uint8).reshape(-1, 16),
        runs=np.frombuffer(b"".join(entry.segment.run_id.bytes for entry in entries), np.uint8).reshape(-1, 16),
        spans=np.array([(entry.segment.start, entry.segment.end) for entry in entries], np.int64).reshape(-1, 2),
        num_terms=np.array([len(entry.terms) for entry in entries], np.int64),
        terms=terms.astype(np.int32),
        num_letters=np.array([len(entry.letters) for entry in entries], np.int64),
        letters=np.frombuffer(b"".join(entry.letters for entry in entries), np.uint8),
        vocabulary=np.frombuffer("\n".join(known[number] for number in used).encode(), np.uint8),
    )
    return file.getvalue()


def _unpack(data: bytes) -> tuple[list[_Entry], Vocabulary]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        lectures, runs = _uuids(arrays["lectures"]), _uuids(arrays["runs"])
        spans = arrays["spans"].tolist()
        bags = np.split(arrays["terms"], np.cumsum(arrays["num_terms"])[:-1]) if spans else []
        vocabulary = Vocabulary(arrays["vocabulary"].tobytes().decode().split("\n"))
        letters, ends = arrays["letters"].tobytes(), np.cumsum(arrays["num_letters"]).tolist()
    words = [letters[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
    pieces = zip(lectures, spans, runs, bags, words, strict=True)
    return [_Entry(Segment(lecture, start, end, run), *rest) for lecture, (start, end), run, *rest in pieces], vocabulary


def _uuids(rows: npt.NDArray[np.uint8]) -> list[UUID]:
    """Return (S, 16) bytes as UUIDs, one object for each distinct one."""
    known: dict[bytes, UUID] = {}
    return [known.setdefault(raw, UUID(bytes=raw)) if raw not in known else known[raw] for raw in map(bytes, rows)]


class LiveIndex:
    """The latest index in a folder that another process writes; for readers, may be shared by threads."""

    def __init__(self, folder: Path, fingerprint: str, dimension: int, fusion: Fusion = Fusion(), device: Device = "cpu") -> None:  # noqa: B008
        """Remember where to look; nothing is read yet."""
        self._folder = folder
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._fusion = fusion
        self._device: Device = device
        self._loading = threading.Lock()
        self._loaded: tuple[Manifest, SegmentIndex] | None = None

    def current(self) -> SegmentIndex | None:
        """Return the index as last saved, loaded anew if it changed since the last call; None where there is none yet.

        Raises:
            IndexDamaged: files are absent, cut short, altered, or of an unknown version.
            IndexForeign: made by another model.
        """
        with self._loading:
            for _ in range(NUM_LOADS - 1):
                try:
                    return self._load()
                except IndexDamaged:
                    continue  # the writer may have replaced the files between our look at the manifest and at them
            return self._load()

    def _load(self) -> SegmentIndex | None:
        try:
            manifest = read_manifest(self._folder)
            if self._loaded is None or self._loaded[0] != manifest:
                index = SegmentIndex.open(self._folder, self._fingerprint, self._dimension, self._fusion, self._device)
                index.prepare()
                self._loaded = manifest, index
        except IndexMissing:
            self._loaded = None
            return None
        return self._loaded[1]
