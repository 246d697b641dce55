"""A saved encoder ready to look at images: its network, the size that it was trained at, and a plan."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lilliput.data.store import LARGEST_SIZE, SMALLEST_SIZE
from lilliput.errors import BadData
from lilliput.system.files import read_whole
from lilliput.system.plan import Plan, choose, like
from lilliput.system.records import json_digest
from lilliput.system.tensors import read_tensors
from lilliput.training.encoders import encoder_at, load_encoder
from lilliput.training.record import read_run

BATCH, BATCH_BYTES = 256, 1 << 25  # images at a time, and of pixels


@dataclass(frozen=True, eq=False)
class Lens:
    """An encoder, and how it is given images."""

    encoder: Any
    image_size: int
    plan: Plan
    digest: str  # of what determines its features

    @property
    def dim(self) -> int:
        return self.encoder.dim

    @property
    def batch(self) -> int:
        """How many images it is given at once: settled by their size, so that the same images meet in it again."""
        return max(1, min(BATCH, BATCH_BYTES // (3 * self.image_size**2)))

    @torch.inference_mode()
    def features(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [B, 3, H, H] of the lens's size -> float32 [B, dim]."""
        images = torch.from_numpy(pixels).to(self.plan.device).float().div_(255)
        with self.plan.autocast():
            return self.encoder(images).float().cpu().numpy()


def open_lens(run: str | os.PathLike, device: str | None = None, plan: Mapping[str, Any] | None = None) -> Lens:
    """Of an encoder by `encoder_at`, by the plan of its run; BadData where there is none.

    `device` and `plan` as everywhere: what is given of them is kept.
    """
    path = encoder_at(run)
    encoder, header = load_encoder(path), read_tensors(path)[1]
    size = header.get("image_size")
    if type(size) is not int or not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise BadData(f"{path} has image size {size!r} in its header, not {SMALLEST_SIZE} to {LARGEST_SIZE}")
    chosen = _plan_of(path.parent, device, plan)
    chosen.take_effect()
    numbers = [torch.device(chosen.device).type, chosen.precision, chosen.channels_last]
    digest = json_digest([hashlib.sha256(read_whole(path)).hexdigest(), *numbers])
    return Lens(chosen.place(encoder), size, chosen, digest)


def _plan_of(folder: Path, device: str | None, plan: Mapping[str, Any] | None) -> Plan:
    begun = read_run(folder)["plan"] if (folder / "run.json").exists() else None
    return like(begun, device, plan) if begun else choose(device, plan)
