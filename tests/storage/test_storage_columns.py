"""What is stored comes back as it was."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from retriever.domain import Word
from storage.columns import (
    UtcDateTime,
    VectorColumn,
    clean,
    note_pgvector,
    read_ids,
    read_words,
    uses_pgvector,
    write_ids,
    write_words,
)
from storage.flac import to_pcm, to_samples
from storage.tables import VectorRow

words = st.builds(
    Word,
    text=st.text(st.characters(codec=None), max_size=20),
    start=st.integers(0, 2**62),
    end=st.integers(0, 2**62),
    confidence=st.floats(0, 1),
)
vectors = arrays(np.float32, st.integers(1, 64), elements=st.floats(-1, 1, width=32))


@given(st.lists(words, max_size=8).map(tuple))
def test_words_come_back_exactly(heard: tuple[Word, ...]) -> None:
    written = write_words(heard)
    assert written.isascii()
    assert read_words(written) == heard


def test_a_confidence_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_words([Word("x", 0, 1, float("nan"))])


@given(st.none() | st.frozensets(st.uuids(), max_size=5))
def test_a_scope_comes_back_exactly(scope: frozenset[UUID] | None) -> None:
    assert read_ids(write_ids(scope)) == scope


@given(vectors)
def test_vectors_come_back_bit_by_bit_from_bytes(vector: npt.NDArray[np.float32]) -> None:
    column, dialect = VectorColumn(), sqlite.dialect()
    stored = column.process_bind_param(vector, dialect)
    assert stored == vector.astype("<f4").tobytes()
    back = column.process_result_value(stored, dialect)
    assert back is not None
    assert back.dtype == np.float32
    assert back.flags.writeable
    assert back.tobytes() == vector.tobytes()


@given(vectors)
def test_vectors_come_back_from_pgvectors_text(vector: npt.NDArray[np.float32]) -> None:
    pytest.importorskip("pgvector", reason="pgvector is not here (the extra `postgres`)")
    dialect = postgresql.dialect()
    note_pgvector(dialect, used=True)
    column = VectorColumn().dialect_impl(dialect)
    bind, result = column.bind_processor(dialect), column.result_processor(dialect, None)
    assert bind is not None
    assert result is not None
    np.testing.assert_array_equal(result(bind(vector)), vector)


@pytest.mark.parametrize(("used", "type_name"), [(True, "VECTOR"), (False, "BYTEA")])
def test_the_vector_column_is_what_was_noted_of_the_server(used: bool, type_name: str) -> None:
    pytest.importorskip("pgvector", reason="pgvector is not here (the extra `postgres`)")
    dialect = postgresql.dialect()
    note_pgvector(dialect, used=used)
    assert uses_pgvector(dialect) is used
    assert f"vector {type_name} NOT NULL" in str(CreateTable(VectorRow.__table__).compile(dialect=dialect))


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.timezones() | st.just(UTC), allow_imaginary=False)
)  # an hour that a change to summer time leaves out equals nothing
def test_moments_come_back_in_utc(moment: datetime) -> None:
    column = UtcDateTime()
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        stored = column.process_bind_param(moment, dialect)
        back = column.process_result_value(stored, dialect)
        assert back is not None
        assert back == moment
        assert back.utcoffset() == timedelta(0)


def test_a_moment_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a zone"):
        UtcDateTime().process_bind_param(datetime(2026, 1, 1), sqlite.dialect())


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_stored_and_is_else_unchanged(text: str) -> None:
    cleaned = clean(text)
    assert "\0" not in cleaned
    assert len(cleaned.encode().decode()) == len(text)
    assert all(new in (old, "\ufffd") for old, new in zip(text, cleaned, strict=True))


@given(arrays(np.int16, st.integers(0, 100)))
def test_sixteen_bit_sound_is_exact(pcm: npt.NDArray[np.int16]) -> None:
    np.testing.assert_array_equal(to_pcm(to_samples(pcm)), pcm)


@given(arrays(np.float32, st.integers(0, 100), elements=st.floats(-1, 1, width=32)))
def test_other_sound_is_kept_within_half_a_step_but_for_full_scale(samples: npt.NDArray[np.float32]) -> None:
    error = np.abs(to_samples(to_pcm(samples)) - samples)
    assert (error <= np.where(samples > 1 - 1 / 65536, 1 / 32768, 0.5 / 32768)).all()
