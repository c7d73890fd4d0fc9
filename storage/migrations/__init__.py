"""Alembic: one step per change of the schema, never edited once released."""
