"""The demo lecture: an original talk on how honey bees choose a home, and six spoken questions to put to it.

The files lie beside this module and travel with the package; `make` synthesises them again. Nothing is read before it is asked for.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TITLE: Final = "How honey bees choose a home"

_FOLDER: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A question to put to the demo lecture.

    Attributes:
        text: the question as one would type it.
        audio_path: the question spoken, Opus in Ogg.
        answer: the words of the lecture that answer it; None if the lecture does not say.
        start_s, end_s: the sentence of the lecture that holds the answer, in seconds; None if there is none.
    """

    text: str
    audio_path: Path
    answer: str | None
    start_s: float | None
    end_s: float | None


def lecture_path() -> Path:
    """Return the path of the demo lecture's sound, Opus in Ogg."""
    return _FOLDER / "lecture.opus"


def transcript() -> str:
    """Return what is said in the demo lecture: paragraphs set apart by empty lines, each led by its speaker and a colon."""
    return (_FOLDER / "lecture.txt").read_text(encoding="utf-8")


def questions() -> tuple[DemoQuestion, ...]:
    """Return the six questions in the order in which the tour offers them; the last one has no answer."""
    entries = json.loads((_FOLDER / "questions.json").read_text(encoding="utf-8"))
    return tuple(
        DemoQuestion(
            text=entry["text"],
            audio_path=_FOLDER / entry["audio"],
            answer=entry["answer"],
            start_s=entry["start_s"],
            end_s=entry["end_s"],
        )
        for entry in entries
    )
