"""One run: a technique pretrains a backbone, in a folder from which it can go on after any interruption.

The folder holds run.json (every effective setting), log.jsonl (a row per epoch), the encoders, and the last state.
"""

import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lilliput import catalog
from lilliput.data.store import Data
from lilliput.errors import BadData, BadSetting, LilliputError, Unreadable
from lilliput.optim.build import make_optimiser
from lilliput.optim.recipe import Recipe
from lilliput.probes._features import effective_rank
from lilliput.system import cost, machine, signals
from lilliput.system.files import set_aside
from lilliput.system.locks import alone
from lilliput.system.plan import Plan, choose, own_threads
from lilliput.system.progress import duration, say
from lilliput.system.records import read_json, write_json
from lilliput.techniques import Technique
from lilliput.training import guards
from lilliput.training.cell import Cell, build_checked, circumstances, plan_for, settings_of
from lilliput.training.encoders import encoder_path, save_encoder
from lilliput.training.loop import Pause, train
from lilliput.training.memory import what_fits
from lilliput.training.record import check_format, read_log, same_settings, write_log
from lilliput.training.state import State, clear_states, newest_state, part, put_back, save_state, tensors_of
from lilliput.training.stopping import converged, score_of, stop_rule

RANKED = 512  # images whose features' effective rank is logged


@own_threads()
def pretrain(
    cell: Cell,
    data: Data,
    out: str | Path,
    *,
    every: int = 5,
    device: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    country: str = "USA",
    until_converged: int | None = None,
    score: str | None = None,
    energy_share: float = 1.0,
) -> Path:
    """Pretrain, or go on where an interrupted run of the same settings in `out` stopped; returns the folder.

    Encoders are saved before the first epoch, after every `every` epochs and after the last. With `until_converged`,
    training stops once `score` ("rank": effective rank of the features, without labels; "knn": held-out accuracy) has
    not improved for so many checkpoints. `energy_share`: this run's part of what the machine uses. `fixed`: what of
    the plan is not to be measured; where it and `device` say nothing, a resumed run keeps its own. Raises BadSetting if
    `out` holds a run of other settings.
    """
    out = Path(out)
    technique = _checked(cell, data, every)
    cost.check_country(country)
    stop = stop_rule(data, until_converged, score)
    recipe = cell.recipe.suited(technique.encoder)
    settings = settings_of(cell, recipe, data, every, stop)
    _make(out)
    with alone(out):
        return _pretrained(cell, technique, recipe, data, out, settings, device, fixed, country, energy_share)


def _pretrained(
    cell: Cell,
    technique: Technique,
    recipe: Recipe,
    data: Data,
    out: Path,
    settings: dict[str, Any],
    device: str | None,
    fixed: Mapping[str, Any] | None,
    country: str,
    energy_share: float,
) -> Path:
    """In a folder of its own, what `pretrain` promises."""
    images, every, stop = data.pool, settings["every"], settings["until_converged"]
    record, state = _opened(out, settings)
    plan = _plan_again(out, record, device, fixed) if record else plan_for(cell, images.image_size, device, fixed)
    plan.take_effect()
    technique = plan.hasten(plan.place(technique))
    optimiser = make_optimiser(recipe, technique)
    scaler = torch.amp.GradScaler(torch.device(plan.device).type, enabled=plan.precision == "fp16")
    about = {
        "technique": cell.technique,
        "backbone": cell.backbone,
        "backbone_options": cell.backbone_options,
        "image_size": images.image_size,
        "seed": cell.seed,
    }
    midway = None
    if state:
        if state.epoch == cell.recipe.epochs or (state.log and state.log[-1].get("stopped")):
            return out
        put_back(state.tensors, technique, optimiser)
        scaler.load_state_dict(state.scaler)
        start, rows = state.epoch, list(state.log)
        if state.step:
            midway = Pause(state.step, part(state.tensors, "midway/"))
        if start or midway:
            say(f"{cell.name}: goes on after epoch {start}" + (f" and {state.step} steps" if midway else ""))
    else:
        start, rows = 0, []
        record = {**settings, "plan": plan.as_dict(), **circumstances(cell, images.image_size, country)}
        write_json(out / "run.json", record)
        save_encoder(encoder_path(out, 0), technique.encoder, {**about, "epoch": 0})
        write_log(out, [])

    def save(epoch: int, step: int = 0, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        found = tensors_of(technique, optimiser) if tensors is None else dict(tensors)
        assert record is not None
        save_state(out, State(epoch, step, found, record, rows, scaler.state_dict()))

    if not state:
        save(0)
    few = images.batch(np.linspace(0, len(images) - 1, min(RANKED, len(images))).astype(int))
    meter = cost.EnergyMeter(country, share=energy_share)
    before = {key: rows[-1][key] if rows else 0.0 for key in ("total_seconds", "kwh", "grams_co2")}
    if state and state.step:  # what the epoch that was broken off took so far
        before |= {key: value.item() for key, value in part(state.tensors, "spent/").items()}
    began = time.perf_counter()
    cost.reset_peak_memory(plan.device)
    try:
        for epoch in train(
            technique, images, recipe, optimiser, scaler,
            plan=plan, seed=cell.seed, start=start, midway=midway, stop=signals.asked, label=cell.name,
        ):  # fmt: skip
            kwh, grams = meter.read()
            features = _features(technique.encoder, few, plan)
            if not features.isfinite().all():
                raise LilliputError(
                    f"{cell.name}: the features are no numbers after epoch {epoch.number}; "
                    f"try a learning rate below --lr {cell.recipe.lr}"
                )
            rows.append(
                {
                    "epoch": epoch.number,
                    "steps": epoch.number * (len(images) // recipe.batch),
                    "loss": epoch.loss,
                    "learning_rate": epoch.learning_rate,
                    "seconds": epoch.seconds,
                    "images_per_s": epoch.images_per_s,
                    "gradient_norm": epoch.gradient_norm,
                    "effective_rank": effective_rank(features),
                    "dead": guards.dead(features),
                    "loss_of_guessing": technique.guessing(recipe.batch),
                    **epoch.measures,
                    "total_seconds": before["total_seconds"] + time.perf_counter() - began,
                    "kwh": before["kwh"] + kwh,
                    "grams_co2": before["grams_co2"] + grams,
                    "peak_memory_mib": max([cost.peak_memory_mib(plan.device)] + [r["peak_memory_mib"] for r in rows]),
                }
            )
            guards.watch(rows, cell.name)
            due = epoch.number % every == 0 or epoch.number == cell.recipe.epochs
            reason = None
            if due:
                path = encoder_path(out, epoch.number)
                save_encoder(path, technique.encoder, {**about, "epoch": epoch.number})
                if stop:
                    rows[-1]["score"] = score_of(stop["score"], technique.encoder, data, plan, rows[-1])
                    reason = converged([r["score"] for r in rows if "score" in r], stop)
                    if reason:
                        rows[-1]["stopped"] = reason
            write_log(out, rows)
            # the state comes last: until it is there, the epoch before counts and this one is repeated; nothing
            # comes after the last one, so its state is light, and the one before remains beside it
            over = reason or epoch.number == cell.recipe.epochs
            save(epoch.number, tensors={} if over else None)
            if reason:
                say(f"{cell.name}: stopped after epoch {epoch.number}: {reason}")
                break
    except Pause as pause:
        epochs = rows[-1]["epoch"] if rows else 0
        if pause.step:
            kwh, grams = meter.read()
            spent = {"total_seconds": time.perf_counter() - began, "kwh": kwh, "grams_co2": grams}
            more = {f"midway/{key}": value for key, value in pause.tensors.items()}
            for key, value in spent.items():
                more[f"spent/{key}"] = torch.tensor(before[key] + value, dtype=torch.float64)
            save(epochs, pause.step, {**tensors_of(technique, optimiser), **more})
        raise signals.Stopped(
            f"{cell.name} stopped after epoch {epochs} and {pause.step} steps, all of it saved in {out}; "
            f"the same command goes on from there"
        ) from None
    except (RuntimeError, MemoryError) as error:
        if not machine.ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        del technique, optimiser
        raise LilliputError(f"{cell.name}: {what_fits(cell, images.image_size, plan)} ({error})") from None
    finally:
        meter.stop()
    return out


def _plan_again(out: Path, record: dict[str, Any], device: str | None, fixed: Mapping[str, Any] | None) -> Plan:
    """The plan that a run was begun with, or what is asked for instead, which is then recorded."""
    begun = Plan(**record["plan"])
    try:
        given = {key: value for key, value in (fixed or {}).items() if value is not None}
        plan = choose(device or begun.device, {**begun.fixed(), **given})
    except BadSetting as error:
        raise BadSetting(f"{out} was begun with {begun}: {error}") from None
    if plan != begun:
        say(f"{out} was begun with {begun}; it goes on with {plan}, and its bits differ from here on")
        record["plan"] = plan.as_dict()
        write_json(out / "run.json", record)
    return plan


def _checked(cell: Cell, data: Data, every: int) -> Technique:
    """The technique, after all that can be refused has been."""
    from lilliput.backbones import check_image_size

    images = data.pool
    if len(images) < 2:
        raise BadData(f"{data.name} has {len(images)} image to learn from; a batch needs at least 2")
    if len(images) < cell.recipe.batch:
        raise BadSetting(
            f"a batch of {cell.recipe.batch} is larger than the {len(images)} images of {data.name}; "
            f"use --batch {len(images)} or less"
        )
    if cell.recipe.batch < 2:
        raise BadSetting(f"--batch {cell.recipe.batch}: one image has no variance for batch norm; take 2 or more")
    if every < 1:
        raise BadSetting(f"every {every} must be at least 1 epoch")
    build = catalog.backbone_builder(cell.backbone, **cell.backbone_options)
    check_image_size(build(), images.image_size)
    return build_checked(cell)


def _make(out: Path) -> None:
    """The folder of a run, which can be written in."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise LilliputError(f"cannot write in {out}: {error.strerror}; choose another --out") from None
    if (out / "study.json").exists():
        raise BadSetting(f"{out} is the folder of a study; choose another --out for a single run")


def _opened(out: Path, settings: dict[str, Any]) -> tuple[dict[str, Any] | None, State | None]:
    """What the run that the folder holds was begun with, and its last whole state; None of each where it holds none."""
    record = None
    if (out / "run.json").exists():
        try:
            record = read_json(out / "run.json")
        except BadData as error:
            set_aside(out / "run.json", error)
    if record:
        check_format(record.get("format"), out)
        same_settings({key: record.get(key) for key in settings}, settings, out)
    state = newest_state(out)
    clear_states(out)
    if state and not record:
        record = state.run
        same_settings({key: record.get(key) for key in settings}, settings, out)
        write_json(out / "run.json", record)
    if state and _log_of(out)[: len(state.log)] != state.log:
        if (out / "log.jsonl").exists():
            set_aside(out / "log.jsonl", "its rows are not those of the saved state")
        write_log(out, state.log)
    return record, state


def _log_of(out: Path) -> list[dict]:
    try:
        return read_log(out)
    except Unreadable:
        raise
    except BadData:  # not a row of ours in it; the state has them
        return []


@torch.inference_mode()
def _features(encoder: torch.nn.Module, batch: torch.Tensor, plan: Plan) -> torch.Tensor:
    encoder.eval()
    with plan.autocast():
        return torch.cat([encoder(part.to(plan.device).float().div_(255)).float() for part in batch.split(128)])


def summary(folder: Path) -> str:
    """One line on a finished run."""
    rows = read_log(folder)
    last = rows[-1]
    return f"{folder}: {last['epoch']} epochs, loss {last['loss']:.3f}, {duration(last['total_seconds'])}"
