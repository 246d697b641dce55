"""Datasets: one file each, found by its file name, whose `prepare` gives stores."""
