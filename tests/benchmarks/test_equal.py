"""Tables of equal seconds: each row in its place, differences by hand."""

import json
import math

import pytest

from benchmarks import equal, levers
from benchmarks.levers import own_settings


@pytest.fixture
def trials(tmp_path):
    def row(lever, technique, backbone, test, seconds=300.0, seed=0, size=64, share=1):
        settings = own_settings(technique, backbone, levers.LEVERS[lever])
        cell = {"technique": technique, "backbone": backbone, "seconds": seconds, "seed": seed, "settings": settings}
        return {"key": "k", **cell, "size": size, "share": share, **({} if test is None else {"test": test})}

    cifar10, imagenette = "lightly, cifar10", "lightly, imagenette"
    rows = [
        row("as it is", "simclr", "resnet18", 0.9, share=0.5),
        row("as it is", "simclr", "resnet18", 0.1),
        row("as it is", "simclr", "resnet18", 0.45),  # the same once more
        row("as it is", "simclr", "resnet18", 0.55, seed=1),
        row("as it is", "simclr", "resnet18", 0.4, seconds=60.0),
        row("as it is", "simclr", "resnet18", 0.9, size=40),
        row("sgd", "simclr", "resnet18", 0.9),
        row("half", "simclr", "resnet18", 0.9),
        row("half, batch 64", "simclr", "resnet18", 0.9, size=40),
        row("paper, batch 256", "simclr", "resnet18", 0.3),
        row("2 small views", "simclr", "resnet18", 0.55),
        row("distilled", "distil", "resnet18", 0.45),
        row("half", "simclr", "resnet18", 0.35, size=40),
        row(cifar10, "simclr", "resnet18", 0.2),
        row(cifar10, "simclr", "resnet18", 0.9, seconds=60.0),
        row("lightly, cifar10, batch 32", "simclr", "resnet18", 0.9),
        row(imagenette, "simclr", "resnet18", 0.50),
        row(imagenette, "simclr", "resnet18", 0.54, seed=1),
        row(cifar10, "byol", "squeezenet", 0.25),
        {**row("as it is", "byol", "squeezenet", None), "failed": True},
    ]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_every_trial_stands_in_its_place(trials):
    assert equal.paper(trials).splitlines()[2:] == ["| resnet18 | SimCLR | .500 | .300 | +.200 ± .024 |"]
    assert equal.helps(trials).splitlines()[2:] == [
        "| as it is | .500 |",
        "| 2 small views | .550 |",
        "| distilled | .450 |",
        "| 40 px, stem half | .350 |",
    ]
    assert equal.peer(trials).splitlines()[2:] == [
        "| resnet18 | SimCLR | .500 | .400 | .520 (imagenette) | -.020 ± .025 |",
        "| squeezenet | BYOL | – | – | – | – |",  # one of lightly's two is not there
    ]


def test_what_chance_allows_by_hand():
    assert equal.difference(0.5, 0.5) == f"+.000 ± {1.96 * math.sqrt(0.5 / 3000):.3f}".replace("0.", ".")
