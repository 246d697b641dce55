"""The recipe called "paper" of each technique, against what its paper and its authors' code say."""

import pytest

from lilliput import catalog

COMMON = {"lr_per_256": True, "sgd_momentum": 0.9, "nesterov": False, "schedule": "cosine", "warmup": 0}
PAPERS = {
    # section 4.1 of the paper: drops at 30, 60 and 80 of 100 epochs; the rate is not scaled with the batch
    "rotnet": {"optimiser": "sgd", "lr": 0.1, "batch": 128, "epochs": 100, "weight_decay": 5e-4, "nesterov": True}
    | {"lr_per_256": False, "schedule": "steps"},
    "moco_v2": {"optimiser": "sgd", "lr": 0.03, "batch": 256, "epochs": 200, "weight_decay": 1e-4},
    "simclr": {"optimiser": "lars", "lr": 0.3, "batch": 4096, "epochs": 100, "weight_decay": 1e-6, "warmup": 10},
    "byol": {"optimiser": "lars", "lr": 0.2, "batch": 4096, "epochs": 1000, "weight_decay": 1.5e-6, "warmup": 10},
}
OPTIONS = {
    "rotnet": {},
    "moco_v2": {"temperature": 0.2, "momentum": 0.999, "queue": 65536, "output": 128, "groups": 8, "norm": False},
    "simclr": {"temperature": 0.1, "strength": 1.0, "output": 128, "decoupled": False},
    "byol": {"tau": 0.996, "hidden": 4096, "output": 256, "norm": False},
}


@pytest.mark.parametrize("technique", PAPERS)
def test_the_papers_recipe_is_the_papers(technique):
    recipe = catalog.technique(technique).paper
    assert {name: getattr(recipe, name) for name in {*COMMON, *PAPERS[technique]}} == COMMON | PAPERS[technique]
    defaults = {option.name: option.default for option in catalog.entry("techniques", technique).options}
    assert defaults | recipe.options == defaults | OPTIONS[technique]


@pytest.mark.parametrize(("epochs", "lr", "tau"), [(40, 0.45, 0.97), (100, 0.45, 0.99), (300, 0.3, 0.99)])
def test_byols_shorter_trainings_are_those_of_the_authors_code(epochs, lr, tau):
    """deepmind-research/byol/configs/byol.py."""
    preset = catalog.technique("byol").paper.presets[epochs]
    assert preset == {"lr": lr, "weight_decay": 1e-6, "options": {"tau": tau}}
