"""Where the jobs of a study run: an engine for each kind of place, behind one contract.

`processes` shares them out on this machine, `ray` over a cluster of Ray's, `slurm` by the queue of a site.
"""

from collections.abc import Mapping
from typing import Any

from lilliput.errors import BadSetting
from lilliput.studies.engines._engine import Engine, Event, Finished, Jobs, Needs, Started, Work
from lilliput.studies.engines.processes import Processes, usual_size
from lilliput.studies.engines.ray import Ray
from lilliput.studies.engines.slurm import Slurm

__all__ = ["Engine", "Event", "Finished", "Jobs", "Needs", "Processes", "Ray", "Slurm", "Started", "Work", "engine_of"]


def engine_of(
    on: str | Engine | None,
    *,
    workers: int | None = 1,
    device: str | None = None,
    resources: Mapping[str, Any] | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Engine:
    """The engine itself, or what is called so: "ray", "ray://ADDRESS", "slurm"; None for processes of this machine.

    `workers`: so many processes here, None for what suits the machine. `resources`: what each job gets elsewhere.
    `slurm`: what the site asks for. BadSetting where there is no such engine, or its library is not installed.
    """
    if isinstance(on, Engine):
        return on
    if slurm and on != "slurm":
        raise BadSetting("--slurm says what a queue is asked for: it goes with --on slurm")
    if on is None:
        if resources:
            raise BadSetting("--resources says what a job gets elsewhere: it goes with --on ray or --on slurm")
        return Processes(workers or usual_size(device))
    if on == "slurm":
        return Slurm({**(resources or {}), **(slurm or {})})
    if on == "ray" or on.startswith("ray://"):
        return Ray(None if on == "ray" else on, Needs.of(resources or {}))
    raise BadSetting(f"--on {on!r} is none of ray, ray://HOST:PORT, slurm; leave it out for this machine")
