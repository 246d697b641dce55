"""The main jobs as functions, for the command line and for Python alike."""

from lilliput.api.advising import advise
from lilliput.api.deploying import export
from lilliput.api.judging import detect, probe, prune, report, show, transfer, verify
from lilliput.api.learning import make_cells, pretrain, study
from lilliput.api.using import clean, embed, search

__all__ = [
    "advise",
    "clean",
    "detect",
    "embed",
    "export",
    "make_cells",
    "pretrain",
    "probe",
    "prune",
    "report",
    "search",
    "show",
    "study",
    "transfer",
    "verify",
]
