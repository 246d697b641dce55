"""The main jobs as functions, for the command line and for Python alike."""

from lilliput.api.judging import detect, probe, prune, report, transfer, verify
from lilliput.api.learning import make_cells, pretrain, study

__all__ = ["detect", "make_cells", "pretrain", "probe", "prune", "report", "study", "transfer", "verify"]
