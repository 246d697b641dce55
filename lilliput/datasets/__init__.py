"""Datasets: one file each, found by its file name, whose `prepare` gives stores."""

from lilliput.datasets._open import Source, open_data, without_leaks

__all__ = ["Source", "open_data", "without_leaks"]
