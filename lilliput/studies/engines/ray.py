"""Ray: every job a task that takes its share of a cluster's processors, accelerators and memory.

Moritz et al., OSDI 2018, https://arxiv.org/abs/1712.05889; https://docs.ray.io. Tasks belong to the driver and die
with it; what they have saved stays, and the next driver goes on from there.
"""

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, final

from lilliput.errors import BadSetting, wanted
from lilliput.studies.engines._away import Look, Order, carry_out, environment, look, token_in
from lilliput.studies.engines._engine import DEATHS, Engine, Event, Finished, Jobs, Needs, Started
from lilliput.system import signals
from lilliput.system.progress import Board, Message, say
from lilliput.system.visible import counted

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 60.0  # from a signal that asks until what still runs is killed
BEGUN = ""  # what a task says first


@final
class Ray(Engine):
    """A cluster that runs already, or one of this machine that ends with this process."""

    is_here = False

    def __init__(self, address: str | None, needs: Needs):
        """`address`: ray://HOST:PORT of a cluster elsewhere; None for that of $RAY_ADDRESS, or of this machine."""
        self.ray, self.address, self.needs = wanted("ray", extra="ray"), address, needs
        self.workers = 1

    @contextmanager
    def opened(self) -> Iterator[Self]:
        is_ours = not self.ray.is_initialized()
        if is_ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
            try:
                self.ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            except Exception as error:
                where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
                raise BadSetting(f"no Ray at {where} ({error}); start one there: ray start --head") from None
        try:
            self.workers = self._room()
            yield self
        finally:
            if is_ours:
                self.ray.shutdown()

    def _room(self) -> int:
        """Jobs at once, as the cluster is now; what each gets is said, and where it is more than any machine has."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        needs = {"CPU": self.needs.cpus, "GPU": self.needs.gpus, "memory": (self.needs.memory_gib or 0) * 2**30}
        room = sum(
            min(int(node.get(name, 0) / amount) for name, amount in needs.items() if amount > 0) for node in nodes
        )
        have = ", ".join(f"{sum(node.get(name, 0) for node in nodes):g} {name}s" for name in ("CPU", "GPU"))
        say(f"Ray: {counted(len(nodes), 'machine(s)')} with {have}; each job gets {self.needs}, so {room} at once")
        if not room:
            say("no machine has that now: jobs wait until one that has it joins the cluster")
        return max(1, room)

    def run(self, jobs: Jobs, make_shop: Callable[[], Any], board: Board, folder: Path) -> Iterator[Event]:
        try:
            if jobs:
                yield from self._run([Order.of(*job, make_shop, self.needs.threads) for job in jobs], board, folder)
        finally:
            board.close()

    def _run(self, orders: list[Order], board: Board, folder: Path) -> Iterator[Event]:
        self._refuse_blind(folder, orders[0].make_shop)
        tasks = _Tasks(self.ray, self.needs, board)
        try:
            for order in orders:
                tasks.submit(order)
            yield from tasks.events()
        finally:
            tasks.kill()

    def _refuse_blind(self, folder: Path, make_shop: bytes) -> None:
        """BadSetting where a machine of the cluster does not see the study; locks that it does not see are told."""
        affinity = wanted("ray.util.scheduling_strategies", extra="ray").NodeAffinitySchedulingStrategy
        options = {"num_cpus": 0, "max_retries": 0, "runtime_env": {"env_vars": environment()}}
        looking = self.ray.remote(look)
        places = [
            affinity(node["NodeID"], soft=False)
            for node in self.ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU")
        ]
        with token_in(folder) as token:
            asked = [looking.options(**options, scheduling_strategy=place).remote(token, make_shop) for place in places]
            looks: list[Look] = self.ray.get(asked)
        if blind := [seen for seen in looks if seen.hindrance]:
            raise BadSetting(blind[0].hindrance)
        if unlocked := sorted({seen.host for seen in looks if not seen.sees_locks}):
            say(f"{', '.join(unlocked)}: no locks of other machines are seen in {folder}; start one driver at a time")


class _Tasks:
    """What a driver has with Ray: a task for each job that has not ended, and an actor that hears what they say."""

    def __init__(self, ray: Any, needs: Needs, board: Board):
        memory = int(needs.memory_gib * 2**30) if needs.memory_gib else None
        share = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": memory}
        # of a worker's death the next order tells, so it is not Ray that tries again
        self.options = {**share, "max_retries": 0, "runtime_env": {"env_vars": environment()}}
        self.task = ray.remote(_work)
        self.ear = ray.remote(_Ear).options(num_cpus=0, max_restarts=-1).remote()
        self.ray, self.board, self.stopping = ray, board, False
        self.orders: dict[Any, Order] = {}  # by the reference of their task
        self.started: dict[str, int] = {}  # the jobs that have begun, and the number of each on the board
        self.deaths: Counter[str] = Counter()

    def submit(self, order: Order) -> None:
        self.orders[self.task.options(**self.options, name=order.name).remote(order, self.ear)] = order

    def events(self) -> Iterator[Event]:
        """Until the last task has ended, or was stopped."""
        waited = 0.0
        while self.orders:
            if signals.asked() and not self.stopping:
                self.stopping = True
                for task in self.orders:
                    self.ray.cancel(task)  # as Ctrl-C would: those that run save what they have
            ready, _ = self.ray.wait(list(self.orders), timeout=SECONDS_BETWEEN_LOOKS)
            yield from self._heard()
            for task in ready:
                yield from self._ended(task)
            waited += SECONDS_BETWEEN_LOOKS if self.stopping and not ready else 0.0
            if waited >= SECONDS_TO_STOP:
                break
        yield from self._heard()

    def _heard(self) -> Iterator[Event]:
        try:
            said = self.ray.get(self.ear.take.remote())
        except self.ray.exceptions.RayError:  # its machine is gone; another ear is opened elsewhere
            return
        in_hand = {order.name for order in self.orders.values()}
        for name, message in said:
            if message == BEGUN and name in in_hand:
                self.started.setdefault(name, len(self.started))
                yield Started(name)
            elif message and (name in in_hand or isinstance(message, str)):
                self.board.hear(self.started.get(name), message)

    def _ended(self, task: Any) -> Iterator[Event]:
        order, errors = self.orders.pop(task), self.ray.exceptions
        name = order.name
        try:
            event: Finished | None = self.ray.get(task)
        except errors.TaskCancelledError:
            event = Finished(name, True, 0.0, stopped=True) if name in self.started else None
        except errors.RayTaskError as error:  # ours, before the job began
            event = Finished(name, True, 0.0, " ".join(str(error.cause).split()), str(error))
        except errors.RayError as error:
            event = self._died(order, f"its worker died ({type(error).__name__})")
        self.board.rest(self.started.get(name))
        if event and name not in self.started:  # what it said is lost
            yield Started(name)
        if event:
            yield event

    def _died(self, order: Order, why: str) -> Finished | None:
        """None where another task goes on with it."""
        self.deaths[order.name] += 1
        if self.stopping:
            return Finished(order.name, True, 0.0, stopped=True)
        if self.deaths[order.name] >= DEATHS:
            return Finished(order.name, True, 0.0, f"{why}, {DEATHS} times")
        say(f"{order.name}: {why}; another worker goes on with it")
        self.submit(order.after_a_death())
        return None

    def kill(self) -> None:
        for task in self.orders:
            self.ray.cancel(task, force=True)  # files are written whole or not at all
        self.ray.kill(self.ear)


class _Ear:
    """Keeps what the workers say until the driver asks."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Message]] = []

    def tell(self, name: str, message: Message) -> None:
        self.said.append((name, message))

    def take(self) -> list[tuple[str, Message]]:
        said, self.said = self.said, []
        return said


def _work(order: Order, ear: Any) -> Finished:
    """A task. Ray cancels by what Ctrl-C does; nobody waits for what is said."""
    signals.obey(signal.SIGINT)

    def send(message: Message) -> None:
        ear.tell.remote(order.name, message)

    send(BEGUN)
    return carry_out(order, send)
