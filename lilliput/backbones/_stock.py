"""Weights that torchvision and timm publish for a network, learned with ImageNet's labels: where they lie, and reading.

A file of a folder that the user names, else of the library's own cache, else, where that is asked for, fetched as the
library does. A checksum in a file's name, as both libraries have it, is checked.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torchvision
from torch import Tensor

from lilliput.backbones._backbone import Backbone
from lilliput.errors import BadData
from lilliput.system.files import read_whole
from lilliput.system.tensors import read_tensors

STOCK = {  # of our own backbones, but the plain ones: nobody publishes weights for these
    "alexnet": "torchvision/alexnet",
    "densenet121": "timm/densenet121",  # torchvision's file has other names than its network
    "efficientnet_lite0": "timm/efficientnet_lite0",
    "efficientvit_m0": "timm/efficientvit_m0",
    "fastvit_t8": "timm/fastvit_t8",
    "ghostnet_100": "timm/ghostnet_100",
    "mobilenet_v2": "torchvision/mobilenet_v2",
    "mobilenetv3_large_100": "timm/mobilenetv3_large_100",
    "mobilenetv3_small_100": "timm/mobilenetv3_small_100",
    "mobilenetv4_conv_small": "timm/mobilenetv4_conv_small",
    "mobileone_s0": "timm/mobileone_s0",
    "repvgg_a0": "timm/repvgg_a0",
    "resnet101": "torchvision/resnet101",
    "resnet18": "torchvision/resnet18",
    "resnet50": "torchvision/resnet50",
    "shufflenet_v2": "torchvision/shufflenet_v2_x0_5",
    "squeezenet": "torchvision/squeezenet1_1",
    "vgg11_bn": "torchvision/vgg11_bn",
}
CHECKSUM = re.compile(r"-([0-9a-f]{8,})\.\w+$")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
FAMILIAR = ("model.safetensors", "pytorch_model.bin")  # of the hub that timm fetches from


class Published(NamedTuple):
    """Where a library publishes a network's weights."""

    network: str
    url: str | None
    hub: str | None  # a repository of huggingface.co


def published(backbone: str) -> Published:
    """Of a backbone of ours or a library's; BadData where nobody publishes weights for it."""
    library, _, network = STOCK.get(backbone, backbone).partition("/")
    if library == "torchvision":
        with suppress(ValueError, KeyError, AttributeError):
            return Published(network, torchvision.models.get_model_weights(network).DEFAULT.url, None)
    if library == "timm" and (known := timm.get_pretrained_cfg(network)) and (known.url or known.hf_hub_id):
        return Published(network, str(known.url) if known.url else None, known.hf_hub_id)
    raise BadData(f"{backbone} has no weights of ImageNet in torchvision or timm")


def stock_name(backbone: str) -> str | None:
    """The network's name in its library, "torchvision/resnet18" or "timm/..."; None of one that no library has."""
    name = STOCK.get(backbone, backbone)
    return name if "/" in name else None


def stock_file(backbone: str, folder: str | os.PathLike | None = None, *, fetch: bool = False) -> Path:
    """The file of the weights; BadData with the way to it where there is none."""
    known = published(backbone)
    places = [*(_named(known, Path(folder)) if folder else ()), *_cached(known)]
    found = next((path for path in places if path.is_file()), None)
    if found:
        return found
    if not fetch:
        wanted = next(_named(known, Path()))
        raise BadData(f"the weights of ImageNet for {backbone} are not here: give --imagenet-weights DIR with {wanted}")
    try:
        return _fetched(known)
    except Exception as error:  # whatever a library's download raises
        reason = " ".join(str(error).split())[:200]
        raise BadData(
            f"the weights of ImageNet for {backbone} could not be fetched ({reason}): "
            f"give --imagenet-weights DIR with {next(_named(known, Path()))}"
        ) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name, with no code run; BadData where it is none, or not what its name's checksum says."""
    content = read_whole(path)
    if (told := CHECKSUM.search(path.name)) and not hashlib.sha256(content).hexdigest().startswith(told[1]):
        raise BadData(f"{path} is damaged: its checksum is not the {told[1]} of its name")
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything
        raise BadData(f"{path} holds no weights that can be read without running its code ({error})") from None
    for name in ("state_dict", "model"):
        weights = weights.get(name, weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BadData(f"{path} holds no weights by name")
    return weights


def take_weights(backbone: Backbone, weights: dict[str, Tensor], whence: str) -> None:
    """Put a library's weights, the classifier's left out, into the backbone; BadData names the first that does not fit.

    `whence` they come is for that message.
    """
    own = backbone.net.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # that older files lack
    if missing := [name for name in own if name not in weights and name not in counters]:
        raise BadData(f"{whence} has no weight {missing[0]!r} of {backbone.name}")
    for name in own:
        if name in weights and weights[name].shape != own[name].shape:
            shapes = f"{list(weights[name].shape)}, and {backbone.name} as it is here takes {list(own[name].shape)}"
            raise BadData(f"{whence} has a {name!r} of {shapes}")
    backbone.net.load_state_dict({name: weights.get(name, value) for name, value in own.items()})


def _named(known: Published, folder: Path) -> Iterator[Path]:
    """What the file may be called in a folder of weights."""
    if known.url:
        yield folder / Path(known.url).name
    for suffix in SUFFIXES:
        yield folder / f"{known.network}{suffix}"
    if known.hub:
        for suffix in SUFFIXES:
            yield folder / f"{Path(known.hub).name}{suffix}"


def _cached(known: Published) -> Iterator[Path]:
    """Where torch's hub and the one of timm keep what was fetched earlier."""
    if known.url:
        yield Path(torch.hub.get_dir()) / "checkpoints" / Path(known.url).name
    if known.hub:
        from huggingface_hub import try_to_load_from_cache

        for name in FAMILIAR:
            found = try_to_load_from_cache(known.hub, name)
            if isinstance(found, str):
                yield Path(found)


def _fetched(known: Published) -> Path:
    """Into the library's cache: by the address whose checksum is known, where there is one."""
    if not known.url:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(str(known.hub), FAMILIAR[0]))
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(known.url).name
    place.parent.mkdir(parents=True, exist_ok=True)
    told = CHECKSUM.search(place.name)
    torch.hub.download_url_to_file(known.url, str(place), hash_prefix=told[1] if told else None, progress=False)
    return place
