"""What can go wrong in the application.

AppError
├── SettingsInvalid        the settings file or an environment variable has a wrong value
├── CommandMisused         the command line asks for what cannot be done as it is put
├── NothingToSearch        there is no searchable lecture in the question's scope yet
├── WorkerBusy             another worker holds the lock
├── MicrophoneUnavailable  no PortAudio, no such device, or no permission
├── RecordingFailed        recording stopped; what came before is kept
├── DataSetUnusable        an evaluation's data set lacks files, has another layout, or cannot be made
├── VllmMissing            vLLM is not installed where it was looked for
└── LlmServerFailed        a model server does not start, cannot be reached, or does not answer
"""


class AppError(Exception):
    """Base of all errors of this package; the message names the value, the rule and the way out."""


class SettingsInvalid(AppError):
    """The settings file or an environment variable has a wrong value."""


class CommandMisused(AppError):
    """The command line asks for what cannot be done as it is put."""


class NothingToSearch(AppError):
    """There is no searchable lecture in the question's scope yet."""


class WorkerBusy(AppError):
    """Another worker holds the lock."""


class MicrophoneUnavailable(AppError):
    """No PortAudio, no such device, or no permission."""


class RecordingFailed(AppError):
    """Recording stopped; what came before is kept."""


class DataSetUnusable(AppError):
    """An evaluation's data set lacks files, has another layout, or cannot be made."""


class VllmMissing(AppError):
    """VLLM is not installed where it was looked for."""


class LlmServerFailed(AppError):
    """A model server does not start, cannot be reached, or does not answer."""
