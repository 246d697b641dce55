"""What a run may use of this machine and whom it tells, as the user said it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from lilliput.system.plan import choose


@dataclass(frozen=True)
class Resources:
    """A device, what of the plan is fixed by hand, whose electricity it is, which share of the machine; trackers."""

    device: str | None = None  # None: the best there is, or what an interrupted run was begun on
    plan: Mapping[str, Any] = field(default_factory=dict)  # fields of a Plan
    country: str = "USA"  # three letters, for the CO2
    share: float = 1.0  # of the machine's energy, where several work side by side
    track: tuple[str, ...] = ()  # trackers of experiments that hear of its figures

    def checked(self) -> Self:
        """These; BadSetting where the device or the plan cannot be had here."""
        choose(self.device, self.plan)
        return self
