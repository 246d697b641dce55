"""ExecuTorch: a program for telephones and boards, its products by XNNPACK. https://docs.pytorch.org/executorch

One image at a time: its memory is planned when it is written.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lilliput.deploy.network import Deployed
from lilliput.errors import BadSetting, wanted
from lilliput.system.files import write_whole

SUFFIX = ".pte"


def write(network: Deployed, path: Path, *, size: int, dynamic: bool, metadata: dict[str, str]) -> None:
    """BadSetting for `dynamic`. The file has no place for `metadata`: it stands in export.json beside it."""
    if dynamic:
        raise BadSetting("executorch plans its memory for one size of images: leave --dynamic out")
    exir = wanted("executorch.exir", extra="executorch")
    xnnpack = wanted("executorch.backends.xnnpack.partition.xnnpack_partitioner", extra="executorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (network.example(size, size)[:1],))
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
        write_whole(path, lowered.to_executorch().buffer)


def opened(path: Path) -> Callable[[Tensor], Tensor]:
    """The file as a function of images, one after another; the threads are those of its library."""
    runtime = wanted("executorch.runtime", extra="executorch")
    program = runtime.Runtime.get().load_program(path)
    method = program.load_method("forward")
    return lambda images: torch.cat([method.execute([image[None].contiguous()])[0].clone() for image in images])
