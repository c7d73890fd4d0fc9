"""Turns the phones that a recogniser hears into words: beam search over a pronouncing dictionary and a trigram language model.

Time-synchronous token passing over a lexical tree (Ortmanns, Ney and Eiden 1996, "Language-Model Look-Ahead for Large Vocabulary Speech
Recognition") on the outputs of connectionist temporal classification (Graves et al. 2006), the best path per state; frames that are surely
blank are passed over (Chen et al. 2016, "Phone Synchronous Decoding with CTC Lattice"). Many segments go through each step together.

Shapes: T frames, Q phones with the blank.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever import ngram_model, pronunciations
from retriever._word_beam import Frames, Settings, WordBeam
from retriever._word_lattice import Lattice
from retriever._word_lattice import Path as LatticePath
from retriever.errors import InvalidAudio
from retriever.ngram_model import NgramModel
from retriever.pronunciations import BLANK, NUM_OUTPUTS, PhoneTree, Pronunciations

__all__ = ["HeardWord", "Hypothesis", "LexiconSearch", "Settings", "usual_phones"]

LogProbs = npt.NDArray[np.float32]

_BATCH_FRAMES: Final = 30_000  # of all segments that are searched together: 15 minutes take about 50 MB


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word and when it was said.

    Attributes:
        text: in lower case.
        start, end: frames, half-open.
        confidence: probability that this word was said about then, in [0, 1], as far as the search can tell.
    """

    text: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What may have been said in a segment.

    Attributes:
        words: in order.
        acoustic: natural log-probability of the best alignment, with what the settings add to phones and take from the blank.
        language: natural log-probability of the words.
        score: what the search maximises: acoustic + weight * language + a score per word.
    """

    words: tuple[HeardWord, ...]
    acoustic: float
    language: float
    score: float

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)


class LexiconSearch:
    """Finds words in what a recogniser of phones says; holds no state between calls."""

    def __init__(self, lexicon: Pronunciations, language: NgramModel, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.language = language
        self._bonus = -self.settings.prior_weight * usual_phones(lexicon, language.unigrams)
        self._bonus[BLANK] = -self.settings.blank_cost
        self._tree = PhoneTree.build(lexicon, language.unigrams, self.settings.unusual_cost)

    @classmethod
    def load(cls, folder: Path, settings: Settings | None = None) -> "LexiconSearch":
        """Read the dictionary and the language model of a folder.

        Raises:
            ModelFilesMissing: a file is absent or damaged.
        """
        lexicon = Pronunciations.load(folder / pronunciations.FILE_NAME)
        return cls(lexicon, NgramModel.load(folder / ngram_model.FILE_NAME), settings)

    def search(self, log_probs: Sequence[LogProbs], num_best: int = 1) -> list[tuple[Hypothesis, ...]]:
        """Return, for each segment, up to `num_best` different hypotheses, best first, and at least one.

        Args:
            log_probs: (T, Q) of each segment, natural logarithms, the blank first; T may be 0.
            num_best: hypotheses wanted.

        Raises:
            InvalidAudio: an array has another shape or a number that is none.
        """
        for values in log_probs:
            if values.ndim != 2 or values.shape[1] != NUM_OUTPUTS or np.isnan(values).any():
                raise InvalidAudio(f"log-probabilities of shape {values.shape}; the search reads (frames, {NUM_OUTPUTS}) without NaN")
        frames = [Frames.of(values, self._bonus, self.settings) for values in log_probs]
        found: list[tuple[Hypothesis, ...]] = [()] * len(frames)
        for batch in _batches(frames):
            lattices = WordBeam(self._tree, self.language, self.settings, [frames[one] for one in batch]).run()
            for one, lattice in zip(batch, lattices, strict=True):
                found[one] = self._hypotheses(lattice, frames[one], num_best)
        return found

    def _hypotheses(self, lattice: Lattice, frames: Frames, num_best: int) -> tuple[Hypothesis, ...]:
        paths = lattice.best_paths(num_best)
        confidences = lattice.confidences(paths, self.settings.confidence_scale)
        return tuple(self._hypothesis(path, frames, sure) for path, sure in zip(paths, confidences, strict=True))

    def _hypothesis(self, path: LatticePath, frames: Frames, confidences: Sequence[float]) -> Hypothesis:
        words = tuple(
            HeardWord(self.language.words[arc.word], int(frames.places[arc.start]), int(frames.places[arc.end - 1]) + 1, sure)
            for arc, sure in zip(path.arcs, confidences, strict=True)
        )
        language = math.fsum(arc.language for arc in path.arcs)
        score = path.score + frames.skipped
        rest = self.settings.language_weight * language + math.fsum(arc.extra for arc in path.arcs)
        return Hypothesis(words, score - rest, language, score)


def usual_phones(lexicon: Pronunciations, word_log_probs: LogProbs) -> LogProbs:
    """Return the (Q,) log-probability of each phone in speech of these words, less the mean of all; 0 for the blank.

    A phone that no word has is as usual as one that is said once in a million.
    """
    rows, places = np.nonzero((lexicon.phones > 0) & (lexicon.ranks == 0)[:, None])
    said = np.bincount(lexicon.phones[rows, places], np.exp(word_log_probs[lexicon.words[rows]]), minlength=NUM_OUTPUTS)[1:]
    usual = np.log(np.maximum(said / said.sum(), 1e-6))
    return np.concatenate(([0], usual - usual.mean())).astype(np.float32)


def _batches(frames: Sequence[Frames]) -> Iterator[list[int]]:
    """Yield the numbers of the segments that go together: longest first, as many as the frames allow."""
    batch: list[int] = []
    for one in sorted(range(len(frames)), key=lambda number: -len(frames[number].places)):
        if batch and (len(batch) + 1) * len(frames[batch[0]].places) > _BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
