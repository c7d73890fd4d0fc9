"""Clips of real speech with transcripts, for word error rates: a table beside tar files, as our data comes.

    FOLDER/NAME.tsv        file, seconds, speaker, split, text, licence, tar, note; tabs, no quoting
    FOLDER/NAME….tar       the clips, Ogg Opus

Clips are unpacked into a folder, for a recogniser reads files.
"""

import csv
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import DataSetUnusable
from app.evaluation.domain import Context


@dataclass(frozen=True, slots=True)
class ClipChoice:
    """Which clips.

    Attributes:
        corpus: the table's name without ending.
        split: train or dev.
        speakers: only these; empty takes all.
        num_clips: so many, spread over the table; None takes all.
    """

    corpus: str
    split: str = "dev"
    speakers: tuple[str, ...] = ()
    num_clips: int | None = None

    @classmethod
    def parse(cls, text: str, num_clips: int | None) -> "ClipChoice":
        """Return the choice that `CORPUS[@SPEAKER…]` names, of the dev split."""
        corpus, *speakers = text.split("@")
        return cls(corpus, speakers=tuple(speakers), num_clips=num_clips)


def load_clips(speech: Path, choice: ClipChoice, unpacked: Path) -> list[Context]:
    """Return the clips with their transcripts; files that are not unpacked yet are.

    Raises:
        DataSetUnusable: table or tar are missing, or no clip is chosen.
    """
    rows = [row for row in _rows(speech / f"{choice.corpus}.tsv") if row["split"] == choice.split and row["text"].strip()]
    if choice.speakers:
        rows = [row for row in rows if row["speaker"] in choice.speakers]
    if choice.num_clips is not None:
        rows = rows[:: max(1, len(rows) // choice.num_clips)][: choice.num_clips]
    if not rows:
        raise DataSetUnusable(f"{choice} chooses none of the clips in {speech}; mend corpus, split or speakers")
    _unpack(speech, rows, unpacked)
    return [Context(row["file"], row["speaker"], (unpacked / row["file"],), row["text"]) for row in rows]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise DataSetUnusable(f"{path} cannot be read ({error.strerror}); name the folder of the speech tables") from error
    if not rows or not {"file", "speaker", "split", "text", "tar"} <= set(rows[0]):
        raise DataSetUnusable(f"{path} has no columns file, speaker, split, text and tar; is it another table?")
    return rows


def _unpack(speech: Path, rows: Sequence[dict[str, str]], unpacked: Path) -> None:
    missing = [row for row in rows if not (unpacked / row["file"]).is_file()]
    for name in sorted({row["tar"] for row in missing}):
        try:
            with tarfile.open(speech / name) as tar:
                tar.extractall(unpacked, [tar.getmember(row["file"]) for row in missing if row["tar"] == name], filter="data")
        except (OSError, KeyError, tarfile.TarError) as error:
            raise DataSetUnusable(f"{speech / name} does not yield its clips ({error}); is the copy complete?") from error
