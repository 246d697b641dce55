"""Evaluations of a saved encoder, one file each, found by file name: f(exam, *, options) yields (metric, value)."""

from lilliput.probes._exam import Exam, Finding, Flag, LabelledExam, MaskedExam
from lilliput.probes._scores import accuracy, half_interval, score

__all__ = ["Exam", "Finding", "Flag", "LabelledExam", "MaskedExam", "accuracy", "half_interval", "score"]
