"""The answer: what to pick and how sure that is, from the rows of the search's study; as words and as advice.json."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import NormalDist
from typing import Any

import pandas as pd

from lilliput.advice import scores
from lilliput.advice.learned import learned
from lilliput.advice.search import BASELINES, Search
from lilliput.errors import BadData
from lilliput.studies import statistics
from lilliput.training.cell import Cell
from lilliput.training.encoders import encoder_path

SIGMAS = 2 * 1.644854  # in a 90 % interval of a normal distribution


def advice(search: Search) -> dict[str, Any]:
    """All of it, in JSON's kinds. BadData where nothing was trained and judged."""
    rows, ranking = search.rows, search.ranking()
    trained = [cell for cell in ranking if search.reached(cell) >= search.schedule.every]
    if not trained:
        raise BadData(
            f"{search.out}: nothing came to its first checkpoint in time; give a larger --budget, another --out"
        )
    pick, *others = trained
    first, *rest = candidates = [told(search, rows, cell) for cell in trained]
    return {
        "pick": first,
        "runner_up": _runner_up(first, rest[0]) if rest else None,
        "candidates": candidates,
        "chosen_by": search.score,
        "doubt": scores.doubts(search.score),
        "twice_the_budget": _doubled(search, rows, pick),
        "against": _against(search, rows, pick, first["best_epoch"]),
        "known_to_cross": [
            {**known, "dropped": search.passed(search.cells[known["with"]]) < search.passed(pick)}
            for known in crossings(pick, others)
        ],
        "own_error": _own_error(search),
    }


def told(search: Search, rows: pd.DataFrame, cell: Cell) -> dict[str, Any]:
    """Of a candidate: how far it trained, its score there, the accuracy that is expected of its whole training, and its
    encoder: the one that held-out labels choose, or the last."""
    epoch = search.judged_at(cell)
    curve = scores.figures(rows, cell, *scores.HELD_OUT)
    trained = {at: value for at, value in curve.items() if at}
    best = max(trained, key=lambda at: trained[at], default=None)
    return {
        "technique": cell.technique,
        "backbone": cell.backbone,
        "recipe": cell.recipe_name,
        "epoch": epoch,
        "epochs": search.schedule.epochs,
        "score": _number(scores.read(search.out, rows, search.score, cell, epoch)),
        "best_epoch": best,
        "held_out": {str(at): value for at, value in curve.items()},
        "held_out_images": search.held_out_images if curve else None,
        "expected": _expected(search, curve.get(epoch), epoch),
        "encoder": str(encoder_path(search.out / "cells" / cell.name, best or epoch)),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _expected(search: Search, value: float | None, epoch: int) -> dict[str, float | None] | None:
    if value is None:
        return None
    return {name: _number(end) for name, end in search.expected(value, epoch)._asdict().items()}


def _runner_up(pick: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What it is, how likely it is the better one, and what is lost on average where it is."""
    one, two = pick["expected"], second["expected"]
    if one is None or two is None or None in (*one.values(), *two.values()):
        return {**second, "chance_better": None, "loss_if_better": None}
    deviation = math.hypot(*((end["high"] - end["low"]) / SIGMAS for end in (one, two)))
    gap = NormalDist(two["value"] - one["value"], max(deviation, 1e-9))
    chance = 1 - gap.cdf(0.0)
    loss = gap.mean + gap.stdev**2 * gap.pdf(0.0) / chance if chance > 0 else 0.0  # the mean of what is above 0
    return {**second, "chance_better": chance, "loss_if_better": loss}


def _doubled(search: Search, rows: pd.DataFrame, pick: Cell) -> dict[str, Any] | None:
    """What a doubling of the training added in finished studies, between which bounds in nine of ten."""
    if not scores.figures(rows, pick, *scores.HELD_OUT):
        return None
    gain = learned()["doubling"]
    return {"gain": gain["middle"], "low": gain["low"], "high": gain["high"], "curves": gain["count"]}


def _against(search: Search, rows: pd.DataFrame, pick: Cell, epoch: int | None) -> dict[str, Any]:
    """Test accuracies by the linear probe, of the pick at the `epoch` that held-out labels choose, and of baselines on
    the same images; with the difference and half of its 95 % interval."""
    tested = scores.figures(rows, pick, "linear", "accuracy")
    if epoch is None:
        return {}
    _, images = search.grid.labelled.judging
    found: dict[str, Any] = {"test_images": len(images), "pick": {"accuracy": tested[epoch], "epoch": epoch}}
    low, high = statistics.wilson(tested[epoch] * len(images), len(images))
    found["pick"] |= {"low": low, "high": high}
    linear = rows[(rows.probe == "linear") & (rows.metric == "accuracy")]
    for name in BASELINES:
        own = linear[(linear.technique == name) & linear.backbone.isin(["", pick.backbone])]
        if len(own):
            value = float(own.value.iloc[-1])
            gap = statistics.difference(*statistics.accuracies([[tested[epoch]], [value]], len(images)))
            found[name] = {"accuracy": value, "pick_is_better_by": gap.value, "half": gap.half}
    if "supervised" in found:
        found["supervised"]["epochs"] = search.schedule.epochs  # as many images as a whole pretraining
    return found


def crossings(pick: Cell, others: Sequence[Cell]) -> list[dict[str, Any]]:
    """Of the candidates that differ from the pick in one thing, those whose order with it turned elsewhere."""
    found = []
    for other, known in product(others, learned()["crossings"]):
        same = "backbone" if known["kind"] == "technique" else "technique"
        names = {getattr(cell, known["kind"]) for cell in (pick, other)}
        if getattr(pick, same) == getattr(other, same) and names == {known["one"], known["two"]}:
            found.append({"with": other.name, **known})
    return found


def _own_error(search: Search) -> dict[str, Any] | None:
    """What such a search lost to the best cell in finished studies, at the nearest share of the whole grid's cost."""
    epochs, every = search.schedule.epochs, search.schedule.every
    whole = sum(pace.epoch * epochs + pace.judging * (epochs // every) for pace in search.paces.values())
    share = search.budget * search.engine.workers / whole
    replay: Mapping[str, Any] = learned()["replay"].get(search.score, {})
    if not replay:
        return None
    nearest = min(replay["regret"], key=lambda budget: abs(math.log(float(budget) / share)))
    return {
        "share_of_the_whole_grid": share,
        "replayed_share": float(nearest),
        "regret": replay["regret"][nearest],
        "interval_holds": replay["holds"],
        "widened": learned()["ends"]["widened"],
        "grids": replay["grids"],
    }


def in_words(found: Mapping[str, Any]) -> str:
    """The answer for a reader, a few lines."""
    pick, lines = found["pick"], []
    lines.append(
        f"Pick {_name(pick)}, recipe {pick['recipe']}; it trained {pick['epoch']} of {pick['epochs']} epochs."
        + (f" Expected accuracy {_interval(pick['expected'])} (90 % interval)." if pick["expected"] else "")
    )
    lines += _what_is_better(found["against"])
    if pick["expected"]:
        lines.append(_when_to_stop(pick))
    else:
        lines.append(f"It was chosen by {found['chosen_by']}, without labels: how accurate it is cannot be said.")
    if found["doubt"]:
        lines.append(f"Beware: {found['doubt']}.")
    lines += _of_the_runner_up(found["runner_up"])
    if gain := found["twice_the_budget"]:
        lines.append(
            f"Twice the budget: {gain['gain']:+.3f} at a guess, between {gain['low']:+.3f} and {gain['high']:+.3f} in "
            f"nine of ten of {gain['curves']} doublings that finished studies saw."
        )
    lines += _of_baselines(found["against"])
    lines += [
        f"Beware: {known['with']} {'lost to' if known['dropped'] else 'was not ahead of'} the pick here, but in "
        f"finished studies {known['one']} and {known['two']} "
        f"changed places between an early look and the end {known['crossed']} of {known['met']} times."
        for known in found["known_to_cross"]
    ]
    if error := found["own_error"]:
        lines.append(
            f"How wrong this may be: on {error['grids']} finished grids such a search, at "
            f"{error['replayed_share']:.0%} of the whole grid's cost (here {error['share_of_the_whole_grid']:.0%}), "
            f"lost {error['regret']:.3f} to the best cell on average. Intervals learned on other data held "
            f"{error['interval_holds']:.0%} there where 90 % were meant"
            + (f"; so those above are {error['widened']:.1f} times as wide." if pick["expected"] else ".")
        )
    return "\n".join(lines)


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['technique']} on {cell['backbone']}"


def _interval(expected: Mapping[str, float | None]) -> str:
    low, high = ("unknown" if expected[end] is None else f"{expected[end]:.3f}" for end in ("low", "high"))
    return f"{expected['value']:.3f} [{low}, {high}]"


def _when_to_stop(pick: Mapping[str, Any]) -> str:
    best, last = pick["best_epoch"], pick["epoch"]
    at_best, at_last = (pick["held_out"][str(epoch)] for epoch in (best, last))
    if best < last:
        low, _ = statistics.wilson(at_best * pick["held_out_images"], pick["held_out_images"])
        sure = "" if at_last < low else f", which {pick['held_out_images']} images do not tell apart"
        return (
            f"When to stop: at epoch {best}; held-out accuracy was {at_best:.3f} there, {at_last:.3f} at {last}{sure}."
        )
    return f"When to stop: not before epoch {last}; held-out accuracy was still at its best there ({at_last:.3f})."


def _of_the_runner_up(second: Mapping[str, Any] | None) -> list[str]:
    if second is None:
        return ["There is no runner-up: no other candidate was trained."]
    line = f"Runner-up: {_name(second)}, after {second['epoch']} of {second['epochs']} epochs"
    if second["expected"] is None:
        return [f"{line}."]
    line += f", expected {_interval(second['expected'])}."
    if second["chance_better"] is not None:
        line += (
            f" The chance that it is the better one is {second['chance_better']:.0%}; then the pick loses about "
            f"{second['loss_if_better']:.3f}."
        )
    return [line]


TITLES = {
    "imagenet": "ImageNet's weights",
    "supervised": "supervised from scratch",
    "random_init": "the network untrained",
    "pixels": "raw pixels",
}


def _what_is_better(against: Mapping[str, Any]) -> list[str]:
    """What surely does better than the pick, in a line that nobody reads over."""
    better = [title for name, title in TITLES.items() if name in against and _word(against[name]) == "worse"]
    return [f"But better than the pick: {', '.join(better)}; see below."] if better else []


def _word(gap: Mapping[str, Any]) -> str:
    """The pick beside a baseline."""
    difference, half = gap["pick_is_better_by"], gap["half"]
    return "not told apart" if half is None or abs(difference) < half else "better" if difference > 0 else "worse"


def _of_baselines(against: Mapping[str, Any]) -> list[str]:
    if not against:
        return []
    pick = against["pick"]
    lines = [
        f"On {against['test_images']} test images, looked at now: {pick['accuracy']:.3f} [{pick['low']:.3f}, "
        f"{pick['high']:.3f}] at epoch {pick['epoch']}, chosen on held-out labels."
    ]
    for name, title in TITLES.items():
        if name not in against:
            lines.append(f"Against {title}: not known, it could not be had or there was no time.")
            continue
        gap, half = against[name]["pick_is_better_by"], against[name]["half"] or math.nan
        told = f"{gap:+.3f} ± {half:.3f}, {_word(against[name])}"
        if "epochs" in against[name]:
            told += f"; it has seen as many images as {against[name]['epochs']} epochs have"
        lines.append(f"Against {title} ({against[name]['accuracy']:.3f}): {told}.")
    return lines
