"""Which encoders a detector is built on: saved ones, and the same networks untrained or with ImageNet's weights."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lilliput import catalog
from lilliput.backbones import stock_file
from lilliput.errors import BadData, BadSetting, UnknownName
from lilliput.system.files import read_whole
from lilliput.system.progress import say
from lilliput.system.records import json_digest
from lilliput.system.seeds import seeded
from lilliput.system.tensors import read_tensors
from lilliput.training.encoders import encoder_at, load_encoder, saved_encoders
from lilliput.training.initial import IMAGENET, init_from, started_from


class Candidate(NamedTuple):
    """An encoder that can be built, named as in rows."""

    technique: str  # or baseline
    backbone: str
    seed: int  # of its pretraining; the detector's own too
    epoch: int
    digest: str  # of what determines its weights
    build: Callable[[], Any]

    @property
    def name(self) -> str:
        return f"{self.technique}-{self.backbone.replace('/', '_')}-{self.seed}-{self.epoch:03d}"


def candidates(
    saved: Sequence[str | Path], baselines: Sequence[str], weights: str | os.PathLike | None = None
) -> list[Candidate]:
    """The encoders in these places, each one by `encoder_at`, or a study's folder (the last of each cell); then the
    baselines of their backbones. What has no weights of ImageNet here is said and left out."""
    files = [file for place in saved for file in _files(place)]
    headers = {file: _header(file) for file in files}
    found = [_of_file(file, header) for file, header in headers.items()]
    networks = {(h["backbone"], json_digest(h["backbone_options"]), h["seed"]): h for h in headers.values()}
    for kind in baselines:
        if kind not in catalog.DETECTION_BASELINES:
            raise UnknownName(f"baseline {kind!r} is none of {', '.join(catalog.DETECTION_BASELINES)}")
        for header in networks.values():
            found += _random(header) if kind == "random_init" else _imagenet(header, weights)
    found = list(dict.fromkeys(found))
    for number, one in enumerate(found):
        if others := [other for other in found[:number] if other.name == one.name and other.digest != one.digest]:
            raise BadSetting(
                f"two different encoders are called {others[0].name}; give them one at a time, each its --out"
            )
    return list({one.name: one for one in found}.values())


def _files(place: str | Path) -> list[Path]:
    """The last encoders of a study's cells, or the one that `encoder_at` finds."""
    cells = [encoder_at(cell) for cell in sorted(Path(place).glob("cells/*")) if saved_encoders(cell)]
    found = cells or [encoder_at(place)]
    if not found[0].is_file():
        raise BadData(f"{place} is no file of an encoder, nor the folder of a run or a study, nor zoo/NAME")
    return found


def _header(file: Path) -> dict[str, Any]:
    header = read_tensors(file)[1]
    kinds = {"technique": str, "backbone": str, "backbone_options": dict, "seed": int, "epoch": int}
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind):
            raise BadData(f"{file} was not written by Lilliput: its header has no {name}")
    return header


def _of_file(file: Path, header: dict[str, Any]) -> Candidate:
    identity = (header["technique"], header["backbone"], header["seed"], header["epoch"])
    return Candidate(*identity, hashlib.sha256(read_whole(file)).hexdigest(), partial(load_encoder, file))


def _random(header: dict[str, Any]) -> Iterator[Candidate]:
    network = (header["backbone"], header["backbone_options"])
    digest = json_digest([*network, header["seed"]])
    yield Candidate("random_init", header["backbone"], header["seed"], 0, digest, partial(_drawn, header))


def _imagenet(header: dict[str, Any], weights: str | os.PathLike | None) -> Iterator[Candidate]:
    try:
        init = init_from(stock_file(header["backbone"], weights, fetch=True), IMAGENET)
    except BadData as error:
        say(f"{IMAGENET} {header['backbone']} is left out: {error}")
        return
    build = started_from(_builder(header), init)
    yield Candidate(IMAGENET, header["backbone"], header["seed"], 0, init.sha256, build)


def _drawn(header: dict[str, Any]) -> Any:
    with seeded(header["seed"]):
        return _builder(header)()


def _builder(header: dict[str, Any]) -> Callable[..., Any]:
    backbone, options = header["backbone"], header["backbone_options"]
    return catalog.backbone_builder(backbone, **catalog.typed_options("backbones", backbone, options))
