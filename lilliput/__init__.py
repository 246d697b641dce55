"""Lilliput: pretrain small vision networks without labels, and measure what they learn while they learn it."""

from typing import TYPE_CHECKING

from lilliput._version import version as __version__
from lilliput.catalog import use

if TYPE_CHECKING:
    from lilliput.api import detect, pretrain, probe, prune, report, study, transfer, verify
    from lilliput.datasets import open_data
    from lilliput.training.encoders import load_encoder

JOBS = ("detect", "pretrain", "probe", "prune", "report", "study", "transfer", "verify")  # of api
__all__ = [  # all of JOBS too
    "__version__",
    "detect",
    "load_encoder",
    "open_data",
    "pretrain",
    "probe",
    "prune",
    "report",
    "study",
    "transfer",
    "use",
    "verify",
]


def __getattr__(name: str):
    """Import what is asked for only when it is: torch takes seconds."""
    if name in JOBS:
        from lilliput import api

        return getattr(api, name)
    if name == "open_data":
        from lilliput.datasets import open_data

        return open_data
    if name == "load_encoder":
        from lilliput.training.encoders import load_encoder

        return load_encoder
    raise AttributeError(f"module 'lilliput' has no attribute {name!r}")
