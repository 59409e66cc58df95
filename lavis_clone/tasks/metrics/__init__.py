"""Metrics as functions of numbers and words, unaware of models, files and ranks."""
