"""Saved encoders: encoder_005.safetensors ..., under their library's own names."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lilliput import catalog, zoo
from lilliput.backbones import stock_file
from lilliput.errors import BadData, LilliputError
from lilliput.system.progress import say
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.initial import IMAGENET, Init, init_from
from lilliput.training.record import EXPORTED, FORMAT, check_format

SPARE = 2 * 10**8  # weights that building an encoder may take beyond those of its file: a narrow one begins wide


def library_name(key: str) -> str:
    """A weight's name in its own library: ours without the wrapper ("net.conv1.weight" -> "conv1.weight")."""
    return re.sub(r"^(\w+\.)?net\.", r"\1", key)


def encoder_path(folder: Path, epoch: int) -> Path:
    return folder / f"encoder_{epoch:03d}.safetensors"


def saved_encoders(folder: Path) -> dict[int, Path]:
    """Epoch -> file of every saved encoder of a run, in order."""
    files = {path.stem.removeprefix("encoder_"): path for path in folder.glob("encoder_*.safetensors")}
    return dict(sorted((int(epoch), path) for epoch, path in files.items() if epoch.isdecimal()))


def save_encoder(path: Path, encoder: nn.Module, header: dict) -> None:
    """Weights under their library's names; `header` (technique, backbone, width, ...) is kept in the file's header."""
    weights = {library_name(key): value for key, value in encoder.state_dict().items()}
    own_files = catalog.own_files(techniques=[header["technique"]], backbones=[header["backbone"]])
    write_tensors(path, weights, {"format": FORMAT, **header, **own_files})


def encoder_at(place: str | os.PathLike) -> Path:
    """The file of an encoder: by its own path, by the folder of a run or of an export, whose last one counts, or by its
    name in the zoo that comes with Lilliput, `zoo/NAME`. BadData where there is none."""
    path = Path(os.path.expanduser(place))
    if not path.exists() and path.parts[:1] == ("zoo",):
        path = zoo.folder(path.as_posix())
    if path.is_dir():
        saved = saved_encoders(path)
        if not saved:
            raise BadData(f"{path} is not the folder of a run: it holds no encoder_*.safetensors")
        path = list(saved.values())[-1]
    return path


def init_of(wanted: str | os.PathLike, backbone: str, weights: str | os.PathLike | None = None) -> Init:
    """What a pretraining is to start from: `imagenet` for a backbone (found in the folder `weights`, cached by its
    library, or fetched), or an encoder by `encoder_at`. BadData where there is no such file."""
    if str(wanted) == IMAGENET:
        return init_from(stock_file(backbone, weights, fetch=True), IMAGENET)
    path = encoder_at(wanted)
    if not path.is_file():
        raise BadData(f"--init {wanted} is neither a file nor a run's folder, nor the word {IMAGENET}")
    return init_from(path, path.name if Path(wanted).exists() else str(wanted))  # of the zoo by its name there


def load_encoder(path: str | os.PathLike) -> nn.Module:
    """The encoder saved in a file, the last one of a run's folder, or one of the zoo by its name, `zoo/NAME`: images
    [B, 3, H, W] in 0..1 -> [B, dim].

    In eval mode, on the CPU. Raises BadData if there is none or the file is damaged.
    """
    path = encoder_at(path)
    weights, header = read_tensors(path)
    if "technique" not in header:
        raise BadData(f"{path} was not written by Lilliput: its header names no technique")
    try:
        with _Bounded(SPARE + 4 * sum(value.numel() for value in weights.values())):
            encoder = _described(path, header)
    except LilliputError:
        raise
    except Exception as error:  # whatever a header of other kinds than ours leads to
        raise BadData(f"{path} has a header that describes no encoder ({error})") from None
    ours = {library_name(key): key for key in encoder.state_dict()}
    if set(ours) != set(weights):
        odd = sorted(set(ours) ^ set(weights))[0]
        raise BadData(f"{path} does not fit {header['technique']} on {header['backbone']}: weight {odd!r}")
    try:
        encoder.load_state_dict({ours[key]: value for key, value in weights.items()})
    except RuntimeError as error:
        raise BadData(f"{path} does not fit {header['technique']} on {header['backbone']}: {error}") from None
    return encoder.eval()


def _described(path: Path, header: dict) -> nn.Module:
    check_format(header.get("format", 0), path)
    technique, backbone, options = header["technique"], header["backbone"], header["backbone_options"]
    catalog.check_known(header)
    for file in catalog.changed_files(header):
        _say_changed(file)
    try:
        build = catalog.backbone_builder(backbone, **catalog.typed_options("backbones", backbone, options))
        return catalog.technique(technique).build_encoder(build)
    except LilliputError as error:  # of a value in the header, whatever it is
        raise type(error)(f"{path}: {error}") from None


@cache
def _say_changed(file: Path) -> None:
    """Once for all the encoders of a run."""
    say(f"{file} is not what it was when its encoders were saved; their features may differ")


class _Bounded(TorchFunctionMode):
    """No more than so many numbers in new tensors: a header of some bytes could name a network of gibibytes."""

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function in (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn):
            self.left -= made.numel()
            if self.left < 0:
                raise MemoryError("a network far larger than its weights")
        return made


def planned(folder: Path, record: dict[str, Any], log: list[dict]) -> dict[int, Path]:
    """Epoch -> file of every encoder that a run has saved by its log, or has: one may have gone since."""
    if record.get(EXPORTED):
        return saved_encoders(folder)
    last = log[-1]["epoch"] if log else 0
    over = log and (last == record["recipe_settings"]["epochs"] or "stopped" in log[-1])
    epochs = [*range(0, last + 1, max(1, record["every"])), *([last] if over else [])]
    return dict(sorted({**{epoch: encoder_path(folder, epoch) for epoch in epochs}, **saved_encoders(folder)}.items()))
