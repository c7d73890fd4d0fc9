"""Our own layout: two lists and sound files, as `app.evaluation.speak` makes them; or one list of questions with their text.

    FOLDER/contexts.jsonl      id, title, text, audio: [file, …], said: [[word, start, end], …]; `audio` and `said` may be absent
    FOLDER/questions.jsonl     id, text, context, audio, said; `audio` and `said` may be absent
    FILE.jsonl[.gz]            id, question, context, perhaps title and paragraph: text alone

Paths are relative to the folder; `said` counts samples at 16 kHz.
"""

from pathlib import Path

from app.errors import DataSetUnusable
from app.evaluation.domain import Context, EvaluationSet, SetQuestion
from app.evaluation.sets.reading import Row, found, read_json_lines
from retriever.domain import Word


def load(folder: Path) -> EvaluationSet:
    """Return the set that a folder holds.

    Raises:
        DataSetUnusable: a file is missing or has another layout.
    """
    contexts, questions = folder / "contexts.jsonl", folder / "questions.jsonl"
    try:
        return EvaluationSet(
            folder.resolve().name,
            "en",
            tuple(_context(folder, row) for row in read_json_lines(contexts)),
            tuple(_question(folder, row) for row in read_json_lines(questions)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataSetUnusable(f"{folder} is not in the layout of contexts.jsonl and questions.jsonl ({error!r})") from error


def load_text(path: Path) -> EvaluationSet:
    """Return the set of a single file of questions with the text of their contexts: no sound, for the text side alone.

    Raises:
        DataSetUnusable: it is missing or has another layout.
    """
    contexts: dict[str, Context] = {}
    questions: list[SetQuestion] = []
    try:
        for number, row in enumerate(read_json_lines(path)):
            name = str(row.get("paragraph") or row["context"])
            if name not in contexts:
                contexts[name] = Context(f"c{len(contexts)}", row.get("title", ""), (), row["context"], is_reference=False)
            questions.append(SetQuestion(str(row.get("id", number)), row["question"], contexts[name].id))
    except (KeyError, TypeError) as error:
        raise DataSetUnusable(f"{path} has lines without question or context ({error!r}); name another file") from error
    return EvaluationSet(path.name, "en", tuple(contexts.values()), tuple(questions))


def _context(folder: Path, row: Row) -> Context:
    return Context(row["id"], row.get("title", ""), _sounds(folder, row), row.get("text"), _said(row))


def _question(folder: Path, row: Row) -> SetQuestion:
    return SetQuestion(row["id"], row["text"], row["context"], _sounds(folder, row), _said(row))


def _said(row: Row) -> tuple[Word, ...]:
    return tuple(Word(text, start, end) for text, start, end in row.get("said", ()))


def _sounds(folder: Path, row: Row) -> tuple[Path, ...]:
    return tuple(found(folder / name, f"the sound of {row['id']}") for name in row.get("audio", ()))
