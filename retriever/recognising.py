"""The child process of `recognition`: hears the words in one sound after another with pocketsphinx, whose model ships in its wheel.

Started as a script, by its path, so that nothing but pocketsphinx, numpy and the standard library is loaded. A request on stdin is a
little-endian uint32 N and N int16 samples at 16 kHz; the answer on stdout is one line of JSON, [[word, first frame, last frame,
confidence], …]. The end of stdin means that the parent is gone, however it died.
"""

import contextlib
import json
import re
import struct
import sys
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

FRAME_SAMPLES: Final = 160  # 10 ms
HEADER: Final = struct.Struct("<I")
# Of the settings tried, only these changed speed without changing words: a tenth faster, the same word error rate; EXPERIMENTS.md.
SETTINGS: Final[dict[str, float | str | bool]] = {"loglevel": "FATAL", "maxhmmpf": 10_000}

Pcm = npt.NDArray[np.int16]  # (N,) at 16 kHz
Heard = list[tuple[str, int, int, float]]  # word, first frame, last frame, confidence in [0, 1]


class Recogniser:
    """pocketsphinx in this process; the same sound always gives the same words."""

    def __init__(self) -> None:
        """Load the model (0.3 s, 130 MB)."""
        import pocketsphinx  # noqa: PLC0415 - the parent imports this module for the messages alone

        self._decoder: Any = pocketsphinx.Decoder(**SETTINGS)

    def hear(self, pcm: Pcm) -> Heard:
        """Return the words; empty where nobody speaks."""
        if not len(pcm):
            return []
        decoder = self._decoder
        decoder.reinit_feat()  # forgets the last sound's level, else words depend on what was recognised before
        decoder.start_utt()
        decoder.process_raw(_dithered(pcm).tobytes(), full_utt=True)
        decoder.end_utt()
        probability = decoder.get_logmath().exp
        heard = [(spelling(piece.word), piece.start_frame, piece.end_frame, probability(piece.prob)) for piece in decoder.seg() or ()]
        return [(text, first, last, min(1.0, confidence)) for text, first, last, confidence in heard if text]


def _dithered(pcm: Pcm) -> Pcm:
    """Add the faintest noise, always the same: stretches of exact zeros are heard as words otherwise."""
    noise = np.random.default_rng(0).integers(-1, 2, len(pcm))
    dithered: Pcm = np.clip(pcm + noise, -32_768, 32_767).astype(np.int16)
    return dithered


def spelling(entry: str) -> str:
    """Return a dictionary entry as a word: `read(2)` is `read`; silence and noise (`<sil>`, `[NOISE]`, `++UH++`) are empty."""
    if entry.startswith(("<", "[", "++")):
        return ""
    return re.sub(r"\(\d+\)$", "", entry)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    recogniser = Recogniser()
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        (num_samples,) = HEADER.unpack(header)
        pcm = np.frombuffer(requests.read(2 * num_samples), np.int16)
        answers.write(json.dumps(recogniser.hear(pcm)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent went away while we were listening
        serve(sys.stdin.buffer, sys.stdout.buffer)
