"""A teacher: found by what a user calls it, and what its own training took."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch import nn

from lilliput import catalog
from lilliput.backbones import stock_file
from lilliput.errors import BadData, LilliputError
from lilliput.training.encoders import encoder_at, load_encoder, saved_encoders
from lilliput.training.initial import Init, Teacher, init_from, started_from
from lilliput.training.record import read_run
from lilliput.training.spending import SPENT, whole_seconds
from lilliput.training.state import trusted_log


def teacher_of(wanted: str | os.PathLike, weights: str | os.PathLike | None = None) -> Teacher:
    """From an encoder by `encoder_at`, or the name of a backbone with its ImageNet
    weights (a file of the folder `weights`, the library's cache, or fetched). BadData where there is none."""
    path = encoder_at(wanted)
    if not path.exists():
        return Teacher(*_published(str(wanted), weights))
    load_encoder(path)  # what it lacks is said before any work
    file = init_from(path, str(wanted))
    return Teacher(file, partial(_saved, file), _spent(path))


def _published(name: str, weights: str | os.PathLike | None) -> tuple[Init, Callable[[], nn.Module]]:
    try:
        backbone = catalog.take("backbones", name)
        file = init_from(stock_file(backbone, weights, fetch=True), name)
    except LilliputError as error:
        raise BadData(f"--teacher {name} is no file or run's folder, and as a network: {error}") from None
    return file, started_from(catalog.backbone_builder(backbone), file)


def _saved(file: Init) -> nn.Module:
    if init_from(file.file, file.name) != file:
        raise BadData(f"{file.file} has changed since the work began")
    return load_encoder(file.file)


def _spent(encoder: Path) -> dict[str, float]:
    """What the run took up to this encoder, and its own teacher before; nothing where no run lies around the file."""
    with suppress(LilliputError, OSError, KeyError, StopIteration):
        epoch = next(number for number, path in saved_encoders(encoder.parent).items() if path.name == encoder.name)
        row = next(row for row in trusted_log(encoder.parent) if row["epoch"] == epoch)
        before = read_run(encoder.parent).get("teacher_spent", {})
        return {name: whole_seconds(row)[name] + before.get(name, 0.0) for name in SPENT}
    return {}
