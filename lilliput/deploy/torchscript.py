"""TorchScript: a traced network, for LibTorch and older torch. https://pytorch.org/docs/stable/jit.html"""

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lilliput.deploy.network import Deployed
from lilliput.system.files import write_whole

SUFFIX = ".pt"


def write(network: Deployed, path: Path, *, size: int, dynamic: bool, metadata: dict[str, str]) -> None:
    """A trace takes images of other sizes too, as long as the network does, so that `dynamic` changes nothing."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch calls TorchScript old, and timm's layers ask for sizes
        traced = torch.jit.freeze(torch.jit.trace(network, network.example(size, size), check_trace=False))
        whole = io.BytesIO()
        torch.jit.save(traced, whole, _extra_files={name: text.encode() for name, text in metadata.items()})
    write_whole(path, _unsigned(whole))


def _unsigned(file: io.BytesIO) -> bytes:
    """The file without torch's notes for debugging, which name the folders of this machine."""
    kept = io.BytesIO()
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(kept, "w") as bare:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                bare.writestr(entry, archive.read(entry))
    return kept.getvalue()


def opened(path: Path) -> Callable[[Tensor], Tensor]:
    """The file as a function of images; the threads are those of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.jit.load(str(path))
    return lambda images: network(images)
