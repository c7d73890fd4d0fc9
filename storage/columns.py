"""The column types: times in UTC, vectors, JSON, and text that any database accepts.

The vector column is one type. In SQLite it holds little-endian float32 bytes. In PostgreSQL it is pgvector's `vector` if the extension
could be had when the table was made, else BYTEA; which of the two is written in the database's own schema, read from there whenever the
library is opened (`storage.schema`), and kept on the engine's dialect, where SQLAlchemy keeps all that it learns of a server. pgvector
added to a server later changes nothing for a table that exists: a migration may convert it.
"""

# ruff: noqa: ARG002 (SQLAlchemy hands every type the dialect, needed or not)

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy import BigInteger, DateTime, Dialect, Integer, LargeBinary, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from retriever.domain import Vector, Word

_PGVECTOR: Final = "askaloud_pgvector"  # attribute of a dialect

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")

BigId: Final = BigInteger().with_variant(
    Integer(), "sqlite"
)  # SQLite's INTEGER PRIMARY KEY is the row's own 64-bit number: no second index


def utc_now() -> datetime:
    """Return the present, in UTC."""
    return datetime.now(UTC)


def note_pgvector(dialect: Dialect, *, used: bool) -> None:
    """Note whether this server's vector column is pgvector's; to be called before the first statement that uses the column."""
    setattr(dialect, _PGVECTOR, used)


def uses_pgvector(dialect: Dialect) -> bool:
    """Return what `note_pgvector` noted; False if nothing was."""
    return bool(getattr(dialect, _PGVECTOR, False))


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, in UTC, aware of it on both sides; SQLite, which has no zones, is given UTC without saying so."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Use zones where the database has them."""
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without zone: nobody could say when it was."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs a zone, got {value!r}; use datetime.now(UTC)")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class CleanText(TypeDecorator[str]):
    """Text that any database accepts: NUL and halves of surrogate pairs (file names may hold them) become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what cannot be stored."""
        return None if value is None else clean(value)


class JsonText(TypeDecorator[Any]):
    """A JSON value as compact text, the same in every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write it."""
        return None if value is None else json.dumps(value, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read it."""
        return None if value is None else json.loads(value)


class WordsText(TypeDecorator[tuple[Word, ...]]):
    """Words as compact JSON: a list of [text, start, end, confidence]."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[Word] | None, dialect: Dialect) -> str | None:
        """Write them."""
        return None if value is None else write_words(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[Word, ...] | None:
        """Read them."""
        return None if value is None else read_words(value)


class VectorColumn(TypeDecorator[Vector]):
    """A float32 vector of any dimension; see this module's first lines."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose between bytes and pgvector."""
        if uses_pgvector(dialect):
            from pgvector.sqlalchemy import VECTOR  # noqa: PLC0415 (an extra)

            return dialect.type_descriptor(VECTOR())
        return dialect.type_descriptor(LargeBinary())

    def process_bind_param(self, value: Vector | None, dialect: Dialect) -> Any:
        """Write it."""
        if value is None:
            return None
        return value.astype(np.float32) if uses_pgvector(dialect) else value.astype("<f4").tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> Vector | None:
        """Read it, as an array of its own."""
        if value is None:
            return None
        if isinstance(value, bytes | memoryview):
            return np.frombuffer(value, "<f4").astype(np.float32)
        return np.asarray(value, np.float32)


def clean(text: str) -> str:
    """Return the text with U+FFFD in place of what databases refuse."""
    return _UNSTORABLE.sub("\ufffd", text)


def write_words(words: Sequence[Word]) -> str:
    """Return words as JSON; `read_words` gives them back exactly."""
    return json.dumps([(word.text, word.start, word.end, word.confidence) for word in words], separators=(",", ":"), allow_nan=False)


def read_words(text: str) -> tuple[Word, ...]:
    """Return the words that `write_words` wrote."""
    return tuple([Word(*fields) for fields in json.loads(text)])


def write_ids(ids: frozenset[UUID] | None) -> list[str] | None:
    """Return ids as JSON can hold them, in order."""
    return None if ids is None else sorted(str(one) for one in ids)


def read_ids(ids: Sequence[str] | None) -> frozenset[UUID] | None:
    """Return the ids that `write_ids` wrote."""
    return None if ids is None else frozenset(UUID(one) for one in ids)
