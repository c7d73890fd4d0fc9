"""What can go wrong in answering.

GeneratorError
├── CitationOutOfEvidence   a model pointed at something it was not given
├── CalibrationMissing      no measured thresholds for this retriever and generator
├── ClipUnavailable         the sound of a moment that was found cannot be read
├── FamilyUnknown           a speech LLM of a kind of which nothing is known here
├── ClientMissing           the packages that talk to a model server are not installed
└── ServedError             a model server gave no usable answer; another generator may
    ├── ServerLost          it cannot be reached, or the connection broke before an answer began
    ├── ServerBrokeOff      it stopped in the middle of an answer
    ├── ServerSlow          no whole answer in the time that was set
    ├── ServerOverloaded    it has too much to do (429, 503)
    ├── ServerFailed        it failed by its own account (other 5xx)
    ├── KeyRefused          it does not accept the key (401, 403)
    ├── ModelUnknown        it does not serve this model (404)
    ├── PromptTooLong       question and evidence together are more than the model takes
    ├── ClipRefused         it cannot use the sound that was sent
    ├── RequestRefused      it refuses the request for another reason (other 4xx)
    └── AnswerUnusable      its answer cannot be read, or rests on nothing that was sent
"""


class GeneratorError(Exception):
    """Base of all errors of this package; the message names the value, the rule and the way out."""


class CitationOutOfEvidence(GeneratorError):
    """A model pointed at something it was not given."""


class CalibrationMissing(GeneratorError):
    """No measured thresholds for this retriever and generator."""


class ClipUnavailable(GeneratorError):
    """The sound of a moment that was found cannot be read."""


class FamilyUnknown(GeneratorError):
    """A speech LLM of a kind of which nothing is known here."""


class ClientMissing(GeneratorError):
    """The packages that talk to a model server are not installed."""


class ServedError(GeneratorError):
    """A model server gave no usable answer.

    Attributes:
        partial: what of an answer had come until then, as the user saw it; mostly empty.
    """

    def __init__(self, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial


class ServerLost(ServedError):
    """The server cannot be reached, or the connection broke before an answer began."""


class ServerBrokeOff(ServedError):
    """The server stopped in the middle of an answer."""


class ServerSlow(ServedError):
    """No whole answer came in the time that was set."""


class ServerOverloaded(ServedError):
    """The server has too much to do."""


class ServerFailed(ServedError):
    """The server failed by its own account."""


class KeyRefused(ServedError):
    """The server does not accept the key."""


class ModelUnknown(ServedError):
    """The server does not serve this model."""


class PromptTooLong(ServedError):
    """Question and evidence together are more than the model takes."""


class ClipRefused(ServedError):
    """The server cannot use the sound that was sent."""


class RequestRefused(ServedError):
    """The server refuses the request for another reason."""


class AnswerUnusable(ServedError):
    """The answer cannot be read, or rests on nothing that was sent."""
