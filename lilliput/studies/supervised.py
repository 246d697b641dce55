"""The supervised baseline's training: saved as it goes, and after any interruption it goes on with the same bits.

The job's folder holds the last states of it until its rows are kept.
"""

import dataclasses
import time
from contextlib import closing
from pathlib import Path

import torch

from lilliput.probes.finetune import Learning
from lilliput.system import cost, signals
from lilliput.system.files import remove
from lilliput.system.progress import say
from lilliput.system.records import json_digest
from lilliput.system.resources import Resources
from lilliput.training.spending import Spending
from lilliput.training.state import State, newest_state, part, put_back, save_state, states, tensors_of

SECONDS_BETWEEN_SAVES = 600.0


def learn(learning: Learning, folder: Path, resources: Resources) -> dict[str, float]:
    """Take all steps that are not done yet, here or before in `folder`; what they spent, with those of before.

    Stopped, with all of it saved, where a signal asks for that.
    """
    before, device = _go_on(learning, folder), learning.exam.plan.device
    cost.reset_peak_memory(device)
    spending, saved = Spending(resources.country, resources.share, before), time.monotonic()

    def spent() -> dict[str, float]:
        peak = max(cost.peak_memory_mib(device), before.get("peak_memory_mib", 0.0))
        return {**spending.so_far(), "peak_memory_mib": peak}

    try:
        with closing(learning.steps()) as steps:
            for done in steps:
                asked = signals.asked()
                if asked or time.monotonic() >= saved + SECONDS_BETWEEN_SAVES:
                    _save(learning, folder, spent())
                    saved = time.monotonic()
                if asked:
                    raise signals.Stopped(
                        f"{folder.name} stopped after {done} of {learning.whole} steps, all of it saved in {folder}; "
                        f"the same command goes on from there"
                    )
        return spent()
    finally:
        spending.stop()


def forget(folder: Path) -> None:
    """Remove the states."""
    for path in states(folder):
        remove(path)


def _settings(learning: Learning) -> dict[str, str]:
    """What a state must be of to be gone on with; what else determines the weights is the same in all of a study."""
    recipe = dataclasses.asdict(learning.recipe)
    return {"settings": json_digest([recipe, learning.whole, learning.exam.seed, learning.exam.train.digest])}


def _save(learning: Learning, folder: Path, spent: dict[str, float]) -> None:
    tensors = tensors_of(learning.model, learning.optimiser) | {"rng": learning.rng.get_state()}
    tensors |= {f"spent/{name}": torch.tensor(value, dtype=torch.float64) for name, value in spent.items()}
    scaler = learning.scaler.state_dict()
    save_state(folder, State(0, learning.done, tensors, _settings(learning), [], scaler))


def _go_on(learning: Learning, folder: Path) -> dict[str, float]:
    """Put back the newest state that the folder holds of this training; what it had spent."""
    state = newest_state(folder)
    if state is None or state.run != _settings(learning):
        forget(folder)  # of another training, they would be taken for newer than those to come
        return {}
    put_back(state.tensors, learning.model, learning.optimiser)
    learning.rng.set_state(state.tensors["rng"])
    if state.scaler:  # none without fp16
        learning.scaler.load_state_dict(state.scaler)
    learning.done = state.step
    say(f"{folder.name}: goes on after {learning.done} of {learning.whole} steps")
    return {name: value.item() for name, value in part(state.tensors, "spent/").items()}
