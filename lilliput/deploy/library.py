"""Weights for timm's or torchvision's own network, and the few lines that load them: these are what is checked."""

import runpy
from pathlib import Path
from typing import Any

import timm
from torch import nn

from lilliput.backbones import stock_name
from lilliput.deploy.network import Deployed
from lilliput.errors import BadSetting
from lilliput.system.files import write_whole
from lilliput.system.tensors import write_tensors
from lilliput.training.encoders import library_name

WEIGHTS, LOADER = "model.safetensors", "load.py"
LINES = '''"""{title}"""

from pathlib import Path

import torch
{imports}
from safetensors.torch import load_file
{nn}
MEAN, STD = {mean}, {std}  # of red, green and blue

network = {network}
{head}network.load_state_dict(load_file(Path(__file__).with_name("{weights}")))
network.eval()


@torch.inference_mode()
def run(images):
    """Images [B, 3, H, W] in 0..1 -> {gives}."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return network((images - mean) / std)
'''


def network_in(library: str, backbone: str) -> str:
    """The name in timm or torchvision of a backbone of ours; BadSetting, naming the way out, where there is none."""
    own = stock_name(backbone)
    home, _, name = (own or "").partition("/")
    if home == library or (library == "timm" and own and timm.is_model(name)):  # some networks are alike in both
        return name
    there = f"it is {home}'s: --to {home}" if own else "no library has it"
    raise BadSetting(f"{library} has no network for {backbone} ({there}, or --to onnx)")


def changes(record: dict[str, Any]) -> dict[str, Any]:
    """The options by which the network that a run's run.json names is another than its library's."""
    return {name: value for name, value in record["backbone_options"].items() if (name, value) != ("stem", "stock")}


def write(network: Deployed, folder: Path, *, library: str, record: dict[str, Any], title: str) -> None:
    """The weights and their loader, for `opened` to try; BadSetting where that library has no such network."""
    name = network_in(library, record["backbone"])
    encoder: Any = network.encoder
    weights = {library_name(key): value for key, value in encoder.state_dict().items()}
    if not hasattr(encoder, "net"):
        raise BadSetting(
            f"{record['technique']}'s encoder is more than one {name}: {library} cannot hold it; take --to onnx"
        )
    if changed := changes(record):
        option, value = next(iter(changed.items()))
        raise BadSetting(f"{library}'s {name} has no {option} {value!r}: take --to onnx")
    classes = None if network.head is None else network.head.out_features
    lines: dict[str, Any] = {
        "title": title,
        "weights": WEIGHTS,
        "mean": _tuple(encoder.mean),
        "std": _tuple(encoder.std),
    }
    lines["gives"] = f"features [B, {encoder.dim}]" if classes is None else f"scores [B, {classes}]"
    own = _of_timm(name, classes) if library == "timm" else _of_torchvision(name, encoder.dim, classes)
    if network.head is not None:
        weights |= {f"{own['layer']}.weight": network.head.weight, f"{own['layer']}.bias": network.head.bias}
    write_tensors(folder / WEIGHTS, weights, {})
    write_whole(folder / LOADER, LINES.format(**lines, **own).encode())


def opened(folder: Path):
    """What the loader in the folder gives, a function of images; BadSetting where the weights do not fit."""
    try:
        return runpy.run_path(str(folder / LOADER))["run"]
    except RuntimeError as error:  # of load_state_dict
        reason = " ".join(str(error).split())[:300]
        raise BadSetting(f"the library's network does not take these weights ({reason}); take --to onnx") from None


def _of_timm(name: str, classes: int | None) -> dict[str, str]:
    layer = timm.get_pretrained_cfg(name).classifier  # type: ignore[union-attr]
    network = f'timm.create_model("{name}", num_classes={classes or 0})'
    return {"imports": "import timm", "network": network, "head": "", "nn": "", "layer": str(layer)}


def _of_torchvision(name: str, dim: int, classes: int | None) -> dict[str, str]:
    """The network's last part gives way; where its pooling is in that part (SqueezeNet), to a pooling."""
    import torchvision

    part, last = list(torchvision.models.get_model(name, weights=None).named_children())[-1]
    pools = any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in last.modules())
    layers = ["nn.AdaptiveAvgPool2d(1)", "nn.Flatten()"] if pools else []
    layers += [f"nn.Linear({dim}, {classes})"] if classes else []
    head = f"nn.Sequential({', '.join(layers)})" if len(layers) != 1 else layers[0]
    return {
        "imports": "import torchvision",
        "nn": "from torch import nn\n",
        "network": f"torchvision.models.{name}(weights=None)",
        "head": f"network.{part} = {head if layers else 'nn.Identity()'}\n",
        "layer": f"{part}.{len(layers) - 1}" if len(layers) > 1 else part,
    }


def _tuple(values) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in values.flatten().tolist())
