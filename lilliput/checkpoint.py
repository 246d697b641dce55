"""A run's folder: run.json, log.jsonl, encoder_000.safetensors ..., and the last two states, from which it goes on.

Every file is written whole or not at all and holds its own digest, or is held by the states as well (run.json,
log.jsonl); nothing in it is code (JSON and safetensors only).
"""

import hashlib
import json
import os
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from lilliput import catalog, records
from lilliput.errors import BadData, BadSetting, LilliputError
from lilliput.files import SEAL, read_whole, set_aside, write_whole

FORMAT = 2  # of runs and studies
KEPT = 2  # states
SPARE = 2 * 10**8  # weights that building an encoder may take beyond those of its file: a narrow one begins wide


# -- encoders ---------------------------------------------------------------------------------------------------------


def library_name(key: str) -> str:
    """A weight's name in its own library: ours without the wrapper ("net.conv1.weight" -> "conv1.weight")."""
    return re.sub(r"^(\w+\.)?net\.", r"\1", key)


def cell_name(technique: str, backbone: str, seed: int) -> str:
    """Of a run in a study's folder."""
    return f"{technique}-{backbone.replace('/', '_')}-{seed}"


def encoder_path(folder: Path, epoch: int) -> Path:
    return folder / f"encoder_{epoch:03d}.safetensors"


def encoders(folder: Path) -> dict[int, Path]:
    """Epoch -> file of every saved encoder of a run, in order."""
    files = {path.stem.removeprefix("encoder_"): path for path in folder.glob("encoder_*.safetensors")}
    return dict(sorted((int(epoch), path) for epoch, path in files.items() if epoch.isdecimal()))


def save_encoder(path: Path, encoder: nn.Module, about: dict) -> None:
    """Weights under their library's names; `about` (technique, backbone, width, ...) is kept in the file's header."""
    weights = {library_name(key): value for key, value in encoder.state_dict().items()}
    _write_tensors(path, weights, {"format": FORMAT, **about})


def load_encoder(path: str | os.PathLike) -> nn.Module:
    """The encoder saved in a file, or the last one of a run's folder: images [B, 3, H, W] in 0..1 -> [B, dim].

    In eval mode, on the CPU. Raises BadData if there is none or the file is damaged.
    """
    path = Path(path)
    if path.is_dir():
        saved = encoders(path)
        if not saved:
            raise BadData(f"no encoder_*.safetensors in {path}; is it the folder of a run?")
        path = list(saved.values())[-1]
    weights, about = read_tensors(path)
    if "technique" not in about:
        raise BadData(f"{path} was not written by Lilliput: its header names no technique")
    try:
        with _Bounded(SPARE + 4 * sum(value.numel() for value in weights.values())):
            encoder = _described(path, about)
    except LilliputError:
        raise
    except Exception as error:  # whatever a header of other kinds than ours leads to
        raise BadData(f"{path} has a header that describes no encoder ({error})") from None
    ours = {library_name(key): key for key in encoder.state_dict()}
    if set(ours) != set(weights):
        odd = sorted(set(ours) ^ set(weights))[0]
        raise BadData(f"{path} does not fit {about['technique']} on {about['backbone']}: weight {odd!r}")
    try:
        encoder.load_state_dict({ours[key]: value for key, value in weights.items()})
    except RuntimeError as error:
        raise BadData(f"{path} does not fit {about['technique']} on {about['backbone']}: {error}") from None
    return encoder.eval()


def _described(path: Path, about: dict) -> nn.Module:
    check_format(about.get("format", 0), path)
    technique, backbone, options = about["technique"], about["backbone"], about["backbone_options"]
    catalog.sort_options(options, techniques=[technique], backbones=[backbone])  # refuses values of other types
    build = catalog.backbone_builder(backbone, **options)
    return catalog.technique(technique).build_encoder(build)


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


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a safetensors file; BadData naming it if it is missing, or not what was written.

    The header is empty where others wrote the file.
    """
    content = read_whole(path)
    try:
        head, data = _parted(content)
        about = head.get("__metadata__", {})
        header = json.loads(about.get("lilliput", "{}"))
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        found, whole, tensors = about.get(SEAL), _digest(head, data), load(content)
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        if content[:4] == b"PK\x03\x04" or content[:1] == b"\x80":
            raise BadData(
                f"{path} is a pickle, which can run any code when it is loaded, so Lilliput reads none; if you trust "
                f"it, convert it: torch.load(..., weights_only=True), then safetensors.torch.save_file"
            ) from None
        raise BadData(f"{path} is damaged or not a safetensors file ({error})") from None
    if header and found != whole and (found is not None or header.get("format") != 1):  # format 1 had no digest
        raise BadData(f"{path} is damaged: its digest is not that of its content")
    return tensors, header


def _write_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """A safetensors file that holds the digest of the rest of itself."""
    content = save({key: value.contiguous().cpu() for key, value in tensors.items()}, {"lilliput": json.dumps(header)})
    head, data = _parted(content)
    head["__metadata__"][SEAL] = _digest(head, data)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    write_whole(path, struct.pack("<Q", len(text)) + text + data)


def _parted(content: bytes) -> tuple[dict, bytes]:
    """A safetensors file's header and data."""
    (length,) = struct.unpack("<Q", content[:8]) if len(content) >= 8 else (0,)
    head = json.loads(content[8 : 8 + length])
    if not isinstance(head, dict):
        raise ValueError("its header is no object")
    return head, content[8 + length :]


def _digest(head: dict, data: bytes) -> str:
    about = {key: value for key, value in head.get("__metadata__", {}).items() if key != SEAL}
    digest = hashlib.sha256(json.dumps({**head, "__metadata__": about}, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()


# -- what resuming needs ----------------------------------------------------------------------------------------------


class State(NamedTuple):
    """A saved state: so many whole epochs, so many steps of the next, and all that comes after depends on."""

    epoch: int
    step: int
    tensors: dict[str, Tensor]  # technique/..., optimiser/..., group/..., midway/...; none when training is over
    run: dict[str, Any]  # run.json
    log: list[dict]  # log.jsonl
    scaler: dict[str, Any]


def states(folder: Path) -> list[Path]:
    """A run's saved states, the newest last."""
    return sorted(folder.glob("state*.safetensors"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)])


def save_state(folder: Path, state: State) -> None:
    """Beside the state before it, which is there in case that this one is damaged; the older ones go."""
    header = {"format": FORMAT, **{key: value for key, value in state._asdict().items() if key != "tensors"}}
    name = f"state_{state.epoch:03d}" + (f"_{state.step:06d}" if state.step else "")
    _write_tensors(folder / f"{name}.safetensors", state.tensors, header)
    clear_states(folder)


def clear_states(folder: Path) -> None:
    """Keep the last two; a process that was killed may have left more."""
    for old in states(folder)[:-KEPT]:
        old.unlink()


def newest_state(folder: Path) -> State | None:
    """The newest state that is whole; those that are damaged are set aside. BadData if a newer Lilliput wrote it."""
    for path in reversed(states(folder)):
        try:
            tensors, header = read_tensors(path)
        except BadData as error:
            set_aside(path, error)
            continue
        check_format(header.get("format", 0), path)
        if header["format"] == 1:  # its log and its settings stood in files of their own alone
            record = records.read_run(folder)
            return State(header["epoch"], 0, tensors, record, read_log(folder, header["epoch"]), header["scaler"])
        return State(tensors=tensors, **{key: header[key] for key in State._fields if key != "tensors"})
    return None


def tensors_of(technique: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    """Of a technique and its optimiser, all that the next step depends on."""
    tensors = {f"technique/{key}": value for key, value in technique.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in slots.items()}
    for index, group in enumerate(optimiser.param_groups):  # LAMB counts its steps by group
        if "step" in group:
            tensors[f"group/{index}/step"] = torch.as_tensor(group["step"])
    return tensors


def part(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """Those whose names start so, without it."""
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def put_back(tensors: dict[str, Tensor], technique: nn.Module, optimiser: Optimizer) -> None:
    """The reverse of `tensors_of`, in place."""
    technique.load_state_dict(part(tensors, "technique/"))
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for key, value in tensors.items():
        if key.startswith("group/"):
            step = value if value.is_floating_point() else value.item()  # older timm counts in whole numbers
            optimiser.param_groups[int(key.split("/")[1])]["step"] = step
        if key.startswith("optimiser/"):
            _, index, name = key.split("/")
            parameter = parameters[int(index)]
            # in the parameter's own memory layout: fused kernels walk both as one
            slot = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            if value.shape == parameter.shape:
                optimiser.state[parameter][name] = slot.copy_(value).detach().requires_grad_(False)
            else:
                fused = optimiser.param_groups[0].get("fused")
                optimiser.state[parameter][name] = value.to(parameter.device) if fused else value


# -- log --------------------------------------------------------------------------------------------------------------


def read_log(folder: Path, upto: int | None = None) -> list[dict]:
    """Rows of log.jsonl up to an epoch; a last line that was cut off is left out."""
    path = folder / "log.jsonl"
    rows = []
    for line in read_whole(path).splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    if odd := [row for row in rows if not isinstance(row, dict) or not isinstance(row.get("epoch"), int)]:
        raise BadData(f"{path} is damaged: a row of it is {odd[0]!r:.80}")
    return [row for row in rows if upto is None or row["epoch"] <= upto]


def trusted_log(folder: Path) -> list[dict]:
    """The log, by the newest state that is whole, which holds it under a digest; later rows as log.jsonl has them.

    Raises BadData where log.jsonl says otherwise.
    """
    held: list[dict] = []
    for path in reversed(states(folder)):
        with suppress(BadData):
            _, header = read_tensors(path)
            held = header.get("log", [])  # none in the first format
            break
    rows = read_log(folder)
    if rows[: len(held)] != held:
        raise BadData(
            f"{folder / 'log.jsonl'} is damaged: its rows are not those of the saved state; the command that "
            f"pretrained it restores them"
        )
    return rows


def planned(folder: Path, record: dict[str, Any], log: list[dict]) -> dict[int, Path]:
    """Epoch -> file of every encoder that a run has saved by its log, or has: one may have gone since."""
    last = log[-1]["epoch"] if log else 0
    over = log and (last == record["recipe_settings"]["epochs"] or "stopped" in log[-1])
    epochs = [*range(0, last + 1, max(1, record["every"])), *([last] if over else [])]
    return dict(sorted({**{epoch: encoder_path(folder, epoch) for epoch in epochs}, **encoders(folder)}.items()))


def write_log(folder: Path, rows: list[dict]) -> None:
    write_whole(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def check_format(found: Any, where: Path) -> None:
    """BadData if a newer Lilliput wrote it."""
    if not isinstance(found, int) or found > FORMAT:
        raise BadData(f"{where} has format {found!r}, this Lilliput reads up to {FORMAT}; install a newer one")


def same_settings(theirs: dict, ours: dict, folder: Path) -> None:
    """BadSetting naming the first setting in which a folder's run differs from the one asked for."""
    for name in sorted(set(theirs) | set(ours)):
        if theirs.get(name) != ours.get(name):
            raise BadSetting(
                f"{folder} holds another run: {name} is {theirs.get(name)!r} there and {ours.get(name)!r} here; "
                f"choose another --out, or give the settings of that run to go on with it"
            )
