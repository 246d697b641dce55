"""Several processes that have a batch together are as one process that has all of it."""

import inspect

import pytest
import torch

from lilliput import catalog
from tests.training.together import Case, steps_of, together

TECHNIQUES = catalog.names("techniques")
USUAL = [Case(name, {"margin": 1e3} if name == "counting" else ()) for name in TECHNIQUES]
OPTIONS = (
    Case("simclr", {"small_views": 2}),
    Case("simclr", {"decoupled": False}),
    Case("byol", {"small_views": 2, "norm": False}),
    Case("moco_v2", {"small_views": 2}),
    Case("moco_v2", {"groups": 1, "norm": False}),
    Case("moco_v2", {"groups": 4, "queue": 6, "small_views": 3}),
    Case("moco_v1", {"groups": 8}),
    Case("swav", {"queue": 8, "from_share": 0.0}),
    Case("swav", {"queue": 12, "from_share": 0.0, "small_views": 0}),
    Case("dino", {"small_views": 0}),
    Case("distil", {"by": "regression"}),
    Case("distil", {"by": "relations"}),
    Case("distil", {"queue": 5}),
    Case("sigreg", {"whole_views": 4}),
    Case("simsiam", {"whole_views": 3}),
    Case("context_prediction", {"pairs": 3}),
    Case("inpainting", {"adversarial": 0.5}),
    Case("jigsaw", {"grey": 1.0}),
    # one step: batch norm over the few places of their last maps makes of rounding a hundredth in three
    Case("simclr", backbone="resnet18", steps=1),
    Case("byol", backbone="mobilenetv3_small_100", steps=1),  # an activation fused into batch norm
)
BUGS = [
    case._replace(steps=1)
    for case in (
        Case("simclr", bug="gradients that are not summed over the processes"),
        Case("vicreg", bug="gradients that are not summed over the processes"),
        Case("byol", bug="gradients that are not summed over the processes"),  # those of batch norm
        Case("rotnet", bug="an average taken twice"),
        Case("rotnet", bug="gradients that are not averaged"),
        Case("byol", bug="batch norm of each process"),
        Case("simclr", bug="views gathered as one"),
        Case("moco_v2", bug="gathered in another order"),
        *(
            Case(name, options, bug=f"each by itself: {name}")
            for name, options in (
                ("simclr", ()),
                ("simclr", {"small_views": 2}),
                ("barlow_twins", ()),
                ("vicreg", ()),
                ("sigreg", ()),
                ("swav", ()),
                ("dino", ()),
                ("distil", ()),
                ("distil", {"by": "relations"}),
                ("colourisation", ()),
                ("split_brain", ()),
                ("inpainting", ()),
                ("counting", {"margin": 1e3}),  # so wide that other images count
            )
        ),
    )
]


QUICK = [  # batch norm, targets, what is gathered and dealt out, statistics; and the bugs of which most was heard
    Case("byol", steps=2),
    Case("simclr", {"small_views": 2}, steps=2),
    Case("moco_v2", {"queue": 6}, steps=2),
    Case("swav", {"queue": 8, "from_share": 0.0}, steps=2),
    Case("inpainting", steps=2),
    *(case for case in BUGS if case.technique in ("simclr", "byol", "rotnet") and not case.options),
]


def differences(case, outcomes):
    """What differs from the outcome of one process by more than rounding, or between processes by a bit."""
    expected = steps_of(case._replace(bug=""))
    found = []
    for what in expected._fields:
        wanted = getattr(expected, what)
        # what is zero but for rounding, such as the gradient of a bias before batch norm, is as small as that of all
        whole = torch.stack([value.double().square().mean() for value in wanted.values()]).mean().sqrt()
        for outcome in outcomes:
            given, first = getattr(outcome, what), getattr(outcomes[0], what)
            assert given.keys() == wanted.keys()
            for name, value in wanted.items():
                size = value.double().square().mean().sqrt()
                gap = (given[name].double() - value.double()).square().mean().sqrt()
                if gap > 3e-4 * size + 1e-5 * whole or not torch.equal(given[name], first[name]):
                    found.append(f"{what} {name}: {gap / size:.2g}")
    return found


def all_differences(size, cases, folder):
    """Of each case, by its name."""
    found = together(size, cases, folder)
    return {case.name: differences(case, [of_one[case.name] for of_one in found]) for case in cases}


def test_two_processes_take_the_steps_of_one_but_for_what_others_have_shipped(tmp_path):
    found = all_differences(2, QUICK, tmp_path)
    assert {case.name: bool(found[case.name]) for case in QUICK} == {case.name: bool(case.bug) for case in QUICK}


@pytest.mark.heavy
def test_what_others_have_shipped_is_seen(tmp_path):
    found = all_differences(2, BUGS, tmp_path)
    assert [name for name, differing in found.items() if not differing] == []


def test_the_bugs_take_from_every_technique_what_it_exchanges():
    known = {case.technique for case in BUGS if "itself" in case.bug} | {"moco_v2"}
    modules = {name: inspect.getmodule(catalog.technique(name)) for name in TECHNIQUES}
    exchanging = {name for name, module in modules.items() if {"gather", "total", "distributed"} & set(vars(module))}
    assert exchanging == known


@pytest.mark.heavy
@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_take_the_steps_of_one_whatever_the_options(size, tmp_path):
    cases = [*USUAL, *OPTIONS]
    assert all_differences(size, cases, tmp_path) == {case.name: [] for case in cases}
