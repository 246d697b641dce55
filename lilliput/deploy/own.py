"""Our own form: an encoder's file, its matrices in 16 bits where the features stay what they are.

`lilliput.load_encoder` takes the folder; run.json and the log up to its epoch lie beside, for `lilliput probe`.
"""

from pathlib import Path
from typing import Any

from torch import nn

from lilliput.data.store import Images
from lilliput.deploy.judge import PLAN
from lilliput.deploy.parity import kept, parity
from lilliput.probes import extract
from lilliput.system.records import write_json
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.encoders import EXPORTED, load_encoder, saved_encoders
from lilliput.training.record import read_log, write_log

OF_THIS_MACHINE = ("command",)  # what a run.json tells that names folders here


def write(network: nn.Module, folder: Path, *, record: dict[str, Any], file: Path, few: Images) -> Path:
    """`file` is the encoder's, `network` what it holds; `few` images decide. Returns the file that was written."""
    weights, header = read_tensors(file)
    path = folder / file.name
    halves = {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}
    write_tensors(path, halves, header)
    ours, theirs = (extract(one, few, plan=PLAN, label="parity") for one in (network, load_encoder(path)))
    if not kept(parity(ours, theirs)):
        write_tensors(path, weights, header)
    told = {name: value for name, value in record.items() if name not in OF_THIS_MACHINE}
    write_json(folder / "run.json", {**told, EXPORTED: True})
    write_log(folder, read_log(file.parent, list(saved_encoders(folder))[-1]))
    return path
