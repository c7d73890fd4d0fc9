"""Configuration of storage."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Where things are kept.

    Attributes:
        folder: holds the sound and, by default, the database.
        database_url: SQLAlchemy's; empty means SQLite in `folder`. PostgreSQL needs the extra `postgres`.
        busy_timeout_s: how long a writer waits for another.
        min_free_bytes: below this no new lecture is accepted, so that a full disk never stops the history.
    """

    folder: Path
    database_url: str = ""
    busy_timeout_s: float = 30.0
    min_free_bytes: int = 200 * 2**20
