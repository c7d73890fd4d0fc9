"""The training texts on disk: paragraphs of books, rows of question files, transcripts of speech; never the evaluation files."""

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

EVALUATION_FILES: Final = frozenset({"spoken_squad_test", "xquad_en", "nqg_dev_eval"})  # run to report only, never read here


def paragraphs(folder: Path) -> Iterator[str]:
    """Yield every paragraph under a folder of `*.txt.gz`, one per line, in the order of the file names; headings are left out."""
    for path in sorted(folder.rglob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (line.strip() for line in lines if line.strip() and not line.startswith("# "))


def question_files(folder: Path) -> list[Path]:
    """Return the question answering files that may train something: all but the evaluation files."""
    found = [*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]
    return sorted(path for path in found if path.name.split(".")[0] not in EVALUATION_FILES)


def question_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of one question answering file."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def transcripts(folder: Path, split: str) -> Iterator[str]:
    """Yield the texts of the clips of a split that the tables of a speech folder list."""
    for path in sorted(folder.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as table:
            rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
            yield from (row["text"] for row in rows if row.get("text") and row["split"] == split)
