"""Turns retrieved speech into an answer that cites."""
