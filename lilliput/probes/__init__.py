"""Evaluations of a saved encoder, one file each, found by file name: f(exam, *, options) yields (metric, value)."""
