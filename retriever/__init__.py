"""Finds the moments of lectures that answer a question."""
