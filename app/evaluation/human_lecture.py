"""Asks a real human lecture, typed and spoken, and tells at which rank the right moment came.

    python -m app.evaluation.human_lecture --speech <folder with the LibriSpeech tar and tsv>

The lecture is a LibriSpeech chapter put together from its utterances, 0.3 s apart, so that the true place of every sentence is known. The
spoken questions come from espeak-ng and flite. Everything happens in a library of its own that is removed afterwards.
"""

import argparse
import csv
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from app.build import build_app, build_parts, build_worker
from app.found import Asked
from app.service import SpokenQA
from app.settings import Settings
from retriever.domain import SAMPLE_RATE_HZ, Audio, Question, Span, to_samples

QUESTIONS_PATH = Path(__file__).parent / "questions" / "librispeech-26-495.json"
GAP_S = 0.3
CORPUS = "libri-train-clean-100"


@dataclass(frozen=True, slots=True)
class AskedOfLecture:
    """A question with the places that hold its answer; none if the lecture does not say."""

    text: str
    gold: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question.

    Attributes:
        rank: of the first hit that overlaps a gold place, from 1; 0 if none of the hits does.
        cited: whether the best citation overlaps a gold place.
    """

    question: AskedOfLecture
    heard: str
    rank: int
    cited: bool
    supported: bool
    answer: str


def assemble(speech: Path, chapter: str, out: Path) -> dict[int, Span]:
    """Write the chapter as one FLAC file; return the span of each utterance by its number."""
    with (speech / f"{CORPUS}.tsv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = sorted(row["file"] for row in rows if row["file"].startswith(f"{CORPUS}/{chapter}-"))
    spans, position, pieces = {}, 0, []
    gap = np.zeros(to_samples(GAP_S), np.float32)
    with tarfile.open(speech / f"{CORPUS}.tar") as tar:
        for name in names:
            member = tar.extractfile(name)
            if member is None:
                raise FileNotFoundError(f"{name} is not a file in {CORPUS}.tar")
            samples, _ = soundfile.read(io.BytesIO(member.read()), dtype="float32")
            spans[int(Path(name).stem.rsplit("-", 1)[1])] = Span(position, position + len(samples))
            pieces += [samples, gap]
            position += len(samples) + len(gap)
    soundfile.write(out, np.concatenate(pieces), SAMPLE_RATE_HZ)
    return spans


def read_questions(path: Path, spans: dict[int, Span]) -> tuple[str, list[AskedOfLecture]]:
    """Return the chapter and its questions."""
    content = json.loads(path.read_text(encoding="utf-8"))
    questions = [AskedOfLecture(q["text"], tuple(spans[u] for u in q["utterances"] if spans)) for q in content["questions"]]
    return content["chapter"], questions


def speak(voice: str, text: str, folder: Path) -> Path:
    """Return a WAV file of the text spoken by espeak-ng or flite."""
    out = folder / f"{voice}.wav"
    command = (
        ["espeak-ng", "-v", "en-us", "-s", "150", "-w", str(out), text]
        if voice == "espeak-ng"
        else ["flite", "-voice", "rms", "-t", text, "-o", str(out)]
    )
    subprocess.run(command, check=True, capture_output=True)
    return out


def judge(question: AskedOfLecture, asked: Asked) -> Outcome:
    """Compare what came with where the answer is."""

    def right(span: Span) -> bool:
        return any(span.start < gold.end and gold.start < span.end for gold in question.gold)

    ranks = [rank for rank, hit in enumerate(asked.found.hits, 1) if right(hit.segment.span)]
    citations = asked.answer.citations
    cited = bool(citations) and right(citations[0].span)
    return Outcome(question, asked.question.wording, ranks[0] if ranks else 0, cited, asked.answer.supported, asked.answer.text)


def report(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print what came of one way of asking."""
    answerable = [o for o in outcomes if o.question.gold]
    others = [o for o in outcomes if not o.question.gold]
    print(f"\n## {name}")
    for o in outcomes:
        rank = str(o.rank or "beyond five") if o.question.gold else "none, the lecture does not say"
        print(f"- {o.question.text}\n    heard: {o.heard}\n    answer: {o.answer}")
        print(f"    rank: {rank}; supported: {o.supported}; cited right: {o.cited}")
    counts = {
        "right segment first": f"{sum(o.rank == 1 for o in answerable)}/{len(answerable)}",
        "among five": f"{sum(o.rank > 0 for o in answerable)}/{len(answerable)}",
        "said to be supported": f"{sum(o.supported for o in answerable)}/{len(answerable)}",
        "cited right": f"{sum(o.cited for o in answerable)}/{len(answerable)}",
        "refused what is not there": f"{sum(not o.supported for o in others)}/{len(others)}",
    }
    print(f"{name}: " + ", ".join(f"{what} {count}" for what, count in counts.items()))


def evaluate(qa: SpokenQA, questions: Sequence[AskedOfLecture], folder: Path) -> None:
    """Ask everything in three ways."""

    def spoken(voice: str) -> Callable[[str], Audio]:
        return lambda text: qa.read_question(speak(voice, text, folder))

    ways: dict[str, Callable[[str], Question]] = {
        "typed": lambda text: Question(text=text),
        "spoken by espeak-ng": lambda text: Question(audio=spoken("espeak-ng")(text)),
        "spoken by flite": lambda text: Question(audio=spoken("flite")(text)),
    }
    for name, make in ways.items():
        report(name, [judge(q, qa.ask(make(q.text), num_hits=5)) for q in questions])


def main() -> None:
    """Run the evaluation and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, required=True, help=f"folder with {CORPUS}.tar and {CORPUS}.tsv")
    parser.add_argument("--questions", type=Path, default=QUESTIONS_PATH)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chapter, _ = read_questions(arguments.questions, {})
        spans = assemble(arguments.speech, chapter, folder / "lecture.flac")
        _, questions = read_questions(arguments.questions, spans)
        parts = build_parts(Settings(home=folder / "home", demo=False))
        qa = build_app(parts)
        qa.ingest(folder / "lecture.flac", f"LibriSpeech {chapter}")
        build_worker(parts).run(stop=lambda: True)
        lecture = qa.lectures()[0]
        print(f"{lecture.lecture.duration_s / 60:.1f} minutes, {lecture.num_segments} segments")
        evaluate(qa, questions, folder)


if __name__ == "__main__":
    main()
