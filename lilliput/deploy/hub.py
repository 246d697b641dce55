"""A folder as Hugging Face's hub keeps models: README.md, config.json, model.safetensors.

Of a network of timm's, `timm.create_model("local-dir:FOLDER", pretrained=True)` takes it, and `hf-hub:NAME` once it is
there. Of others config.json names what Lilliput built it by. `lilliput.load_encoder` reads the weights of both.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from lilliput.backbones import stock_name
from lilliput.deploy.library import WEIGHTS, changes, network_in
from lilliput.deploy.network import Deployed
from lilliput.errors import BadSetting
from lilliput.system.files import read_whole, write_whole
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.encoders import load_encoder

CONFIG = "config.json"
SENT = [CONFIG, WEIGHTS, "README.md", "figure.png"]  # and nothing else that lies there: export.json names folders here


def in_timm(record: dict[str, Any]) -> bool:
    """Whether timm has the very network that a run's run.json names: with its own stem, width and the like."""
    if changes(record):
        return False
    try:
        return bool(network_in("timm", record["backbone"]))
    except BadSetting:
        return False


def write(network: Deployed, folder: Path, *, record: dict[str, Any], file: Path, classes: list[str]) -> None:
    """Weights and config.json; `file` is the encoder's. BadSetting where timm's network does not take the weights."""
    weights, header = read_tensors(file)
    if in_timm(record) and hasattr(network.encoder, "net"):
        config = _config(network, record, classes, weights)
        header = header if network.head is None else {}  # with it, the file is an encoder of ours too
    elif network.head is not None:
        raise BadSetting(f"{record['backbone']} is not timm's, whose form has classes: leave --classifier out")
    else:
        named = {name: record[name] for name in ("technique", "backbone", "backbone_options", "image_size", "dim")}
        config = {"library_name": "lilliput", "stock": stock_name(record["backbone"]), **named}
    write_whole(folder / CONFIG, json.dumps(config, indent=2).encode())
    write_tensors(folder / WEIGHTS, weights, header)


def _config(
    network: Deployed, record: dict[str, Any], classes: list[str], weights: dict[str, Tensor]
) -> dict[str, Any]:
    """What timm reads; the classifier joins the `weights`, by the name that timm's network has for it."""
    name = network_in("timm", record["backbone"])
    model: Any = timm.create_model(name, num_classes=len(classes))
    encoder: Any = network.encoder
    stock = model.pretrained_cfg
    if network.head is not None:
        weights |= {f"{stock['classifier']}.{part}": value for part, value in network.head.state_dict().items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise BadSetting(f"timm's network does not take these weights ({reason}); take --to onnx") from None
    size = [3, record["image_size"], record["image_size"]]
    own = {"input_size": size, "mean": _list(encoder.mean), "std": _list(encoder.std), "num_classes": len(classes)}
    plain = {"custom_load": False, "fixed_input_size": False, "interpolation": "bilinear", "crop_pct": 1.0}
    named = {part: stock[part] for part in ("first_conv", "classifier")}
    return {
        "architecture": name,
        "num_classes": len(classes),
        "num_features": encoder.dim,
        "global_pool": "avg",
        **({"label_names": classes} if classes else {}),
        "pretrained_cfg": {**plain, **own, **named},
    }


def opened(folder: Path) -> Callable[[Tensor], Tensor]:
    """What others load from the folder, a function of images in 0..1."""
    if "architecture" not in json.loads(read_whole(folder / CONFIG)):
        return load_encoder(folder / WEIGHTS)
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    return lambda images: model((images - mean) / std)


def push(folder: Path, name: str) -> str:
    """The folder to the hub, under that name (USER/MODEL), as the user who has logged in; its address."""
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=str(folder), allow_patterns=SENT, commit_message="Exported by Lilliput"
        )
    except Exception as error:  # whatever the hub's library raises: no token, no network, a name that is taken
        reason = " ".join(str(error).split())[:300]
        raise BadSetting(f"{name} was not pushed ({reason}); {folder} is whole: log in by `hf auth login`") from None
    return str(address)


def _list(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.flatten().tolist()]
