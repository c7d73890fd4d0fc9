"""What can go wrong in storage.

StorageError
├── NotFound              no such lecture, job or question of this owner
├── SchemaTooNew          the database was written by a newer version
├── DatabaseUnusable      cannot be opened, locked for too long, or damaged
├── DiskFull              no room for what was to be kept
├── SoundMissing          the sound of a lecture or question is gone from the disk
└── IllegalTransition     a job's state would move backwards
"""


class StorageError(Exception):
    """Base of all errors of this package; the message names the value, the rule and the way out."""


class NotFound(StorageError, LookupError):
    """No such lecture, job or question of this owner."""


class SchemaTooNew(StorageError):
    """The database was written by a newer version."""


class DatabaseUnusable(StorageError):
    """Cannot be opened, locked for too long, or damaged."""


class DiskFull(StorageError):
    """No room for what was to be kept."""


class SoundMissing(StorageError):
    """The sound of a lecture or question is gone from the disk."""


class IllegalTransition(StorageError):
    """A job's state would move backwards."""
