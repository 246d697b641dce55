"""A run's folder: run.json, log.jsonl, encoder_000.safetensors ..., and state.safetensors, from which it goes on.

Every file is written whole or not at all; nothing in it is code (JSON and safetensors only).
"""

import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from lilliput import catalog
from lilliput.errors import BadData, BadSetting
from lilliput.files import write_whole

FORMAT = 1
STATE = "state.safetensors"


# -- encoders ---------------------------------------------------------------------------------------------------------


def library_name(key: str) -> str:
    """A weight's name in its own library: ours without the wrapper ("net.conv1.weight" -> "conv1.weight")."""
    return re.sub(r"^(\w+\.)?net\.", r"\1", key)


def encoder_path(folder: Path, epoch: int) -> Path:
    return folder / f"encoder_{epoch:03d}.safetensors"


def encoders(folder: Path) -> dict[int, Path]:
    """Epoch -> file of every saved encoder of a run, in order."""
    found = {int(path.stem.split("_")[1]): path for path in folder.glob("encoder_*.safetensors")}
    return dict(sorted(found.items()))


def save_encoder(path: Path, encoder: nn.Module, about: dict) -> None:
    """Weights under their library's names; `about` (technique, backbone, width, ...) is kept in the file's header."""
    weights = {library_name(key): value.contiguous().cpu() for key, value in encoder.state_dict().items()}
    write_whole(path, save(weights, {"lilliput": json.dumps({"format": FORMAT, **about})}))


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
    if about.get("format", 0) > FORMAT:
        raise BadData(f"{path} has format {about['format']}, this Lilliput reads up to {FORMAT}; install a newer one")
    build = catalog.backbone_builder(about["backbone"], **about["backbone_options"])
    encoder = catalog.technique(about["technique"]).build_encoder(build)
    ours = {library_name(key): key for key in encoder.state_dict()}
    if set(ours) != set(weights):
        odd = sorted(set(ours) ^ set(weights))[0]
        raise BadData(f"{path} does not fit {about['technique']} on {about['backbone']}: weight {odd!r}")
    encoder.load_state_dict({ours[key]: value for key, value in weights.items()})
    return encoder.eval()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and header of a safetensors file; BadData naming the file if it is damaged or missing."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("lilliput", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise BadData(f"{path} does not exist") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise BadData(f"{path} is damaged or not a safetensors file ({error})") from None


# -- what resuming needs ----------------------------------------------------------------------------------------------


def save_state(folder: Path, epoch: int, technique: nn.Module, optimiser: Optimizer, scaler: dict, about: dict) -> None:
    """All that epoch + 1 depends on."""
    tensors = {f"technique/{key}": value for key, value in technique.state_dict().items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{name}": value for name, value in slots.items()}
    for index, group in enumerate(optimiser.param_groups):  # LAMB counts its steps by group
        if "step" in group:
            tensors[f"group/{index}/step"] = torch.as_tensor(group["step"])
    header = {"format": FORMAT, "epoch": epoch, "scaler": scaler, **about}
    content = save({key: value.contiguous().cpu() for key, value in tensors.items()}, {"lilliput": json.dumps(header)})
    write_whole(folder / STATE, content)


def load_state(folder: Path, technique: nn.Module, optimiser: Optimizer) -> dict:
    """Put a saved state back, in place; returns its header (epoch, scaler, ...)."""
    tensors, header = read_tensors(folder / STATE)
    part = {key.removeprefix("technique/"): value for key, value in tensors.items() if key.startswith("technique/")}
    technique.load_state_dict(part)
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
    return header


# -- log --------------------------------------------------------------------------------------------------------------


def read_log(folder: Path, upto: int | None = None) -> list[dict]:
    """Rows of log.jsonl up to an epoch; a last line that was cut off is left out."""
    path = folder / "log.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return [row for row in rows if upto is None or row["epoch"] <= upto]


def write_log(folder: Path, rows: list[dict]) -> None:
    write_whole(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def same_settings(theirs: dict, ours: dict, folder: Path) -> None:
    """BadSetting naming the first setting in which a folder's run differs from the one asked for."""
    for name in sorted(set(theirs) | set(ours)):
        if theirs.get(name) != ours.get(name):
            raise BadSetting(
                f"{folder} holds another run: {name} is {theirs.get(name)!r} there and {ours.get(name)!r} here; "
                f"choose another --out, or give the settings of that run to go on with it"
            )
