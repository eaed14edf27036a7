"""Trials that sleep, by Ray Tune and MLflow alone, as their documentation has it: what scheduling.py compares with.

Standard input: slots, and seconds of each trial. Output: when it was launched, and each trial's process and times.
"""

import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from typing import Any

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback


def sleep(config: dict[str, float]) -> None:
    began = time.time()
    time.sleep(config["seconds"])
    tune.report({"loss": 0.0, "process": str(os.getpid()), "began": began, "ended": time.time()})


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        # `local`, or Ray would join whatever cluster it finds on the machine.
        ray.init("local", num_cpus=asked["slots"], include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        tuner = tune.Tuner(
            tune.with_resources(sleep, {"cpu": 1}),
            param_space={"seconds": tune.grid_search(asked["seconds"])},
            run_config=tune.RunConfig(
                storage_path=f"{folder}/tune",
                verbose=0,
                callbacks=[MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="sleepers")],
            ),
        )
        launched = time.time()
        slept = [{name: result.metrics[name] for name in ("process", "began", "ended")} for result in tuner.fit()]
        ray.shutdown()
    print(json.dumps({"launched": launched, "slept": slept}))


if __name__ == "__main__":
    main()
