"""One run: a technique pretrains a backbone, in a folder from which it can go on after any interruption.

The folder holds run.json (every effective setting), log.jsonl (a row per epoch), the encoders, and the last states.
"""

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lilliput.data.store import Data
from lilliput.errors import BadSetting, LilliputError
from lilliput.probes import batch_norm_measured, effective_rank
from lilliput.system import cost, distributed, signals
from lilliput.system.locks import alone
from lilliput.system.machine import ran_out
from lilliput.system.plan import Plan, choose, own_threads
from lilliput.system.progress import duration, say
from lilliput.system.records import read_json, write_json
from lilliput.system.resources import Resources
from lilliput.tracking import followed, forget
from lilliput.training import guards
from lilliput.training.cell import Cell, checked, plan_for
from lilliput.training.encoders import encoder_path, save_encoder
from lilliput.training.loop import Epoch, Learner, Pause, train
from lilliput.training.memory import in_parts, what_fits
from lilliput.training.record import circumstances, read_log, settings_of, write_log
from lilliput.training.spending import SPENT, Spending, whole_seconds
from lilliput.training.state import State, part, put_back, reopen, save_state, tensors_of
from lilliput.training.stopping import Stopping, Until, score_of

RANKED = 512  # images whose features' effective rank is logged: enough to see a collapse, too few to compare by


def pretrain(
    cell: Cell,
    data: Data,
    out: str | Path,
    *,
    every: int = 5,
    resources: Resources | None = None,
    stopping: Stopping | None = None,
    until: Until | None = None,
) -> Path:
    """Pretrain, or go on where an interrupted run of the same settings in `out` stopped; returns the folder.

    Encoders are saved before the first epoch, after every `every` epochs and after the last, which is the recipe's or
    the one that `stopping` names; `until` says where to pause. Where `resources` say nothing of a plan, a resumed run
    keeps its own. Raises BadSetting if `out` holds a run of other settings, Stopped where a moment or a signal broke
    the training off.
    """
    out, resources, until = Path(out), resources or Resources(), until or Until()
    technique = checked(cell, data, every)
    cost.check_country(resources.country)
    recipe = cell.recipe.suited(technique.encoder)
    settings = settings_of(cell, recipe, data, every, stopping)
    distributed.check_alike(settings, "settings or images")
    with own_threads(), ExitStack() as stack:
        record, state = distributed.from_first(lambda: stack.enter_context(_opened(out, settings)))
        if state and (state.ends(recipe.epochs) or until.reaches(state.epoch)):
            return out
        chosen = partial(_plan, out, record, cell, data.pool.image_size, resources, distributed.size())
        plan = distributed.from_first(partial(chosen, goes_on=bool(state)))
        plan = replace(plan, device=distributed.own_device(plan.device) or plan.device)
        plan.take_effect()
        run: _Run | None = None
        try:
            run = _Run(cell, data, out, Learner(technique, recipe, plan), stopping)
            if state and record:
                run.resume(record, state)
            else:
                distributed.from_first(partial(run.begin, {**settings, "plan": plan.as_dict()}, resources.country))
            run.train(every, resources, until)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
            run = None
            del technique
            with distributed.apart():
                raise LilliputError(f"{cell.name}: {what_fits(cell, data.pool.image_size, plan)} ({error})") from None
    return out


class _Run:
    """A run under way: who learns from what, and what its folder holds so far."""

    def __init__(self, cell: Cell, data: Data, folder: Path, learner: Learner, stopping: Stopping | None):
        self.cell, self.data, self.folder, self.learner, self.stopping = cell, data, folder, learner, stopping
        self.record: dict[str, Any] = {}  # run.json
        self.rows: list[dict] = []  # log.jsonl
        self.start = 0  # epochs that are done and saved
        self.midway: Pause | None = None
        self.spent: dict[str, float] = {}
        images = data.pool
        rows = np.linspace(0, len(images) - 1, min(RANKED, len(images))).astype(int)
        self.ranked = images.batch(images.at_hand(rows))

    def begin(self, settings: dict[str, Any], country: str) -> None:
        """Write what a run has before its first step."""
        self.record = {**settings, **circumstances(self.cell, self.data.pool.image_size, country)}
        forget(self.folder)
        write_json(self.folder / "run.json", self.record)
        self._save_encoder(0)
        write_log(self.folder, [])
        self._save_state(0, tensors_of(self.learner.technique, self.learner.optimiser))

    def resume(self, record: dict[str, Any], state: State) -> None:
        """Go on from a saved state."""
        put_back(state.tensors, self.learner.technique, self.learner.optimiser)
        if state.scaler:  # none where the run was begun without fp16
            self.learner.scaler.load_state_dict(state.scaler)
        self.record, self.rows, self.start = record, list(state.log), state.epoch
        self.spent = {name: whole_seconds(self.rows[-1])[name] for name in SPENT} if self.rows else {}
        steps = ""
        if state.step:  # and what the epoch that was broken off took so far
            self.midway = Pause(state.step, part(state.tensors, "midway/"))
            self.spent |= {name: value.item() for name, value in part(state.tensors, "spent/").items()}
            steps = f" and {state.step} steps"
        if state.epoch or state.step:
            say(f"{self.cell.name}: goes on after epoch {state.epoch}{steps}")

    def train(self, every: int, resources: Resources, until: Until) -> None:
        """To the last epoch that is wanted; raises Stopped, with all of it saved, where a signal or a moment asks."""
        images, batch, device = self.data.pool, self.learner.recipe.batch, self.learner.plan.device
        spending = Spending(resources.country, resources.share, self.spent, measured=distributed.is_first())
        cost.reset_peak_memory(device)
        passes = train(
            self.learner,
            partial(images.batches, batch, device),
            len(images) // batch,
            seed=self.cell.seed,
            start=self.start,
            midway=self.midway,
            stop=lambda: distributed.asked() or until.is_over(),
            label=self.cell.name,
        )
        try:
            told = resources.track if distributed.is_first() else ()
            with followed(told, self.folder, self.cell.name, self.record) as follower:
                follower.read(self.rows)
                for epoch in passes:
                    due = epoch.number % every == 0
                    over = distributed.from_first(partial(self._close, epoch, spending, due=due))
                    follower.read(self.rows)
                    if over or until.reaches(epoch.number):
                        break
        except Pause as pause:
            epochs = distributed.from_first(partial(self._pause, pause, spending))
            raise signals.Stopped(
                f"{self.cell.name} stopped after epoch {epochs} and {pause.step} steps, all of it saved in "
                f"{self.folder}; the same command goes on from there"
            ) from None
        finally:
            spending.stop()
            if images.passed_over:
                say(
                    f"{self.cell.name}: {len(images.passed_over)} of {len(images)} images could not be read, others did"
                )

    def _close(self, epoch: Epoch, spending: Spending, *, due: bool) -> bool:
        """Log and save what an epoch gave, its encoder where it is due; whether training is over."""
        row = self._row(epoch, spending)
        self.rows.append(row)
        guards.watch(self.rows, self.cell.name)
        over = epoch.number == self.learner.recipe.epochs
        if due or over:
            with self._as_it_is_judged():
                self._save_encoder(epoch.number)
                over |= self._is_converged(row)
        write_log(self.folder, self.rows)
        # the state comes last: until it is there, the epoch before counts and this one is repeated; nothing comes
        # after the last one, so its state is light, and the one before remains beside it
        self._save_state(epoch.number, {} if over else tensors_of(self.learner.technique, self.learner.optimiser))
        if "stopped" in row:
            say(f"{self.cell.name}: stopped after epoch {epoch.number}: {row['stopped']}")
        return over

    def _row(self, epoch: Epoch, spending: Spending) -> dict[str, Any]:
        """The row of an epoch in the log; LilliputError where the features are no numbers any more."""
        technique, recipe, plan = self.learner.technique, self.learner.recipe, self.learner.plan
        features = _features(technique.encoder, self.ranked, plan)
        if not features.isfinite().all():
            raise LilliputError(
                f"{self.cell.name}: the features are no numbers after epoch {epoch.number}; "
                f"try a learning rate below --lr {self.cell.recipe.lr}"
            )
        return {
            "epoch": epoch.number,
            "steps": epoch.number * (len(self.data.pool) // recipe.batch),
            "loss": epoch.loss,
            "learning_rate": epoch.learning_rate,
            "seconds": epoch.seconds,
            "images_per_s": epoch.images_per_s,
            "gradient_norm": epoch.gradient_norm,
            "effective_rank": effective_rank(features),
            "images_ranked": len(features),
            "dead": guards.dead(features),
            "loss_of_guessing": technique.guessing(recipe.batch),
            **epoch.measures,
            **({"images_passed_over": passed} if (passed := len(self.data.pool.passed_over)) else {}),
            **spending.so_far(),
            "peak_memory_mib": max([cost.peak_memory_mib(plan.device), *(row["peak_memory_mib"] for row in self.rows)]),
        }

    def _is_converged(self, row: dict[str, Any]) -> bool:
        """Whether training is over by the stopping rule; score and reason go into the row."""
        if self.stopping is None:
            return False
        encoder, plan = self.learner.technique.encoder, self.learner.plan
        row["score"] = score_of(self.stopping.score, encoder, self.data, plan)
        if reason := self.stopping.reason([row["score"] for row in self.rows if "score" in row]):
            row["stopped"] = reason
        return reason is not None

    def _pause(self, pause: Pause, spending: Spending) -> int:
        """Save the steps that the broken epoch has done; how many whole epochs there were before."""
        epochs = self.rows[-1]["epoch"] if self.rows else self.start
        if pause.step:
            tensors = tensors_of(self.learner.technique, self.learner.optimiser)
            tensors |= {f"midway/{name}": value for name, value in pause.tensors.items()}
            for name, value in spending.so_far().items():
                tensors[f"spent/{name}"] = torch.tensor(value, dtype=torch.float64)
            self._save_state(epochs, tensors, step=pause.step)
        return epochs

    def _as_it_is_judged(self) -> AbstractContextManager:
        """Within, an encoder that has seen pieces of images alone has its batch norm measured on whole ones."""
        technique = self.learner.technique
        if not technique.pieces:
            return nullcontext()
        return batch_norm_measured(technique.encoder, self.data.pool, plan=self.learner.plan)

    def _save_encoder(self, epoch: int) -> None:
        header = {
            "technique": self.cell.technique,
            "backbone": self.cell.backbone,
            "backbone_options": self.cell.backbone_options,
            "image_size": self.data.pool.image_size,
            "seed": self.cell.seed,
            "epoch": epoch,
        }
        save_encoder(encoder_path(self.folder, epoch), self.learner.technique.encoder, header)

    def _save_state(self, epoch: int, tensors: dict[str, Tensor], *, step: int = 0) -> None:
        scaler = self.learner.scaler.state_dict()
        save_state(self.folder, State(epoch, step, tensors, self.record, self.rows, scaler))


def _make_folder(out: Path) -> None:
    """The folder of a run, which can be written in."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise LilliputError(f"cannot write in {out}: {error.strerror}; choose another --out") from None
    if (out / "study.json").exists():
        raise BadSetting(f"{out} is the folder of a study; choose another --out for a single run")


@contextmanager
def _opened(out: Path, settings: dict[str, Any]) -> Iterator[tuple[dict[str, Any] | None, State | None]]:
    """What the folder holds of a run of these settings; as long as the block runs, this process is alone in it."""
    _make_folder(out)
    with alone(out):
        yield reopen(out, settings)


def _plan(
    out: Path,
    record: dict[str, Any] | None,
    cell: Cell,
    size: int,
    resources: Resources,
    processes: int,
    *,
    goes_on: bool,
) -> Plan:
    """How so many processes run the cell together, with its parts of a batch."""
    if record:
        plan = _plan_again(out, record, resources, processes)
    else:
        plan = replace(plan_for(cell, size, resources), processes=processes)
    return _in_parts(plan, cell, size, goes_on=goes_on)


def _plan_again(out: Path, record: dict[str, Any], resources: Resources, processes: int) -> Plan:
    """The plan that a run was begun with, or what is asked for instead, which is then recorded."""
    begun = Plan(**record["plan"])
    kept = begun if processes == begun.processes else replace(begun, accumulate=None)
    try:
        given = {key: value for key, value in resources.plan.items() if value is not None}
        plan = choose(resources.device or begun.device, {**kept.fixed(), **given})
        plan = replace(plan, processes=processes)
    except BadSetting as error:
        raise BadSetting(f"{out} was begun with {begun}: {error}") from None
    if plan != begun:
        say(f"{out} was begun with {begun}; it goes on with {plan}, and its bits differ from here on")
        record["plan"] = plan.as_dict()
        write_json(out / "run.json", record)
    return plan


def _in_parts(plan: Plan, cell: Cell, size: int, *, goes_on: bool) -> Plan:
    """The plan with its parts of a batch, said where there are several; a run goes on with those that it began with.

    BadSetting where several processes have the batch: they are its parts.
    """
    batch = cell.recipe.batch
    if plan.processes > 1 and plan.compile:
        raise BadSetting(f"the plan's compile is for one process, and here are {plan.processes}; leave it out")
    if plan.processes > 1 and (plan.accumulate or 1) > 1:
        raise BadSetting(
            f"--accumulate {plan.accumulate} is for one process; each of {plan.processes} has "
            f"{batch // plan.processes} images of a batch of {batch}: start more, or choose a smaller --batch"
        )
    plan = replace(plan, accumulate=1) if plan.processes > 1 else in_parts(plan, cell, size)
    parts = plan.accumulate or 1
    if parts > 1 and not goes_on:
        say(
            f"{cell.name}: a batch of {batch} goes through the backbone in {parts} parts; the gradient is that of the "
            f"whole batch, but batch norm sees {batch // parts} images at a time"
        )
    return plan


@torch.inference_mode()
def _features(encoder: torch.nn.Module, batch: Tensor, plan: Plan) -> Tensor:
    encoder.eval()
    with plan.autocast():
        return torch.cat([encoder(part.to(plan.device).float().div_(255)).float() for part in batch.split(128)])


def summary(folder: Path) -> str:
    """One line on a finished run."""
    last, condensed = read_log(folder)[-1], read_json(folder / "run.json").get("condensed")
    line = f"{folder}: {last['epoch']} epochs, loss {last['loss']:.3f}, {duration(last['total_seconds'])}"
    if not condensed:
        return line
    return f"{line}; condensed, {condensed['parameters']:,} parameters, {condensed['multiply_adds']:,} multiply-adds"
