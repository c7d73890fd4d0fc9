"""Training and export of the shipped models."""
