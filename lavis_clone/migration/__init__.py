"""LAVIS's names and call shapes, for scripts that were written for it."""
