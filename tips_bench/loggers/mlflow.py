"""MLflow: the server that MLFLOW_TRACKING_URI names, else a database in the store of runs.

mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tips_bench.loggers.base import kept_id

_PARAMS_AT_ONCE = 100  # MLflow takes no more in one call
_LONGEST = 500  # characters of a parameter, in all of its stores


class MlflowLogger:
    """As `base.Logger`. Settings are the parameters of the run, as it began: MLflow lets none of them change."""

    package = "mlflow"

    def __init__(self, folder: Path, store: Path, *, project: str, name: str, settings: Mapping[str, Any], step: int) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.absolute() / 'mlflow.db'}")
        self.id = kept_id(folder, "mlflow", lambda: self._new_run(project, name, settings))
        self.client.update_run(self.id, status="RUNNING")

    def _new_run(self, project: str, name: str, settings: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        found = self.client.get_experiment_by_name(project)
        experiment = self.client.create_experiment(project) if found is None else found.experiment_id
        run = self.client.create_run(experiment, run_name=name).info.run_id
        params = [Param(key, str(value)[:_LONGEST]) for key, value in settings.items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self.client.log_batch(run, params=params[start : start + _PARAMS_AT_ONCE])
        return run

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One value for each name."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(_allowed(name), float(value), now, step) for name, value in values.items()])

    def close(self) -> None:
        """The run is said to have ended; it can be taken up again."""
        self.client.set_terminated(self.id)


def _allowed(name: str) -> str:
    """The name of a metric with what MLflow takes: letters, digits and _-.: /"""
    return re.sub(r"[^\w\-.: /]", "_", name)
