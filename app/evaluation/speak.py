"""Makes a spoken evaluation set out of questions and passages in writing: `python -m app.evaluation.speak --help`.

The result is a folder in our own layout (`sets/json_lines`): `contexts.jsonl`, `questions.jsonl`, `audio/`. What is there is not said
again, so the command may be stopped and started. Never commit the result: it derives from the text's licence, and it is large.
"""

import argparse
import gzip
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import soundfile

from app.errors import DataSetUnusable
from app.evaluation.festival import VOICES, Spoken, speak
from retriever.domain import SAMPLE_RATE_HZ

NAME_LENGTH: Final = 16  # of a sound file: enough of its hash
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question in writing, with the passage that answers it and where in it."""

    id: str
    text: str
    title: str
    passage: str
    answers: list[object]


def read_written(path: Path) -> list[Asked]:
    """Return the questions of a JSON lines file, gzipped or not: `id`, `title`, `context`, `question`, `answers`.

    Raises:
        DataSetUnusable: it cannot be read, or a line lacks one of these.
    """
    try:
        data = path.read_bytes()
        lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [Asked(row["id"], row["question"], row["title"], row["context"], list(row.get("answers", []))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataSetUnusable(f"{path} is not JSON lines with id, title, context and question ({error!r}); name another file") from error


def chosen(asked: Iterable[Asked], per_passage: int | None, seed: int) -> list[Asked]:
    """Return at most so many questions of each passage, drawn by a seeded generator, in the file's order."""
    of_passage: dict[str, list[Asked]] = {}
    for one in asked:
        of_passage.setdefault(one.passage, []).append(one)
    draw = random.Random(seed)  # noqa: S311 - no secret
    kept = [one if per_passage is None or len(one) <= per_passage else draw.sample(one, per_passage) for one in of_passage.values()]
    ids = {one.id for group in kept for one in group}
    return [one for group in of_passage.values() for one in group if one.id in ids]


class SpokenSet:
    """A folder that a spoken set is made in."""

    def __init__(self, folder: Path, voice: str) -> None:
        self._folder = folder
        self._voice = voice
        self.seconds = 0.0
        (folder / "audio").mkdir(parents=True, exist_ok=True)

    def said(self, text: str) -> Row:
        """Return where the sound of a text lies, its words with their samples and its sentences; says it unless that was done before.

        Raises:
            DataSetUnusable: festival cannot say it.
        """
        name = sha256(f"{self._voice}\n{text}".encode()).hexdigest()[:NAME_LENGTH]
        sidecar = self._folder / "audio" / f"{name}.json"
        if not sidecar.exists():
            self._keep(speak(text, self._voice), sidecar)
        row: Row = json.loads(sidecar.read_text(encoding="utf-8"))
        self.seconds += float(str(row["seconds"]))
        return row

    def _keep(self, spoken: Spoken, sidecar: Path) -> None:
        """Write sound, then sidecar, each under its name only when it is whole."""
        sound = sidecar.with_suffix(".flac")
        partial = sound.with_suffix(".part")
        soundfile.write(partial, spoken.audio.samples, SAMPLE_RATE_HZ, format="FLAC")
        partial.replace(sound)
        row = {
            "audio": [f"audio/{sound.name}"],
            "seconds": round(spoken.audio.duration_s, 3),
            "said": [[word.text, word.start, word.end] for word in spoken.words],
            "sentences": list(spoken.sentences),
        }
        write_lines(sidecar, [row])

    def finish(self, contexts: Iterable[Row], questions: Iterable[Row]) -> None:
        """Write the two lists that make the folder a set."""
        write_lines(self._folder / "contexts.jsonl", contexts)
        write_lines(self._folder / "questions.jsonl", questions)


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Replace a file by one line of JSON for each row."""
    partial = path.with_suffix(".part")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.replace(path)


def make(asked: list[Asked], folder: Path, voice: str) -> SpokenSet:
    """Say all passages and questions; questions first of each passage's, so that a part is already a set.

    Raises:
        DataSetUnusable: festival cannot say one of them.
    """
    spoken = SpokenSet(folder, voice)
    contexts: dict[str, Row] = {}
    questions: list[Row] = []
    for one in asked:
        if one.passage not in contexts:
            number = f"c{len(contexts):04d}"
            contexts[one.passage] = {"id": number, "title": one.title, "text": one.passage, "voice": voice, **spoken.said(one.passage)}
            print(f"{number} {spoken.seconds / 60:.1f} min", flush=True)
        questions.append(
            {"id": one.id, "text": one.text, "context": contexts[one.passage]["id"], "answers": one.answers, **spoken.said(one.text)}
        )
        if len(questions) % 20 == 0:
            spoken.finish(contexts.values(), questions)
    spoken.finish(contexts.values(), questions)
    return spoken


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", type=Path, help="JSON lines: id, title, context, question, answers")
    parser.add_argument("folder", type=Path, help="where the spoken set is made")
    parser.add_argument("--voice", choices=sorted(VOICES), default="slt-hts")
    parser.add_argument("--per-passage", type=int, help="say so many questions of each passage, drawn by the seed; default all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    made = make(chosen(read_written(arguments.questions), arguments.per_passage, arguments.seed), arguments.folder, arguments.voice)
    print(f"{made.seconds / 3600:.2f} hours")


if __name__ == "__main__":
    main()
