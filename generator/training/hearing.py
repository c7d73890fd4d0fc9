"""Hears development lectures and questions through the project's own segmenter and retriever, once; what was heard is kept in a folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np

from generator.training.corpus import DevelopmentLecture, LectureQuestion, read_sound
from retriever.base import Retriever, Segmenter
from retriever.domain import SAMPLE_RATE_HZ, Audio, EmbeddedSegment, EncodedQuestion, Question, Samples, Segment, SegmentAudio, Word


@dataclass(frozen=True, slots=True, eq=False)
class Ears:
    """The project's own way from sound to words.

    Attributes:
        folder: holds the lectures and questions; what was heard goes to `heard/` in it.
        same_ears: fingerprint of an earlier version of the retriever that heard the same words: they are taken from there, and only the
            vectors are made anew. None hears everything.
    """

    folder: Path
    segmenter: Segmenter
    retriever: Retriever
    same_ears: str | None = None

    def hear_lecture(self, name: str, lecture: DevelopmentLecture) -> list[EmbeddedSegment]:
        """Return the lecture's segments; `name` is its file's."""
        path = self._folder / f"{name}.json"
        earlier = self._earlier(f"{name}.json")
        if not path.exists() and earlier is not None:
            record = json.loads(earlier.read_text(encoding="utf-8"))
            texts = [" ".join(word[0] for word in words) for _, _, words in record]
            np.save(path.with_suffix(".npy"), np.stack([self.retriever.encode(_as_heard(text)).vector for text in texts]))
            path.write_text(json.dumps(record), encoding="utf-8")
        elif not path.exists():
            embedded = list(self.retriever.embed(self._cut(self.folder / f"{name}.flac", lecture_id(lecture))))
            record = [
                [one.segment.start, one.segment.end, [[word.text, word.start, word.end, word.confidence] for word in one.words]]
                for one in embedded
            ]
            np.save(path.with_suffix(".npy"), np.stack([one.vector for one in embedded]))
            path.write_text(json.dumps(record), encoding="utf-8")  # last, so that its presence means all is there
        vectors, number = np.load(path.with_suffix(".npy")), lecture_id(lecture)
        return [
            EmbeddedSegment(
                Segment(number, start, end, number), vectors[row], tuple(Word(*word) for word in words), self.retriever.fingerprint
            )
            for row, (start, end, words) in enumerate(json.loads(path.read_text(encoding="utf-8")))
        ]

    def hear_question(self, question: LectureQuestion, is_spoken: bool) -> tuple[Question, EncodedQuestion]:
        """Return a question and what the retriever makes of it, typed or spoken."""
        if not is_spoken:
            typed = Question(text=question.text)
            return typed, self.retriever.encode(typed)
        path = self._folder / "questions" / f"{question.id}.json"
        audio = Audio(np.clip(read_sound(self.folder / "questions" / f"{question.id}.flac"), -1, 1))
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            earlier = self._earlier(f"questions/{question.id}.json")
            heard = json.loads(earlier.read_text(encoding="utf-8"))["heard"] if earlier else None
            encoded = self.retriever.encode(Question(audio=audio, heard=heard))
            encoded = replace(encoded, heard=encoded.wording)
            np.save(path.with_suffix(".npy"), encoded.vector)
            path.write_text(json.dumps({"wording": encoded.wording, "heard": encoded.heard}), encoding="utf-8")
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        encoded = EncodedQuestion(np.load(path.with_suffix(".npy")), record["wording"], record["heard"])
        return Question(audio=audio, heard=encoded.heard), encoded

    def _earlier(self, name: str) -> Path | None:
        """Return what an earlier version with the same ears heard, if it did."""
        path = self.folder / "heard" / self.same_ears / name if self.same_ears else None
        return path if path is not None and path.exists() else None

    @property
    def _folder(self) -> Path:
        folder = self.folder / "heard" / self.retriever.fingerprint
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _cut(self, path: Path, number: UUID) -> Iterator[SegmentAudio]:
        sound = np.clip(read_sound(path), -1, 1)
        for span in self.segmenter.spans(_blocks(sound)):
            yield SegmentAudio(Segment(number, span.start, span.end, number), Audio(sound[span.start : span.end]))


def _as_heard(text: str) -> Question:
    return Question(audio=Audio(np.zeros(1, np.float32)), heard=text)


def lecture_id(lecture: DevelopmentLecture) -> UUID:
    """Return a number that depends on the lecture only."""
    return uuid5(NAMESPACE_OID, f"{lecture.source}/{lecture.name}")


def _blocks(sound: Samples) -> Iterator[Samples]:
    for start in range(0, len(sound), SAMPLE_RATE_HZ):
        yield sound[start : start + SAMPLE_RATE_HZ]
