"""Lilliput: pretrain small vision networks without labels, and measure what they learn while they learn it."""

from typing import TYPE_CHECKING

from lilliput._version import version as __version__
from lilliput.catalog import use

if TYPE_CHECKING:
    from lilliput.api import (
        advise,
        clean,
        detect,
        embed,
        export,
        pretrain,
        probe,
        prune,
        report,
        search,
        show,
        study,
        transfer,
        verify,
    )
    from lilliput.datasets import open_data
    from lilliput.gallery.embedder import Embedder
    from lilliput.training.encoders import load_encoder

__all__ = [
    "Embedder",
    "__version__",
    "advise",
    "clean",
    "detect",
    "embed",
    "export",
    "load_encoder",
    "open_data",
    "pretrain",
    "probe",
    "prune",
    "report",
    "search",
    "show",
    "study",
    "transfer",
    "use",
    "verify",
]


def __getattr__(name: str):
    """Import what is asked for only when it is: torch takes seconds."""
    if name == "open_data":
        from lilliput.datasets import open_data

        return open_data
    if name == "Embedder":
        from lilliput.gallery.embedder import Embedder

        return Embedder
    if name == "load_encoder":
        from lilliput.training.encoders import load_encoder

        return load_encoder
    if name in __all__:  # the jobs
        from lilliput import api

        return getattr(api, name)
    raise AttributeError(f"module 'lilliput' has no attribute {name!r}")
