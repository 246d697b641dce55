"""MLflow: to the server or file that MLFLOW_TRACKING_URI names, else where the library keeps runs by itself: mlflow.db
in the working folder.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from typing import final

from lilliput.system.files import home
from lilliput.system.locks import locked
from lilliput.tracking._tracker import PROJECT, About, Tracker

LONGEST = 500  # characters of a parameter that every store takes


@final
class MLflow(Tracker):
    """By its client alone: what else of the program uses MLflow keeps its active run."""

    def __init__(self, about: About, run: str | None):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        for name in ("mlflow", "alembic"):  # they tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        self.metric = Metric
        home().mkdir(parents=True, exist_ok=True)
        with locked(home()):  # two workers that make the same new database get in each other's way
            self.client = MlflowClient()
            self.run = run or self._begun(about)
        self.client.update_run(self.run, status="RUNNING")

    def _begun(self, about: About) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        run = self.client.create_run(experiment, run_name=about.name).info.run_id
        for key, value in about.settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self.client.log_param(run, key, text[:LONGEST])
        return run

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self.client.log_batch(self.run, [self.metric(name, value, now, epoch) for name, value in figures.items()])

    def close(self) -> None:
        self.client.set_terminated(self.run)


open_run = MLflow
