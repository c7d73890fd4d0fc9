"""Hundreds of damaged and hostile files, made here from small good ones: each yields sound or a clear error, in time, and nothing else.

Files of one kind make one test; two are decoded at a time.
"""

import os
import random
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from retriever.audio import open_audio
from retriever.config import AudioLimits
from retriever.domain import SAMPLE_RATE_HZ, Samples
from retriever.errors import DecoderCrashed, UnreadableAudio

LIMITS = replace(AudioLimits(), max_duration_s=60, stall_timeout_s=10)
SEEDS = ("wav", "mp3", "m4a", "flac", "ogg", "webm", "mp4", "mkv", "silent.mp4")


@dataclass(frozen=True)
class Outcome:
    """What came of a file: seconds of sound and a warning, or an error."""

    name: str
    seconds: float = 0
    warning: str | None = None
    error: UnreadableAudio | None = None


def hear(path: Path) -> Outcome:
    """Decode a file and check what must hold for all; whatever is not one of our errors fails the test."""
    num_samples = 0
    try:
        with open_audio(path, LIMITS) as stream:
            for block in stream:
                assert block.dtype == np.float32
                assert 0 < len(block) <= SAMPLE_RATE_HZ
                assert float(np.abs(block).max()) <= 1
                num_samples += len(block)
    except UnreadableAudio as error:
        message = str(error)
        assert 20 < len(message) < 600
        assert message.isprintable()
        assert "Traceback" not in message
        assert str(path.parent) not in message
        return Outcome(path.name, error=error)
    assert num_samples
    return Outcome(path.name, num_samples / SAMPLE_RATE_HZ, stream.warning)


def hear_all(paths: list[Path]) -> list[Outcome]:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(hear, paths))
    assert not [child for child in psutil.Process().children() if "decoding.py" in " ".join(child.cmdline())]
    assert not [outcome for outcome in outcomes if isinstance(outcome.error, DecoderCrashed)]
    return outcomes


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., Path]) -> dict[str, bytes]:
    """Three seconds of sound in each format; `silent.mp4` is a video without any."""
    folder = tmp_path_factory.mktemp("seeds")
    time = np.arange(3 * 48_000) / 48_000
    sound: Samples = (0.4 * np.sin(2 * np.pi * 300 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2).astype(np.float32)
    codecs = {
        "wav": "pcm_s16le",
        "mp3": "libmp3lame",
        "m4a": "aac",
        "flac": "flac",
        "ogg": "libopus",
        "webm": "libopus",
        "mp4": "aac",
        "mkv": "flac",
    }
    for ending, codec in codecs.items():
        encode(folder / f"seed.{ending}", codec, sound, rate_hz=48_000, video=ending in ("mp4", "mkv"))
    encode(folder / "seed.silent.mp4", None, video=True)
    return {ending: (folder / f"seed.{ending}").read_bytes() for ending in SEEDS}


def write_all(folder: Path, files: Iterator[tuple[str, bytes]]) -> list[Path]:
    paths = []
    for name, content in files:
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths


def is_loss(outcome: Outcome, whole_s: float = 3) -> bool:
    return outcome.error is None and outcome.seconds < whole_s - 0.3


@pytest.mark.parametrize("ending", SEEDS)
def test_files_cut_off_anywhere_yield_what_they_have_or_an_error(tmp_path: Path, seeds: dict[str, bytes], ending: str) -> None:
    data = seeds[ending]
    lengths = sorted({1, 11, 43, 200, *(len(data) * i // 10 for i in range(1, 10)), len(data) - 1})
    outcomes = hear_all(write_all(tmp_path, ((f"{length}.{ending}", data[:length]) for length in lengths)))
    assert any(outcome.error for outcome in outcomes)
    for outcome in outcomes:
        assert outcome.seconds < 3.2
        assert outcome.warning or not is_loss(outcome), outcome


@pytest.mark.parametrize("ending", SEEDS)
def test_flipped_bits_yield_sound_or_an_error(tmp_path: Path, seeds: dict[str, bytes], ending: str) -> None:
    def damaged() -> Iterator[tuple[str, bytes]]:
        dice = random.Random(ending)
        for i in range(10):
            data = bytearray(seeds[ending])
            reach = 400 if i % 2 else len(data)  # headers are worth more damage
            for _ in range(3 ** (i // 2)):
                data[dice.randrange(min(reach, len(data)))] ^= 1 << dice.randrange(8)
            yield f"{i}.{ending}", bytes(data)

    hear_all(write_all(tmp_path, damaged()))


@pytest.mark.parametrize("ending", SEEDS[:-1])
def test_overwritten_stretches_yield_sound_or_an_error(tmp_path: Path, seeds: dict[str, bytes], ending: str) -> None:
    def damaged() -> Iterator[tuple[str, bytes]]:
        dice = random.Random(ending)
        data = seeds[ending]
        for i, filling in enumerate((b"\0", b"\xff", dice.randbytes(1), None)):
            for where in (0, len(data) // 3):
                size = len(data) // 10
                stretch = dice.randbytes(size) if filling is None else filling * size
                yield f"{i}-{where}.{ending}", data[:where] + stretch + data[where + size :]

    hear_all(write_all(tmp_path, damaged()))


def wav(sample_rate_hz: int = 16_000, channels: int = 1, bits: int = 16, code: int = 1, claimed_bytes: int | None = None) -> bytes:
    """Return a WAV file of a second of noise with the header given."""
    data = np.random.default_rng(0).integers(-3000, 3000, 16_000).astype("<i2").tobytes()
    size = len(data) if claimed_bytes is None else claimed_bytes
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, sample_rate_hz % 2**32, sample_rate_hz * frame % 2**32, frame % 2**16, bits)
    return (
        b"RIFF"
        + struct.pack("<I", (size + 36) % 2**32)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def test_forged_wav_headers_yield_sound_or_an_error(tmp_path: Path) -> None:
    rates = {f"rate{rate}": wav(sample_rate_hz=rate) for rate in (0, 1, 3_999, 384_001, 2**31 - 1, 2**31, 2**32 - 1)}
    channels = {f"channels{number}": wav(channels=number) for number in (0, 65, 255, 8_191, 65_535)}
    bits = {f"bits{number}": wav(bits=number) for number in (0, 1, 7, 12, 64, 255, 65_535)}
    codes = {f"code{code}": wav(code=code) for code in (0, 2, 3, 0x11, 0x31, 0x50, 0x55, 0xFF, 0x161, 0x2000, 0xFFFE, 0xFFFF)}
    outcomes = hear_all(write_all(tmp_path, ((f"{name}.wav", data) for name, data in {**rates, **channels, **bits, **codes}.items())))
    by_name = {outcome.name.removesuffix(".wav"): outcome for outcome in outcomes}
    for name in (*rates, *channels):
        assert by_name[name].error, name
    assert "65 channels; 1 to 64 are allowed" in str(by_name["channels65"].error)
    assert "sample rate of 384001 Hz" in str(by_name["rate384001"].error)


def test_a_huge_claimed_length_is_neither_believed_nor_allocated(tmp_path: Path) -> None:
    claims = (2**31, 2**32 - 100, 0xFFFFFFFF, 10**9)
    outcomes = hear_all(write_all(tmp_path, ((f"{claim}.wav", wav(claimed_bytes=claim)) for claim in claims)))
    assert [round(outcome.seconds, 1) for outcome in outcomes] == [1.0] * 4


def test_a_huge_claimed_duration_is_a_warning(tmp_path: Path, seeds: dict[str, bytes]) -> None:
    def forged() -> Iterator[tuple[str, bytes]]:
        flac = bytearray(seeds["flac"])
        at = flac.index(b"fLaC") + 8 + 13  # 36 bits of the number of samples
        flac[at : at + 5] = bytes([flac[at] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])
        yield "long.flac", bytes(flac)
        mp3 = seeds["mp3"]
        tag = re.search(b"Xing|Info", mp3)
        assert tag is not None
        yield "long.mp3", mp3[: tag.start() + 8] + b"\x7f\xff\xff\xff" + mp3[tag.start() + 12 :]

    for outcome in hear_all(write_all(tmp_path, forged())):
        assert outcome.seconds == pytest.approx(3, abs=0.2)
        assert outcome.warning is not None
        assert "promises" in outcome.warning


def test_forged_lengths_of_mp4_boxes_yield_sound_or_an_error(tmp_path: Path, seeds: dict[str, bytes]) -> None:
    def forged() -> Iterator[tuple[str, bytes]]:
        for kind in (b"ftyp", b"moov", b"mvhd", b"trak", b"mdia", b"mdhd", b"stsd", b"esds", b"stts", b"stsz", b"stco", b"stsc", b"mdat"):
            at = seeds["m4a"].index(kind)
            for size in (0, 7, 0x7FFFFFFF):
                yield f"{kind.decode()}{size}.m4a", seeds["m4a"][: at - 4] + struct.pack(">I", size) + seeds["m4a"][at:]

    hear_all(write_all(tmp_path, forged()))


def test_forged_counts_in_mp4_tables_yield_sound_or_an_error(tmp_path: Path, seeds: dict[str, bytes]) -> None:
    def forged() -> Iterator[tuple[str, bytes]]:
        for kind, offset in (
            (b"mdhd", 16),
            (b"mdhd", 20),
            (b"stts", 8),
            (b"stts", 16),
            (b"stsz", 8),
            (b"stsz", 12),
            (b"stco", 8),
            (b"stsc", 8),
        ):
            at = seeds["m4a"].index(kind) + offset
            for value in (0, 0x7FFFFFFF, 0xFFFFFFFF):
                yield f"{kind.decode()}{offset}-{value}.m4a", seeds["m4a"][:at] + struct.pack(">I", value) + seeds["m4a"][at + 4 :]

    hear_all(write_all(tmp_path, forged()))


def test_what_is_not_sound_is_refused_whatever_its_name(tmp_path: Path) -> None:
    def foreign() -> Iterator[tuple[str, bytes]]:
        dice = random.Random(1)
        with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
            archive.writestr("talk.wav", wav())
        contents = {
            "zip": (tmp_path / "archive").read_bytes(),
            "locked.zip": b"PK\x03\x04\x14\x00\x01\x00" + dice.randbytes(500),
            "pdf": b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\n%%EOF\n",
            "html": b"<html><script>alert(1)</script></html>",
            "txt": b"Not sound.\n" * 100,
            "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF" + dice.randbytes(500),
            "exe": b"MZ" + dice.randbytes(500),
            "zeros": bytes(20_000),
            "ones": b"\xff" * 20_000,
            "noise": dice.randbytes(50_000),
            "tiny": b"\x00",
            "gzip": b"\x1f\x8b\x08\x00" + dice.randbytes(300),
        }
        for kind, content in contents.items():
            for ending in ("mp3", "wav", "mp4"):
                yield f"{kind}.{ending}", content

    for outcome in hear_all(write_all(tmp_path, foreign())):
        assert outcome.error is not None, outcome


def test_files_that_point_at_others_are_refused_and_read_nothing(tmp_path: Path) -> None:
    """Playlists and their like; the file they point at is sound that would play."""
    target = tmp_path / "target.wav"
    target.write_bytes(wav())

    def pointing() -> Iterator[tuple[str, bytes]]:
        for url in (
            str(target),
            f"file://{target}",
            "target.wav",
            "/etc/passwd",
            "http://127.0.0.1:9/a.wav",
            f"concat:{target}|{target}",
            "data:audio/wav;base64,AA",
        ):
            name = re.sub(r"\W+", "_", url)[-40:]
            yield f"hls{name}.m3u8", f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n".encode()
            yield f"concat{name}.ffconcat", f"ffconcat version 1.0\nfile '{url}'\n".encode()
            yield (
                f"dash{name}.mpd",
                f'<?xml version="1.0"?><MPD><Period><AdaptationSet><BaseURL>{url}</BaseURL></AdaptationSet></Period></MPD>'.encode(),
            )
            yield f"sdp{name}.sdp", f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns={url}\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n".encode()
            yield f"padded{name}.mp3", b"\x01" + f"#EXTM3U\n#EXTINF:5,\n{url}\n".encode()

    outcomes = hear_all(write_all(tmp_path, pointing()))
    assert all(outcome.error is not None for outcome in outcomes)


def test_a_quicktime_file_that_refers_to_another_reads_nothing(tmp_path: Path, encode: Callable[..., Path]) -> None:
    target = tmp_path / "target.wav"
    target.write_bytes(wav())
    sound = np.zeros(8_000, np.float32)
    movie = encode(tmp_path / "plain.mov", "pcm_s16le", sound, rate_hz=8_000).read_bytes()
    alias = str(target).encode()
    reference = (
        b"alis\x00\x00\x00\x00" + bytes(150) + struct.pack(">HH", 18, len(alias)) + alias + bytes(len(alias) % 2) + b"\xff\xff\x00\x00"
    )
    at = movie.index(b"dref") + 12
    (tmp_path / "refers.mov").write_bytes(movie[:at] + struct.pack(">I", len(reference) + 4) + reference + movie[at:])
    hear(tmp_path / "refers.mov")


def test_odd_names_and_odd_things_are_told_apart(tmp_path: Path, seeds: dict[str, bytes]) -> None:
    nested = tmp_path / "a" / "b"
    nested.mkdir(parents=True)
    (tmp_path / "a" / "up.mp3").write_bytes(seeds["mp3"])
    names = [
        "new\nline.mp3",
        "-i",
        "--help",
        "tab\t.wav",
        "ünï 講義 🎤.flac",
        "n" * 255,
        " ",
        "$(id).wav",
        "`id`",
        "'\"\\",
        os.fsdecode(b"\xff\xfe"),
        "pipe:0",
        "%s%n%d",
    ]
    good = write_all(tmp_path, ((name, seeds["mp3"]) for name in names))
    outcomes = hear_all([*good, nested / ".." / "up.mp3"])
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    os.mkfifo(tmp_path / "fifo.mp3")
    (tmp_path / "to_device.mp3").symlink_to("/dev/urandom")
    (tmp_path / "dangling.mp3").symlink_to("nowhere")
    bad = [tmp_path / name for name in ("fifo.mp3", "to_device.mp3", "dangling.mp3", "a", "x" * 300, "..", "missing/../x.mp3")]
    for outcome in hear_all(bad):
        assert type(outcome.error) is UnreadableAudio


def test_sparse_files_cost_nothing(tmp_path: Path) -> None:
    for name, size, head in (
        ("10g.wav", 10 * 2**30, wav()),
        ("7g.bin", 7 * 2**30, b""),
        ("3g.wav", 3 * 2**30, wav(claimed_bytes=3 * 2**30 - 44)),
    ):
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            file.truncate(size)
    large, zeros, long = hear_all([tmp_path / "10g.wav", tmp_path / "7g.bin", tmp_path / "3g.wav"])
    assert "8589934592 are allowed" in str(large.error)
    assert zeros.error is not None
    assert "lasts more than 60 s" in str(long.error)


def test_files_glued_together_or_behind_rubbish_yield_sound_or_an_error(tmp_path: Path, seeds: dict[str, bytes]) -> None:
    def glued() -> Iterator[tuple[str, bytes]]:
        for ending in SEEDS[:-1]:
            yield f"twice.{ending}", seeds[ending] * 2
            yield f"behind.{ending}", random.Random(0).randbytes(1000) + seeds[ending]
            yield f"before.{ending}", seeds[ending] + random.Random(0).randbytes(1000)
            yield f"other.{ending}", seeds[ending] + seeds["mp3"]

    outcomes = hear_all(write_all(tmp_path, glued()))
    before = Counter(outcome.error is None for outcome in outcomes if outcome.name.startswith("before"))
    assert before[True] >= 6
