"""Recording through real PortAudio, whose microphone is a file (ALSA's `file` plugin over its `null` device, faster than real time)."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from app.errors import RecordingFailed
from app.microphone import GrowingWav
from retriever.audio import open_audio, read_audio
from retriever.config import AudioLimits

LIMITS = AudioLimits()
RECORDER = """if True:
    import json, sys, time
    from pathlib import Path
    from threading import Event, Timer
    from app.microphone import record
    def show(seconds, level):
        print(json.dumps([time.monotonic(), seconds, level]), flush=True)
    stop = Event()
    timer = Timer(float(sys.argv[2]), stop.set)
    timer.daemon = True
    timer.start()
    made = record(Path(sys.argv[1]), sys.argv[3] if len(sys.argv) > 3 else None, show, stop)
    print("made", made.num_samples, made.sample_rate_hz, made.lost_blocks, flush=True)
"""


def has_portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401, PLC0415
    except OSError:
        return False
    return Path("/usr/share/alsa/alsa.conf").exists()


needs_portaudio = [pytest.mark.portaudio, pytest.mark.skipif(not has_portaudio(), reason="PortAudio or ALSA is not installed")]


@pytest.fixture
def spoken() -> np.ndarray:
    """What the microphone hears: 20 s of a rising tone, in which every place is different."""
    time_s = np.arange(20 * 16_000) / 16_000
    return (12_000 * np.sin(2 * np.pi * (200 + 40 * time_s) * time_s)).astype("<i2")


@pytest.fixture
def microphone(tmp_path: Path, spoken: np.ndarray) -> dict[str, str]:
    """Return the environment in which the default input plays `spoken`, then silence for ever."""
    (tmp_path / "spoken.raw").write_bytes(spoken.tobytes())
    (tmp_path / "asound.conf").write_text(
        f"""pcm.!default {{
            type plug
            slave {{
                format S16_LE
                rate 16000
                channels 1
                pcm {{ type file slave.pcm {{ type null }} file "/dev/null" infile "{tmp_path / "spoken.raw"}" format "raw" }}
            }}
        }}"""
    )
    return os.environ | {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")}


def start(path: Path, environment: dict[str, str], seconds: float, *device: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RECORDER, str(path), str(seconds), *device]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def in_order(path: Path, spoken: np.ndarray) -> int:
    """Return how many samples of `spoken` the file begins with, exactly."""
    with open_audio(path, LIMITS) as stream:
        heard = np.round(next(iter(stream)) * 32768).astype(np.int64)
        for block in stream:
            if len(heard) >= len(spoken):
                break
            heard = np.concatenate([heard, np.round(block * 32768).astype(np.int64)])
    length = min(len(heard), len(spoken))
    same = heard[:length] == spoken[:length]
    return length if same.all() else int(np.argmin(same))


class TestThroughPortAudio:
    pytestmark = needs_portaudio

    def test_a_recording_holds_what_the_microphone_heard(self, tmp_path: Path, microphone: dict[str, str], spoken: np.ndarray) -> None:
        with start(tmp_path / "lecture.wav", microphone, 1.5) as recorder:
            out, err = recorder.communicate(timeout=60)
        assert recorder.returncode == 0, err
        _, num_samples, rate_hz, _ = out.splitlines()[-1].split()
        assert int(rate_hz) == 16_000
        assert in_order(tmp_path / "lecture.wav", spoken) == len(spoken)
        data = (tmp_path / "lecture.wav").read_bytes()
        assert len(data) == 44 + 2 * int(num_samples)
        assert struct.unpack("<I", data[40:44]) == (len(data) - 44,)

    def test_a_killed_recorder_loses_at_most_two_seconds(self, tmp_path: Path, microphone: dict[str, str], spoken: np.ndarray) -> None:
        path = tmp_path / "lecture.wav"
        with start(path, microphone, 60) as recorder:
            assert recorder.stdout is not None
            reports: list[tuple[float, float]] = []
            while not reports or reports[-1][0] < reports[0][0] + 3.3:
                moment, seconds, _ = (float(number) for number in recorder.stdout.readline().strip("[]\n").split(","))
                reports.append((moment, seconds))
            recorder.send_signal(signal.SIGKILL)
            recorder.wait()
        safe_s = max(seconds for moment, seconds in reports if moment <= reports[-1][0] - 2)
        assert safe_s > 0
        data = path.read_bytes()
        (claimed,) = struct.unpack("<I", data[40:44])
        assert claimed <= len(data) - 44
        assert claimed / 32_000 >= safe_s
        assert in_order(path, spoken) == len(spoken)
        with open_audio(path, LIMITS) as stream:
            next(iter(stream))
            assert stream.probe.duration_s == pytest.approx(claimed / 32_000)

    def test_levels_are_reported(self, tmp_path: Path, microphone: dict[str, str]) -> None:
        with start(tmp_path / "lecture.wav", microphone, 1) as recorder:
            out, _ = recorder.communicate(timeout=60)
        levels = [float(line.strip("[]").split(",")[2]) for line in out.splitlines() if line.startswith("[")]
        assert 5 <= len(levels) <= 20
        assert max(levels) == pytest.approx(20 * np.log10(12_000 / 32_768), abs=0.1)

    def test_an_unknown_device_is_named_with_those_there_are(self, tmp_path: Path, microphone: dict[str, str]) -> None:
        with start(tmp_path / "lecture.wav", microphone, 5, "no such microphone") as recorder:
            _, err = recorder.communicate(timeout=60)
        assert "MicrophoneUnavailable" in err
        assert "no such microphone" in err
        assert "inputs found: 0: default" in err
        assert not (tmp_path / "lecture.wav").exists()

    def test_a_machine_without_microphone_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "asound.conf").write_text("pcm.!default { type hw card 99 }")
        with start(tmp_path / "lecture.wav", os.environ | {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")}, 5) as recorder:
            _, err = recorder.communicate(timeout=60)
        assert "MicrophoneUnavailable" in err
        assert "inputs found: none" in err

    def test_a_full_disk_ends_the_recording_and_keeps_what_there_is(
        self, tmp_path: Path, microphone: dict[str, str], spoken: np.ndarray
    ) -> None:
        full = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        full += "resource.setrlimit(resource.RLIMIT_FSIZE, (700001, 700001))\n"
        path = tmp_path / "lecture.wav"
        command = [sys.executable, "-c", full + RECORDER, str(path), "30"]
        done = subprocess.run(command, check=False, env=microphone, capture_output=True, text=True, timeout=60)
        assert "RecordingFailed" in done.stderr
        assert "22 s are kept" in done.stderr
        assert path.stat().st_size <= 700_001
        assert in_order(path, spoken) == len(spoken)


def test_a_growing_file_is_whole_at_every_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with GrowingWav(tmp_path / "a.wav", 8_000) as file:
        for i in range(35):
            now = i / 10
            file.append(np.full(800, i + 1, np.int16))
        whole = (tmp_path / "a.wav").read_bytes()
        copy = tmp_path / "killed.wav"
        copy.write_bytes(whole)
        assert struct.unpack("<I", whole[40:44])[0] >= 2 * 8_000 * 3
        assert file.duration_s == 3.5
    assert 3 <= read_audio(copy, LIMITS, 10).duration_s <= 3.5
    assert read_audio(tmp_path / "a.wav", LIMITS, 10).duration_s == 3.5


def test_a_file_that_exists_is_not_recorded_over(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"precious")
    with pytest.raises(RecordingFailed, match="exists already"):
        GrowingWav(tmp_path / "a.wav", 16_000)
    assert (tmp_path / "a.wav").read_bytes() == b"precious"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingFailed, match="cannot be written"):
        GrowingWav(tmp_path / "none" / "a.wav", 16_000)


def test_without_portaudio_the_way_out_is_named(tmp_path: Path) -> None:
    """A library path without PortAudio: sounddevice's own search finds none."""
    code = """if True:
        import ctypes.util
        ctypes.util.find_library = lambda name: None
        from app.microphone import devices
        devices()
    """
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert "MicrophoneUnavailable: recording needs the PortAudio library" in done.stderr
    assert "apt install libportaudio2" in done.stderr


def test_importing_needs_no_portaudio() -> None:
    code = "import sys, app.microphone; print('sounddevice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "False"
