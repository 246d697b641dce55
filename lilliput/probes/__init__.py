"""Evaluations of a saved encoder, one file each, found by file name: f(exam, *, options) yields (metric, value)."""

from lilliput.probes._exam import (
    Exam,
    Finding,
    Flag,
    LabelledExam,
    MaskedExam,
    Taken,
    check_need,
    exams_for,
    sorted_out,
    split,
)
from lilliput.probes._features import batch_norm_measured, effective_rank, extract, extract_stages, measure_batch_norm
from lilliput.probes._scores import accuracy, half_interval, score

__all__ = [
    "Exam",
    "Finding",
    "Flag",
    "LabelledExam",
    "MaskedExam",
    "Taken",
    "accuracy",
    "batch_norm_measured",
    "check_need",
    "effective_rank",
    "exams_for",
    "extract",
    "extract_stages",
    "half_interval",
    "measure_batch_norm",
    "score",
    "sorted_out",
    "split",
]
