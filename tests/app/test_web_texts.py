"""Words, numbers and sound as the pages show them."""

import io
import wave
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from app.web.adding import files_in
from app.web.ask import _microphone_is_possible
from app.web.texts import in_size, local, marked, plain, to_wav
from retriever.domain import Audio


@pytest.mark.parametrize(("num_bytes", "words"), [(0, "1 kB"), (3 * 2**20, "3.0 MB"), (5 * 2**30, "5.0 GB")])
def test_sizes_are_said_in_words(num_bytes: int, words: str) -> None:
    assert in_size(num_bytes) == words


def test_no_markdown_survives_in_plain_text() -> None:
    assert plain("![x](http://e.example/a.png)\n# :red[y] `z`") == (r"\!\[x\]\(http\://e\.example/a\.png\) \# \:red\[y\] \`z\`")


@pytest.mark.parametrize(
    ("text", "cited", "expected"),
    [
        ("a b c d", ["b c"], "a <mark>b c</mark> d"),
        ("a b c d", ["b", "c"], "a <mark>b c</mark> d"),
        ("a b c d", ["x y a b"], "<mark>a b</mark> c d"),  # the citation began in the segment before
        ("a b c d", ["c d e"], "a b <mark>c d</mark>"),
        ("a b", ["x y"], "a b"),
        ("<i> b", ["<i>"], "<mark>&lt;i&gt;</mark> b"),
        ("", ["x"], ""),
        ("a b", [""], "a b"),
    ],
)
def test_cited_words_are_marked(text: str, cited: list[str], expected: str) -> None:
    assert marked(text, cited) == expected


def test_a_wav_file_holds_the_sound() -> None:
    samples = np.array([0.0, 0.5, -1.0, 1.0], np.float32)
    with wave.open(io.BytesIO(to_wav(Audio(samples)))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        written = np.frombuffer(file.readframes(10), "<i2") / 32767
    assert np.allclose(written, samples, atol=1e-4)


@pytest.mark.parametrize(("zone", "hour"), [("Europe/Berlin", 14), (None, 12), ("No/Where", 12), ("../etc", 12)])
def test_times_are_the_readers(zone: str | None, hour: int) -> None:
    assert local(datetime(2026, 7, 1, 12, tzinfo=UTC), zone).hour == hour


@pytest.mark.parametrize(
    ("url", "possible"),
    [
        ("http://localhost:8501/ask", True),
        ("http://127.0.0.1:8501", True),
        ("http://[::1]:8501", True),
        ("https://lectures.example.org", True),
        ("http://192.168.1.5:8501", False),
        ("http://localhost.example.org", False),
        (None, True),
    ],
)
def test_the_microphone_needs_https_or_this_machine(url: str | None, possible: bool) -> None:
    assert _microphone_is_possible(url) is possible


def test_the_folder_of_files_shows_no_links_that_lead_out_and_nothing_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "import"
    (folder / "course").mkdir(parents=True)
    (tmp_path / "secret.wav").write_bytes(b"x")
    (folder / "b.mp3").write_bytes(b"x")
    (folder / "course" / "a.wav").write_bytes(b"x")
    (folder / ".hidden.wav").write_bytes(b"x")
    (folder / "link.wav").symlink_to(tmp_path / "secret.wav")
    assert files_in(folder) == [folder / "b.mp3", folder / "course" / "a.wav"]
    assert files_in(tmp_path / "nowhere") == []
