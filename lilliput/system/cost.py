"""What a run costs: seconds, parameters, multiply-adds, memory, kWh, grams of CO2.

Energy by codecarbon in its offline mode. Beside it the ML Impact estimate, hours x TDP x grid intensity: Lacoste et
al. 2019, https://arxiv.org/abs/1910.09700.
"""

import gc
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lilliput.errors import BadSetting
from lilliput.system.machine import peak_bytes, reset_peak
from lilliput.system.modes import evaluating
from lilliput.system.progress import say

WATTS = 250.0  # TDP of the Tesla P100, on which the study that we follow was run
GRAMS_PER_KWH = 420.0  # the grid intensity that it assumes


def parameters(module: nn.Module) -> int:
    """How many numbers the module learns or could."""
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def multiply_adds(encoder: nn.Module, size: int) -> int:
    """Multiply-adds of one image [3, size, size] through the encoder; papers often call this number FLOPs."""
    image = torch.zeros(1, 3, size, size, device=next(encoder.parameters()).device)
    with evaluating(encoder), FlopCounterMode(display=False) as counter:
        encoder(image)
    return counter.get_total_flops() // 2


def multiply_adds_or_none(encoder: nn.Module, size: int) -> int | None:
    """As multiply_adds; None where the network does not take that size."""
    try:
        return multiply_adds(encoder, size)
    except (AssertionError, RuntimeError, ValueError):
        return None


def sizes(encoder: nn.Module, image_size: int) -> dict[str, int | None]:
    """The columns that tell how large an encoder is: parameters, multiply-adds at its image size and at 224 px."""
    return {
        "parameters": parameters(encoder),
        "multiply_adds": multiply_adds(encoder, image_size),
        "multiply_adds_224": multiply_adds_or_none(encoder, 224),
    }


def ml_impact_grams(seconds: float, *, watts: float = WATTS, grams_per_kwh: float = GRAMS_PER_KWH) -> float:
    """Grams of CO2 of so many seconds at full power, by the ML Impact formula."""
    return seconds / 3600 * watts / 1000 * grams_per_kwh


def reset_peak_memory(device: str) -> None:
    """Start counting anew, where the system can."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    gc.collect()
    reset_peak()


def peak_memory_mib(device: str) -> float:
    """MiB, the highest use since the last reset: of the accelerator if one computes, else of the process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_bytes() / 2**20


def check_country(country: str) -> None:
    """BadSetting unless there are figures on this country's electricity."""
    from codecarbon.input import DataSource

    if country not in DataSource().get_global_energy_mix_data():
        raise BadSetting(f"no energy figures for country {country!r}; give an ISO code of three letters like DEU")


class EnergyMeter:
    """Energy and CO2 since it was made, of this machine while it computes. `stop` it in the end.

    `share`: the part of the machine that the work has, where several run side by side; too small while one runs alone.

    Nothing is sent or looked up, whatever the user's configuration of codecarbon says: its offline mode with its own
    tables. A machine without power counters is estimated from its processor's model.
    """

    def __init__(self, country: str = "USA", *, share: float = 1.0):
        self.share = share
        self.total = _Total()
        self.tracker: Any = None
        with self._unknown_where_it_fails():
            self.tracker = _started(country, self.total)

    def read(self) -> tuple[float, float]:
        """kWh and grams of CO2 so far; not-a-number where they are unknown."""
        with self._unknown_where_it_fails():
            if self.tracker:
                self.tracker.flush()
        if self.tracker is None:
            return math.nan, math.nan
        return self.total.kwh * self.share, self.total.grams * self.share

    def stop(self) -> None:
        with self._unknown_where_it_fails():
            if self.tracker:
                self.tracker.stop()

    @contextmanager
    def _unknown_where_it_fails(self) -> Iterator[None]:
        """To measure may fail, aloud, and costs nothing else."""
        try:
            yield
        except Exception as error:  # another library's, of any kind
            self.tracker = None
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            say(f"energy and CO2 are unknown: codecarbon failed ({reason})")


def _started(country: str, total: "_Total") -> Any:
    """codecarbon's tracker at work, without what the user has configured for other work."""
    from codecarbon import OfflineEmissionsTracker, emissions_tracker  # seconds of imports, only where it measures

    logging.getLogger("codecarbon").disabled = True  # it speaks before it hears of a log level
    usual, emissions_tracker.get_hierarchical_config = emissions_tracker.get_hierarchical_config, dict
    try:
        tracker = OfflineEmissionsTracker(
            country_iso_code=country,
            measure_power_secs=5,
            log_level="critical",
            allow_multiple_runs=True,
            tracking_mode="machine",
            output_handlers=[total],
            api_call_interval=-1,
            output_methods=[],
            emissions_endpoint=None,
            electricitymaps_api_token="",  # None: takes its older name
        )
    finally:
        emissions_tracker.get_hierarchical_config = usual
    if not hasattr(tracker, "_total_energy"):  # it hides what went wrong as it was made
        raise RuntimeError("it could not be set up")
    tracker.start()
    return tracker


class _Total:
    """What codecarbon says when it is asked: an output of its, as codecarbon.output.BaseOutput describes them.

    No subclass of it, as that would import codecarbon wherever costs are counted.
    """

    kwh = 0.0
    grams = 0.0

    def out(self, total: Any, _since_last: Any) -> None:
        self.kwh, self.grams = float(total.energy_consumed), 1000 * total.emissions

    def exit(self) -> None:
        """Nothing is open."""
