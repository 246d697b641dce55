"""Our own form: an encoder's file, its matrices in 16 bits where the features stay what they are.

`lilliput.load_encoder` takes the folder; run.json and the log up to its epoch lie beside, for `lilliput probe`.
"""

import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lilliput.catalog import OWN_FILES
from lilliput.data.store import Images
from lilliput.deploy.judge import PLAN
from lilliput.deploy.parity import kept, parity
from lilliput.errors import BadSetting
from lilliput.probes import extract
from lilliput.system.progress import say
from lilliput.system.records import read_json, write_json
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.encoders import load_encoder, saved_encoders
from lilliput.training.record import EXPORTED, read_log, write_log


def check_free(folder: Path, record: dict[str, Any]) -> None:
    """BadSetting where the folder holds a run, a study, or what was exported of another run than the record's."""
    there = read_json(folder / "run.json") if (folder / "run.json").exists() else None
    if (folder / "study.json").exists() or (there and there != _told(record)):
        what = "another export" if there and there.get(EXPORTED) else "a run" if there else "a study"
        raise BadSetting(f"--out {folder} is {what}, which would be written over: give another folder")


def write(network: nn.Module, folder: Path, *, record: dict[str, Any], file: Path, few: Images) -> Path:
    """`file` is the encoder's, `network` what it holds; `few` images decide. Returns the file that was written."""
    weights, header = read_tensors(file)
    halves = {name: value.half() if value.dim() > 1 else value for name, value in weights.items()}
    path = folder / file.name
    write_tensors(path, halves if _enough(network, halves, header, few) else weights, _without_folders(header))
    write_json(folder / "run.json", _told(record))
    write_log(folder, read_log(file.parent, list(saved_encoders(folder))[-1]))
    return path


def _enough(network: nn.Module, halves: dict[str, Tensor], header: dict[str, Any], few: Images) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.safetensors"
        write_tensors(path, halves, header)
        ours, theirs = (extract(one, few, plan=PLAN, label="16 bits") for one in (network, load_encoder(path)))
    found = parity(ours, theirs)
    if not kept(found):
        say(f"16 bits: {found}; the weights stay in 32")
    return kept(found)


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """run.json, without what names folders of its maker."""
    told = {name: value for name, value in record.items() if name != "command"}
    return {**_without_folders(told), EXPORTED: True}


def _without_folders(record: dict[str, Any]) -> dict[str, Any]:
    if OWN_FILES not in record:
        return record
    files = {name: {**file, "path": Path(file["path"]).name} for name, file in record[OWN_FILES].items()}
    return {**record, OWN_FILES: files}
