"""One run: a technique pretrains a backbone, in a folder from which it can go on after any interruption.

The folder holds run.json (every effective setting), log.jsonl (a row per epoch), the encoders, and the last state.
"""

import dataclasses
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lilliput import catalog, checkpoint, cost, guards, memory, signals
from lilliput._version import version
from lilliput.checkpoint import State
from lilliput.errors import BadData, BadSetting, LilliputError, Unreadable
from lilliput.features import Exam, effective_rank, extract, split
from lilliput.files import alone, read_json, set_aside, write_json
from lilliput.loop import Pause, train
from lilliput.plan import Plan, allocator, choose, own_threads, processor, seeded
from lilliput.probes.knn import knn
from lilliput.progress import duration, say
from lilliput.recipe import Recipe, make_optimiser
from lilliput.store import Data, smallest_size
from lilliput.technique import Technique

RANKED = 512  # images whose features' effective rank is logged


@dataclass(frozen=True)
class Cell:
    """What a run is: the settings that determine its weights."""

    technique: str
    backbone: str
    seed: int
    recipe_name: str  # small or paper
    recipe: Recipe
    technique_options: dict[str, Any]
    backbone_options: dict[str, Any]

    @property
    def name(self) -> str:
        return checkpoint.cell_name(self.technique, self.backbone, self.seed)

    def build_encoder(self) -> Any:
        """An untrained encoder of this cell, initialised by its seed."""
        build = catalog.backbone_builder(self.backbone, **self.backbone_options)
        with seeded(self.seed):
            return catalog.technique(self.technique).build_encoder(build)

    def build(self) -> Technique:
        """The technique, initialised by the seed: its encoder's numbers are drawn first, the same for all."""
        build = catalog.backbone_builder(self.backbone, **self.backbone_options)
        with seeded(self.seed):
            return catalog.technique(self.technique)(build, **self.technique_options)


def make_cell(
    technique: str,
    backbone: str,
    *,
    seed: int = 0,
    recipe: str = "small",
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
) -> Cell:
    """A cell from names and overriding options; UnknownName or BadSetting before any work."""
    catalog.check("techniques", technique)
    catalog.check("backbones", backbone)
    if seed < 0:
        raise BadSetting(f"seed {seed} must be 0 or more")
    if recipe not in ("small", "paper"):
        raise BadSetting(f"recipe {recipe!r} is neither small nor paper")
    dealt = catalog.sort_options(options or {}, techniques=[technique], backbones=[backbone])
    chosen: Recipe = getattr(catalog.technique(technique), recipe)
    try:
        chosen = chosen.override(epochs=epochs, batch=batch, **dealt["recipe"])
    except TypeError as error:
        raise BadSetting(f"a recipe's setting has the wrong type: {error}") from None
    technique_options = {**chosen.options, **dealt[technique]}
    return Cell(technique, backbone, seed, recipe, chosen, technique_options, dealt["backbone"])


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
    settings = _settings(cell, recipe, data, every, stop)
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
        checkpoint.put_back(state.tensors, technique, optimiser)
        scaler.load_state_dict(state.scaler)
        start, rows = state.epoch, list(state.log)
        if state.step:
            midway = Pause(state.step, checkpoint.part(state.tensors, "midway/"))
        if start or midway:
            say(f"{cell.name}: goes on after epoch {start}" + (f" and {state.step} steps" if midway else ""))
    else:
        start, rows = 0, []
        record = {**settings, "plan": plan.as_dict(), **_circumstances(cell, images.image_size, country)}
        write_json(out / "run.json", record)
        checkpoint.save_encoder(checkpoint.encoder_path(out, 0), technique.encoder, {**about, "epoch": 0})
        checkpoint.write_log(out, [])

    def save(epoch: int, step: int = 0, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        found = checkpoint.tensors_of(technique, optimiser) if tensors is None else dict(tensors)
        assert record is not None
        checkpoint.save_state(out, State(epoch, step, found, record, rows, scaler.state_dict()))

    if not state:
        save(0)
    few = images.batch(np.linspace(0, len(images) - 1, min(RANKED, len(images))).astype(int))
    meter = cost.EnergyMeter(country, share=energy_share)
    before = {key: rows[-1][key] if rows else 0.0 for key in ("total_seconds", "kwh", "grams_co2")}
    if state and state.step:  # what the epoch that was broken off took so far
        before |= {key: value.item() for key, value in checkpoint.part(state.tensors, "spent/").items()}
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
                path = checkpoint.encoder_path(out, epoch.number)
                checkpoint.save_encoder(path, technique.encoder, {**about, "epoch": epoch.number})
                if stop:
                    rows[-1]["score"] = _score(stop["score"], technique.encoder, data, plan, rows[-1])
                    reason = _converged([r["score"] for r in rows if "score" in r], stop)
                    if reason:
                        rows[-1]["stopped"] = reason
            checkpoint.write_log(out, rows)
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
            save(epochs, pause.step, {**checkpoint.tensors_of(technique, optimiser), **more})
        raise signals.Stopped(
            f"{cell.name} stopped after epoch {epochs} and {pause.step} steps, all of it saved in {out}; "
            f"the same command goes on from there"
        ) from None
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        del technique, optimiser
        raise LilliputError(f"{cell.name}: {_what_fits(cell, images.image_size, plan)} ({error})") from None
    finally:
        meter.stop()
    return out


def _what_fits(cell: Cell, size: int, plan: Plan) -> str:
    """What to do after memory ran out, from what two small batches keep for their backward pass."""
    batch = cell.recipe.batch
    fits = min(memory.batch_that_fits(cell.build(), size, plan), batch // 2)
    smaller = int(size * (fits / batch) ** 0.5) // 8 * 8
    ways = [f"--batch {fits}"] * (fits > 1) + [f"--image-size {smaller}"] * (smaller >= smallest_size)
    return f"out of memory with a batch of {batch} at {size} px; " + (
        f"{' or '.join(ways)} would fit" if ways else "not even a batch of 2 would fit: take a smaller backbone"
    )


def stop_rule(data: Data, until_converged: int | None, score: str | None) -> dict[str, Any] | None:
    """When training ends before its last epoch, or None; BadSetting where the score cannot be had."""
    score = score or ("knn" if data.train else "rank")
    if score not in ("knn", "rank"):
        raise BadSetting(f"score {score!r} is neither knn nor rank")
    if not until_converged:
        return None
    if score == "knn":
        if not data.train:
            raise BadSetting(f"{data.name} has no labels for a kNN score; use --score rank")
        split(data.train.labels)
    return {"after": until_converged, "score": score}


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


def plan_for(cell: Cell, size: int, device: str | None = None, fixed: Mapping[str, Any] | None = None) -> Plan:
    """The plan that suits the cell's network on this machine."""
    network = catalog.backbone_builder(cell.backbone, **cell.backbone_options)
    name = " ".join([cell.backbone, *(f"{key}={value}" for key, value in sorted(cell.backbone_options.items()))])
    return choose(device, fixed, network=network, name=name, size=size, batch=cell.recipe.batch)


def _checked(cell: Cell, data: Data, every: int) -> Technique:
    """The technique, after all that can be refused has been."""
    from lilliput.backbone import check_image_size

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


def build_checked(cell: Cell) -> Technique:
    """The technique as initialised by the seed; BadSetting if an option's value cannot work."""
    try:
        technique = cell.build()
        make_optimiser(cell.recipe.suited(technique.encoder), technique)
        return technique
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise BadSetting(f"{cell.technique} on {cell.backbone} cannot be built: {reason}") from None


def _settings(cell: Cell, recipe: Recipe, data: Data, every: int, stop: dict | None) -> dict[str, Any]:
    """Everything that determines the weights and when they are saved."""
    used = dataclasses.asdict(recipe)
    del used["options"], used["bare"]
    return {
        "technique": cell.technique,
        "backbone": cell.backbone,
        "seed": cell.seed,
        "recipe": cell.recipe_name,
        "recipe_settings": used,
        "technique_options": {**_defaults("techniques", cell.technique), **cell.technique_options},
        "backbone_options": cell.backbone_options,
        "data": data.name,
        "data_digest": data.pool.digest,
        "pool_images": len(data.pool),
        "image_size": data.pool.image_size,
        "every": every,
        "until_converged": stop,
    }


def _defaults(kind: str, name: str) -> dict[str, Any]:
    return {option.name: option.default for option in catalog.entry(kind, name).options}


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
        checkpoint.check_format(record.get("format"), out)
        checkpoint.same_settings({key: record.get(key) for key in settings}, settings, out)
    state = checkpoint.newest_state(out)
    checkpoint.clear_states(out)
    if state and not record:
        record = state.run
        checkpoint.same_settings({key: record.get(key) for key in settings}, settings, out)
        write_json(out / "run.json", record)
    if state and _log_of(out)[: len(state.log)] != state.log:
        if (out / "log.jsonl").exists():
            set_aside(out / "log.jsonl", "its rows are not those of the saved state")
        checkpoint.write_log(out, state.log)
    return record, state


def _log_of(out: Path) -> list[dict]:
    try:
        return checkpoint.read_log(out)
    except Unreadable:
        raise
    except BadData:  # not a row of ours in it; the state has them
        return []


def _circumstances(cell: Cell, size: int, country: str) -> dict[str, Any]:
    """What the run cannot choose, and what follows from its settings."""
    encoder = cell.build_encoder()
    return {
        "format": checkpoint.FORMAT,
        "parameters": cost.parameters(encoder),
        "multiply_adds": cost.multiply_adds(encoder, size),
        "multiply_adds_224": cost.multiply_adds_or_none(encoder, 224),
        "dim": encoder.dim,
        "country": country,
        "versions": versions(),
        "machine": machine(),
        "commit": commit(),
        "command": " ".join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def versions() -> dict[str, str]:
    """Of what computes."""
    import timm
    import torchvision

    return {
        "lilliput": version,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
    }


def machine() -> dict[str, Any]:
    """Of what it computes on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "allocator": allocator(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str | None:
    """The commit of this checkout, "+" when it has changes; None for an installed package."""
    if not shutil.which("git"):
        return None

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, check=False).stdout.strip()

    if not git("ls-files", "run.py"):
        return None
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


@torch.inference_mode()
def _features(encoder: torch.nn.Module, batch: torch.Tensor, plan: Plan) -> torch.Tensor:
    encoder.eval()
    with plan.autocast():
        return torch.cat([encoder(plan.images(part)).float() for part in batch.split(128)])


def _score(name: str, encoder: torch.nn.Module, data: Data, plan: Plan, row: dict) -> float:
    if name == "rank":
        return row["effective_rank"]
    assert data.train
    exam = Exam(encoder, data.train, data.train, plan=plan, label="score")
    features = extract(encoder, data.train, plan=plan, label="score")
    exam.train_features = exam.test_features = features
    return dict(knn(exam))["held_out_accuracy_cosine"]


def _converged(scores: list[float], stop: dict) -> str | None:
    """Why training is over, or None: no score of the last `after` checkpoints beats the best before them."""
    after = stop["after"]
    if len(scores) <= after or max(scores[-after:]) > max(scores[:-after]):
        return None
    return f"{stop['score']} {max(scores[:-after]):.4g} has not improved for {after} checkpoints"


def summary(folder: Path) -> str:
    """One line on a finished run."""
    rows = checkpoint.read_log(folder)
    last = rows[-1]
    return f"{folder}: {last['epoch']} epochs, loss {last['loss']:.3f}, {duration(last['total_seconds'])}"
