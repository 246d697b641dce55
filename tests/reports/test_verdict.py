"""The verdict: what leads, what is too close to it, and what has learned nothing."""

import pandas as pd

from lilliput.reports.verdict import verdict


def rows(values, **costs):
    """A row for each (technique, backbone): accuracy."""
    base = {"seed": 0, "epoch": 10, "probe": "linear", "multiply_adds": 1e6, "seconds": 60.0}
    return pd.DataFrame(
        [
            {**base, "technique": t, "backbone": b, "metric": m, "value": v, **costs.get(b, {})}
            for (t, b), v in values.items()
            for m in ("accuracy", "held_out_accuracy")
        ]
    )


def test_the_verdict_tells_a_clear_winner_from_one_too_close_to_call():
    clear = rows({("simclr", "resnet18"): 0.8, ("byol", "resnet18"): 0.6, ("random_init", "resnet18"): 0.3})
    said = " ".join(verdict(clear, test_images=1000, seeds=1))
    assert said.startswith("SimCLR on resnet18 is the most accurate: .800 ± .025")
    assert "No other of the 2 cells" in said and "Every cell is above its untrained network" in said
    close = rows(
        {("simclr", "resnet18"): 0.80, ("byol", "shufflenet_v2"): 0.79, ("random_init", "shufflenet_v2"): 0.785},
        resnet18={"multiply_adds": 1e9},
    )
    said = " ".join(verdict(close, test_images=1000, seeds=1))
    assert "Too close to call: 1 of the other 1" in said and "BYOL on shufflenet_v2 is not told apart" in said
    assert "Not shown to have learned anything: 1 cells" in said
    assert verdict(close[:0], test_images=1000, seeds=1) == ["Nothing has been pretrained and judged yet."]
