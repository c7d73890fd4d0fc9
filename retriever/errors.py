"""What can go wrong in retrieval.

RetrieverError
├── InvalidAudio            samples of the wrong shape, type or range
├── InvalidSegment          a span that is empty, reversed or too long
├── InvalidQuestion         neither sound nor words
├── UnreadableAudio         a file that does not yield sound
│   ├── EmptyFile           no bytes
│   ├── UnsupportedFormat   not sound at all, locked, or a format nobody knows
│   ├── NoAudioTrack        a video without sound
│   ├── CorruptAudio        damaged so that nothing, or only a part, can be decoded
│   ├── SilentAudio         decodes, but nobody speaks
│   ├── AudioLimitExceeded  longer or larger than the limits allow
│   └── DecoderCrashed      the decoding process died or stopped answering
├── ModelFilesMissing       shipped weights are absent or altered
├── RecognitionFailed       the recognising processes died
├── DeviceUnavailable       a GPU is asked for that is not there, or its library
└── IndexUnusable           the index on disk cannot serve; it is rebuilt from the library
    ├── IndexMissing
    ├── IndexDamaged
    └── IndexForeign        made by another model
"""


class RetrieverError(Exception):
    """Base of all errors of this package; the message names the value, the rule and the way out."""


class InvalidAudio(RetrieverError, ValueError):
    """Samples of the wrong shape, type or range."""


class InvalidSegment(RetrieverError, ValueError):
    """A span that is empty, reversed or too long."""


class InvalidQuestion(RetrieverError, ValueError):
    """Neither sound nor words."""


class UnreadableAudio(RetrieverError):
    """A file that does not yield sound."""


class EmptyFile(UnreadableAudio):
    """No bytes."""


class UnsupportedFormat(UnreadableAudio):
    """Not sound at all, locked by a password, or a format nobody knows."""


class NoAudioTrack(UnreadableAudio):
    """A video without sound."""


class CorruptAudio(UnreadableAudio):
    """Damaged so that nothing, or only a part, can be decoded."""


class SilentAudio(UnreadableAudio):
    """Decodes, but nobody speaks."""


class AudioLimitExceeded(UnreadableAudio):
    """Longer or larger than the limits allow."""


class DecoderCrashed(UnreadableAudio):
    """The decoding process died or stopped answering."""


class ModelFilesMissing(RetrieverError):
    """Shipped weights are absent or altered."""


class SegmentationFailed(RetrieverError):
    """The process that finds speech died."""


class RecognitionFailed(RetrieverError):
    """The recognising processes died."""


class DeviceUnavailable(RetrieverError):
    """A GPU is asked for that is not there, or its library."""


class IndexUnusable(RetrieverError):
    """The index on disk cannot serve; it is rebuilt from the library."""


class IndexMissing(IndexUnusable):
    """There is no index yet."""


class IndexDamaged(IndexUnusable):
    """Files are absent, cut short or altered."""


class IndexForeign(IndexUnusable):
    """Made by another model."""
