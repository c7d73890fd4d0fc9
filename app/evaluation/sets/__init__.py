"""Data sets for evaluation, one file each, in the layouts in which they are published."""
