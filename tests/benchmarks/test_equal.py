"""Tables of equal seconds: each row in its place, differences by hand."""

import json
import math

import pytest

from benchmarks import equal


@pytest.fixture
def trials(tmp_path):
    def row(technique, backbone, test, seconds=300.0, share=1, **settings):
        key = json.dumps([technique, backbone, seconds, settings])
        cell = {"technique": technique, "backbone": backbone, "seconds": seconds, "seed": 0, "settings": settings}
        return {"key": key, **cell, "share": share, **({} if test is None else {"test": test})}

    rows = [
        row("simclr", "resnet18", None, stem="stock", share=0.5),
        row("simclr", "resnet18", 0.5, stem="stock"),
        row("simclr", "resnet18", 0.4, stem="stock", seconds=60.0),
        row("simclr", "resnet18", 0.3, recipe="paper", batch=256),
        row("simclr", "resnet18", 0.55, stem="stock", small_views=2),
        row("distil", "resnet18", 0.45, teacher="simclr resnet18"),
        row("simclr", "resnet18", 0.2, by="lightly", recipe="cifar10", batch=128),
        row("simclr", "resnet18", 0.52, by="lightly", recipe="imagenette", batch=128),
        row("byol", "squeezenet", 0.25, by="lightly", recipe="cifar10", batch=128),
        {**row("byol", "squeezenet", None, stem="stock"), "failed": True},
    ]
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_every_trial_stands_in_its_place(trials):
    assert equal.paper(trials).splitlines()[2:] == ["| resnet18 | SimCLR | .500 | .300 | +.200 ± .024 |"]
    assert equal.helps(trials).splitlines()[2:] == [
        "| as it is | .500 |",
        "| 2 small views | .550 |",
        "| distilled | .450 |",
        "| 40 px, stem half | – |",
    ]
    assert equal.peer(trials).splitlines()[2:] == [
        "| resnet18 | SimCLR | .500 | .400 | .520 (imagenette) | -.020 ± .025 |",
        "| squeezenet | BYOL | – | – | .250 (cifar10) | – |",
    ]


def test_what_chance_allows_by_hand():
    assert equal.difference(0.5, 0.5) == f"+.000 ± {1.96 * math.sqrt(0.5 / 3000):.3f}".replace("0.", ".")
