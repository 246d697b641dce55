"""The recipe called "paper" of each technique, against what its paper and its authors' code say."""

import pytest

from lilliput import catalog

COMMON = {"lr_per_256": True, "sgd_momentum": 0.9, "nesterov": False, "schedule": "cosine", "warmup": 0} | {
    "decay_vectors": False
}
ALL_DECAYED = {"decay_vectors": True}  # where the authors' code gives SGD all parameters alike
PAPERS = {
    # section 4.1 of the paper: drops at 30, 60 and 80 of 100 epochs; the rate is not scaled with the batch
    "rotnet": {"optimiser": "sgd", "lr": 0.1, "batch": 128, "epochs": 100, "weight_decay": 5e-4, "nesterov": True}
    | {"lr_per_256": False, "schedule": "steps"}
    | ALL_DECAYED,
    "moco_v2": {"optimiser": "sgd", "lr": 0.03, "batch": 256, "epochs": 200, "weight_decay": 1e-4} | ALL_DECAYED,
    "simclr": {"optimiser": "lars", "lr": 0.3, "batch": 4096, "epochs": 100, "weight_decay": 1e-6, "warmup": 10},
    "byol": {"optimiser": "lars", "lr": 0.2, "batch": 4096, "epochs": 1000, "weight_decay": 1.5e-6, "warmup": 10},
    # section 3.3: times 0.1 at 120 and 160 of 200 epochs
    "moco_v1": {"optimiser": "sgd", "lr": 0.03, "batch": 256, "epochs": 200, "weight_decay": 1e-4}
    | {"schedule": "tenths"}
    | ALL_DECAYED,
    # appendix A: 0.2 for weights and 0.0048 for biases and norms, each times batch / 256
    "barlow_twins": {
        "optimiser": "lars",
        "lr": 0.2,
        "batch": 2048,
        "epochs": 1000,
        "weight_decay": 1.5e-6,
        "warmup": 10,
    }
    | {"vector_rate": 0.024},
    "vicreg": {"optimiser": "lars", "lr": 0.2, "batch": 2048, "epochs": 1000, "weight_decay": 1e-6, "warmup": 10},
    "simsiam": {"optimiser": "sgd", "lr": 0.05, "batch": 512, "epochs": 100, "weight_decay": 1e-4} | ALL_DECAYED,
    "fastsiam": {"optimiser": "sgd", "lr": 0.125, "batch": 32, "epochs": 25, "weight_decay": 1e-4},
    # section 4: 4.8 for a batch of 4096
    "swav": {"optimiser": "lars", "lr": 4.8 / 16, "batch": 4096, "epochs": 400, "weight_decay": 1e-6, "warmup": 10},
    # the authors' ResNet-50
    "dino": {"optimiser": "sgd", "lr": 0.03, "batch": 1024, "epochs": 100, "weight_decay": 1e-4, "warmup": 10},
    "sigreg": {"optimiser": "adamw", "lr": 5e-4, "lr_per_256": False, "batch": 256, "epochs": 100}
    | {"weight_decay": 0.05, "beta2": 0.999},
    "jigsaw": {"optimiser": "sgd", "lr": 0.01, "batch": 256, "epochs": 70, "weight_decay": 5e-4}
    | {"lr_per_256": False, "schedule": "steps"},
    "context_prediction": {"optimiser": "sgd", "lr": 1e-3, "batch": 512, "epochs": 100, "weight_decay": 5e-4}
    | {"lr_per_256": False, "sgd_momentum": 0.999},
    "counting": {"optimiser": "sgd", "lr": 1e-4, "batch": 128, "epochs": 200, "weight_decay": 5e-4}
    | {"lr_per_256": False},
    # 450,000 steps of 40 images of 1.28 million
    "colourisation": {"optimiser": "adamw", "lr": 3.16e-5, "batch": 40, "epochs": 14, "weight_decay": 1e-3}
    | {"lr_per_256": False, "beta2": 0.99},
    "inpainting": {"optimiser": "adamw", "lr": 2e-4, "batch": 64, "epochs": 100, "weight_decay": 0.0}
    | {"lr_per_256": False, "beta2": 0.999},
    "distil": {"optimiser": "sgd", "lr": 0.03, "batch": 256, "epochs": 200, "weight_decay": 1e-4} | ALL_DECAYED,  # SEED
}
OPTIONS = {
    "rotnet": {},
    "moco_v2": {"temperature": 0.2, "momentum": 0.999, "queue": 65536, "output": 128, "groups": 8, "norm": False},
    "simclr": {"temperature": 0.1, "strength": 1.0, "output": 128, "decoupled": False},
    "byol": {"tau": 0.996, "hidden": 4096, "output": 256, "norm": False},
    "moco_v1": {"temperature": 0.07, "momentum": 0.999, "queue": 65536, "output": 128},
    "barlow_twins": {"redundancy": 0.005, "hidden": 8192, "output": 8192},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, "hidden": 8192, "output": 8192},
    "simsiam": {"whole_views": 2, "hidden": 2048, "output": 2048, "narrow": 512},
    "fastsiam": {"whole_views": 4, "hidden": 2048, "output": 2048, "narrow": 512},
    "swav": {"prototypes": 3000, "temperature": 0.1, "evenness": 0.05, "output": 128, "small_views": 6},
    "dino": {"momentum": 0.996, "centring": 0.9, "temperature": 0.1, "coldest": 0.04, "warmest": 0.07, "output": 65536},
    "sigreg": {"weight": 0.02, "knots": 17, "directions": 256, "output": 16},
    "jigsaw": {"orders": 1000, "hidden": 4096, "narrow": 512, "grey": 0.3},
    "context_prediction": {"hidden": 4096, "dropped": 1.0},
    "counting": {"margin": 10.0, "hidden": 4096, "output": 1000, "grey": 0.5},
    "colourisation": {"evened": 0.5},
    "inpainting": {"adversarial": 0.0},
    "distil": {"by": "queue", "sharp": 0.01, "temperature": 0.2, "queue": 65536},
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
