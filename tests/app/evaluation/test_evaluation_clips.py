"""Clips out of tables and tar files."""

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.errors import DataSetUnusable
from app.evaluation.sets.clips import ClipChoice, load_clips

COLUMNS = ("file", "seconds", "speaker", "split", "text", "licence", "tar", "note")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(1600, np.float32), 16_000, format="OGG", subtype="OPUS")
    rows = [
        (f"made/{n}.opus", "0.1", "ann" if n % 2 else "bob", "dev" if n else "train", f'WORD "{n}"', "", "made.tar", "") for n in range(5)
    ]
    (tmp_path / "made.tsv").write_text("\n".join("\t".join(row) for row in (COLUMNS, *rows)) + "\n", encoding="utf-8")
    with tarfile.open(tmp_path / "made.tar", "w") as tar:
        for row in rows:
            member = tarfile.TarInfo(row[0])
            member.size = len(sound.getvalue())
            tar.addfile(member, io.BytesIO(sound.getvalue()))
    return tmp_path


def test_clips_of_a_split_and_a_speaker_are_unpacked(speech: Path) -> None:
    found = load_clips(speech, ClipChoice.parse("made@ann", None), speech / "out")
    assert [context.id for context in found] == ["made/1.opus", "made/3.opus"]
    assert [context.text for context in found] == ['WORD "1"', 'WORD "3"']
    assert all(path.is_file() for context in found for path in context.sounds)
    assert not (speech / "out" / "made" / "0.opus").exists()


def test_clips_that_are_unpacked_need_no_tar(speech: Path) -> None:
    load_clips(speech, ClipChoice("made"), speech / "out")
    (speech / "made.tar").unlink()
    assert len(load_clips(speech, ClipChoice("made"), speech / "out")) == 4
    shutil.rmtree(speech / "out")
    with pytest.raises(DataSetUnusable, match=r"made\.tar"):
        load_clips(speech, ClipChoice("made"), speech / "out")


def test_some_clips_are_spread_over_the_table(speech: Path) -> None:
    assert [context.id for context in load_clips(speech, ClipChoice("made", num_clips=2), speech / "out")] == ["made/1.opus", "made/3.opus"]


def test_a_choice_of_nothing_and_a_missing_table_are_refused(speech: Path) -> None:
    with pytest.raises(DataSetUnusable, match="none of the clips"):
        load_clips(speech, ClipChoice.parse("made@nobody", None), speech / "out")
    with pytest.raises(DataSetUnusable, match=r"absent\.tsv"):
        load_clips(speech, ClipChoice("absent"), speech / "out")
