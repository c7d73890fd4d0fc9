"""Remembers: lectures, sound, what was heard, jobs, questions and answers."""
