"""Nothing is timed beside other work."""

import time

import psutil

IDLE, WATCHED = 5.0, 3.0  # per cent of the cores at work below which nothing runs beside, and for how many seconds


def wait_until_idle() -> None:
    """Return once the machine's cores had nothing to do for a while."""
    while (busy := psutil.cpu_percent(WATCHED)) > IDLE:
        print(f"{busy:.0f} % of the cores are at work: waiting for an idle machine", flush=True)
        time.sleep(10 * WATCHED)
