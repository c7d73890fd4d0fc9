"""Fits what answering learns from data; not needed at run time."""
