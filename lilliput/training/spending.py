"""What a run spends: seconds, kWh and grams of CO2, those of before it was interrupted counted in."""

import math
import time
from collections.abc import Mapping

from lilliput.system.cost import EnergyMeter

SPENT = ("total_seconds", "machine_seconds", "kwh", "grams_co2")


class Spending:
    """Counts from when it was made, on top of what was spent `before`. `stop` it in the end.

    Where it is not `measured`, as in all but the first of several processes, energy is unknown.
    """

    def __init__(self, country: str, share: float, before: Mapping[str, float], *, measured: bool = True):
        self.before = {name: before.get(name, 0.0) for name in SPENT}
        self.share = share
        self.meter = EnergyMeter(country, share=share) if measured else None
        self.began = time.perf_counter()

    def so_far(self) -> dict[str, float]:
        """By the names of SPENT; `machine_seconds` are those of a whole machine, of which a worker has a share."""
        kwh, grams = self.meter.read() if self.meter else (math.nan, math.nan)
        seconds = time.perf_counter() - self.began
        now = {"total_seconds": seconds, "machine_seconds": self.share * seconds, "kwh": kwh, "grams_co2": grams}
        return {name: self.before[name] + now[name] for name in SPENT}

    def stop(self) -> None:
        if self.meter:
            self.meter.stop()


def whole_seconds(row: dict) -> dict:
    """A row of the log with its `machine_seconds`, which an older Lilliput did not tell from `total_seconds`."""
    return {"machine_seconds": row["total_seconds"], **row}
