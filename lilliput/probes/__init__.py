"""Evaluations of a saved encoder, one file each, found by file name: f(exam, *, options) yields (metric, value)."""

from lilliput.probes._exam import Exam, score

__all__ = ["Exam", "score"]
