"""ONNX: written by torch's exporter, run by ONNX Runtime on a CPU. https://onnx.ai/onnx"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from lilliput.deploy.network import Deployed
from lilliput.errors import BadSetting, wanted
from lilliput.system.files import write_whole

SUFFIX = ".onnx"
TORCH = "2.9"  # since then its usual exporter; 2.6's fails at batch norm
HEAD = "head."  # before the names of its weights
TRIED = (160, 224)  # height and width by which a graph of any size is found: no map of them has a side of one place


def write(network: Deployed, path: Path, *, size: int, dynamic: bool, metadata: dict[str, str]) -> None:
    """Batches of any size, of squares of `size` pixels, or `dynamic` of any; `metadata` is kept in the file.

    BadSetting where a library is lacking, or torch too old.
    """
    for library in ("onnx", "onnxscript"):
        wanted(library, extra="export")
    if TorchVersion(torch.__version__) < TorchVersion(TORCH):
        raise BadSetting(f"--to onnx needs torch {TORCH} or newer, and this is {torch.__version__}")
    images = network.example(*(TRIED if dynamic else (size, size)))
    free = dict.fromkeys((0, 2, 3) if dynamic else (0,), torch.export.Dim.DYNAMIC)
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        dynamic_shapes={"images": free},
        input_names=["images"],
        output_names=["features" if network.head is None else "scores"],
        verbose=False,
    )
    assert program is not None
    write_whole(path, with_metadata(_unsigned(program.model_proto), metadata).SerializeToString())


def _unsigned(model):
    """The model (onnx's ModelProto) without the exporter's remarks, which name the folders of this machine."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def with_metadata(model, metadata: dict[str, str]):
    """The model (onnx's ModelProto), with these words in place of those that it has."""
    del model.metadata_props[:]
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model


def head_nodes(model) -> list[str]:
    """The node of the model (onnx's ModelProto) that is a network's head, by name; none where it has no head."""
    return [node.name for node in model.graph.node if f"{HEAD}weight" in node.input]


def with_head(model, head: nn.Linear):
    """The model of a network with a head in floats, whose head is now this one."""
    numpy_helper = wanted("onnx", extra="export").numpy_helper
    values = head.state_dict(prefix=HEAD)
    for entry in model.graph.initializer:
        if entry.name in values:
            entry.CopyFrom(numpy_helper.from_array(values.pop(entry.name).numpy(), entry.name))
    assert not values, "the model has no such head"
    return model


def opened(path: Path | bytes) -> Callable[[Tensor], Tensor]:
    """The file, or its content, as a function of images."""
    session = session_of(path)
    (images,) = session.get_inputs()
    return lambda batch: torch.from_numpy(session.run(None, {images.name: batch.cpu().numpy()})[0])


def session_of(path: Path | bytes):
    """onnxruntime's session of a file or of its bytes, by one thread."""
    runtime = wanted("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.log_severity_level = 3  # errors alone
    source = path if isinstance(path, bytes) else str(path)
    return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
