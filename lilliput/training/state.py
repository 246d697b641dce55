"""The last states of a run, from which it goes on."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lilliput.errors import BadData, BadSetting, Unreadable
from lilliput.system.files import remove, set_aside
from lilliput.system.records import read_json, write_json
from lilliput.system.tensors import read_tensors, write_tensors
from lilliput.training.record import (
    EXPORTED,
    FORMAT,
    check_format,
    read_log,
    read_run,
    renewed,
    same_settings,
    write_log,
)

KEPT = 2  # states


class State(NamedTuple):
    """A saved state: so many whole epochs, so many steps of the next, and all that comes after depends on."""

    epoch: int
    step: int
    tensors: dict[str, Tensor]  # technique/..., optimiser/..., group/..., midway/...; none when training is over
    run: dict[str, Any]  # run.json
    log: list[dict]  # log.jsonl
    scaler: dict[str, Any]

    def ends(self, epochs: int) -> bool:
        """Whether nothing comes after it, in a run of so many epochs."""
        return self.epoch == epochs or bool(self.log and self.log[-1].get("stopped"))


def states(folder: Path) -> list[Path]:
    """A run's saved states, the newest last."""
    return sorted(folder.glob("state*.safetensors"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)])


def save_state(folder: Path, state: State) -> None:
    """Beside the state before it, which is there in case that this one is damaged; the older ones go."""
    header = {"format": FORMAT, **{key: value for key, value in state._asdict().items() if key != "tensors"}}
    name = f"state_{state.epoch:03d}" + (f"_{state.step:06d}" if state.step else "")
    write_tensors(folder / f"{name}.safetensors", state.tensors, header)
    clear_states(folder)


def clear_states(folder: Path) -> None:
    """Keep the last two; a process that was killed may have left more."""
    for old in states(folder)[:-KEPT]:
        remove(old)


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
            record = read_run(folder)
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
    """The reverse of `tensors_of`, in place; BadData where the technique has other parts by now."""
    try:
        technique.load_state_dict(part(tensors, "technique/"))
    except RuntimeError as error:
        raise BadData(
            f"the run was begun with another make of {type(technique).__name__}, so it cannot go on; choose another "
            f"--out, or go on with the version that run.json names ({' '.join(str(error).split()):.200})"
        ) from None
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


def reopen(out: Path, settings: dict[str, Any]) -> tuple[dict[str, Any] | None, State | None]:
    """What the run that the folder holds was begun with, and its last whole state; None of each where it holds none.

    What is damaged is set aside or restored from the state. BadSetting if the run is one of other settings.
    """
    record = None
    if (out / "run.json").exists():
        try:
            record = read_json(out / "run.json")
        except BadData as error:
            set_aside(out / "run.json", error)
    if record:
        check_format(record.get("format"), out)
        if record.get(EXPORTED):
            raise BadSetting(f"{out} holds only what was exported of a run, which cannot go on: choose another --out")
        record = _see_same(record, settings, out)
    state = newest_state(out)
    clear_states(out)
    if state and not record:
        record = _see_same(state.run, settings, out)
        write_json(out / "run.json", record)
    if state and _log_of(out)[: len(state.log)] != state.log:
        if (out / "log.jsonl").exists():
            set_aside(out / "log.jsonl", "its rows are not those of the saved state")
        write_log(out, state.log)
    return record, state


def _see_same(record: dict[str, Any], settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """The record, in today's words; BadSetting if it is of other settings."""
    recipe = renewed(record.get("recipe_settings"), record["format"])
    record = {**record, "recipe_settings": recipe, "format": FORMAT}
    same_settings({key: record.get(key) for key in settings}, settings, out)
    return record


def _log_of(out: Path) -> list[dict]:
    try:
        return read_log(out)
    except Unreadable:
        raise
    except BadData:  # not a row of ours in it; the state has them
        return []
