"""What all loaders share: reading JSON and tables, SQuAD's nesting, refusing missing files."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import DataSetUnusable

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SquadQuestion:
    """A question as SQuAD nests it.

    Attributes:
        topic, paragraph: their numbers, counted from 0.
        paragraph_id: what the file calls the paragraph, or topic_paragraph.
        answer_start: of the first answer, in characters of `context`.
    """

    id: str
    text: str
    topic: int
    paragraph: int
    title: str
    paragraph_id: str
    context: str
    answer_start: int


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        DataSetUnusable: it is absent or no JSON.
    """
    try:
        return json.loads(_bytes(path))
    except (OSError, ValueError) as error:
        raise DataSetUnusable(f"{path} cannot be read as JSON ({error}); is the data set whole?") from error


def read_json_lines(path: Path) -> list[Row]:
    """Return the rows of a JSON lines file, gzipped or not.

    Raises:
        DataSetUnusable: it is absent or a line is no JSON object.
    """
    try:
        rows = [json.loads(line) for line in _bytes(path).decode().split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DataSetUnusable(f"{path} cannot be read as JSON lines ({error}); is the data set whole?") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataSetUnusable(f"{path}, line {number}, holds no JSON object; is it another file?")
    return rows


def read_table(path: Path) -> list[list[str]]:
    """Return the rows of a tab-separated file without quoting, below its header.

    Raises:
        DataSetUnusable: it is absent, empty, or not in UTF-8.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, ValueError, csv.Error) as error:
        raise DataSetUnusable(f"{path} cannot be read as a table ({error}); is the data set whole?") from error
    if len(rows) < 2:
        raise DataSetUnusable(f"{path} has {len(rows)} lines, a header and at least one row are needed")
    return rows[1:]


def squad_questions(path: Path) -> Iterator[SquadQuestion]:
    """Yield the questions of a file in SQuAD's layout that have an answer, in its order.

    Raises:
        DataSetUnusable: the file is absent or has another layout.
    """
    content = read_json(path)
    try:
        for topic, article in enumerate(content["data"]):
            for number, paragraph in enumerate(article["paragraphs"]):
                for one in paragraph["qas"]:
                    if not one["answers"]:
                        continue
                    yield SquadQuestion(
                        id=str(one["id"]),
                        text=one["question"],
                        topic=topic,
                        paragraph=number,
                        title=article.get("title", ""),
                        paragraph_id=str(paragraph.get("id", f"{topic}_{number}")),
                        context=paragraph["context"],
                        answer_start=int(one["answers"][0]["answer_start"]),
                    )
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise DataSetUnusable(f"{path} is not in SQuAD's layout ({error!r}); name the published file") from error


def found(path: Path, what: str) -> Path:
    """Return the path if it is a file.

    Raises:
        DataSetUnusable: it is not.
    """
    if not path.is_file():
        raise DataSetUnusable(f"{what} should be at {path}, where no file is; unpack the data set as it was published")
    return path


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data
