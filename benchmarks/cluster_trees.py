"""Whether LightGBM should train one model on several workers.

Run as `OMP_WAIT_POLICY=passive python -m benchmarks.cluster_trees`.

A million rows of 20 columns are learnt with the same parameters by one process, with one thread and with two, and by
LightGBM's own distributed training (`lightgbm.dask`) on two Dask workers with one thread each, on this machine. Printed
are the CPU time of all processes, the time that passed, the AUC on other rows, and whether the trees are those of one
process. docs/scaling.md has the figures.
"""

import hashlib
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import dask.array
import distributed
import lightgbm
import numpy as np
import numpy.typing as npt
import psutil
from lightgbm.dask import DaskLGBMClassifier
from sklearn.metrics import roc_auc_score

ROWS, JUDGES, COLUMNS, PARTS = 1_000_000, 200_000, 20, 8
PARAMETERS = {
    "n_estimators": 50,
    "num_leaves": 31,
    "learning_rate": 0.1,
    "seed": 42,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
Floats = npt.NDArray[np.float64]


@dataclass
class Line:
    """What a way of training cost and gave."""

    way: str
    cpu: float = 0.0
    wall: float = 0.0
    auc: float = 0.0
    trees: str = field(default="", repr=False)


def table(rows: int, seed: int) -> tuple[Floats, npt.NDArray[np.int_]]:
    """Columns of which half matter, two of them together."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, COLUMNS))
    strength = X[:, :8] @ np.linspace(1, 0.2, 8) + X[:, 8] * X[:, 9] - 1
    return X, (random.random(rows) < 1 / (1 + np.exp(-strength))).astype(int)


@contextmanager
def measured(way: str, processes: list[psutil.Process]) -> Iterator[Line]:
    """Time that passes and CPU time of this process and others."""

    def cpu() -> float:
        own = resource.getrusage(resource.RUSAGE_SELF)
        return own.ru_utime + own.ru_stime + sum(sum(process.cpu_times()[:2]) for process in processes)

    line = Line(way)
    before, began = cpu(), time.perf_counter()
    yield line
    line.cpu, line.wall = cpu() - before, time.perf_counter() - began


def main() -> None:
    if os.environ.get("OMP_WAIT_POLICY") != "passive":  # read when LightGBM is loaded: threads that wait would spin
        raise SystemExit("Set OMP_WAIT_POLICY=passive.")
    X, y = table(ROWS, 1)
    judges, truth = table(JUDGES, 2)
    lines = []

    def note(line: Line, booster: lightgbm.Booster) -> None:
        line.auc = float(roc_auc_score(truth, booster.predict(judges)))
        text = booster.model_to_string().partition("\nparameters:")[0]
        line.trees = hashlib.sha256(text.partition("Tree=0")[2].encode()).hexdigest()
        lines.append(line)
        same = "yes" if line.trees == lines[0].trees else "no"
        print(f"| {line.way} | {line.cpu:.1f} | {line.wall:.1f} | {line.auc:.5f} | {same} |", flush=True)

    print("| training | CPU, s | time, s | AUC | same trees as in the first line |\n|---|---|---|---|---|")
    for threads in (1, 2):
        with measured(f"one process, {threads} thread(s)", []) as line:
            model = lightgbm.LGBMClassifier(**PARAMETERS, n_jobs=threads).fit(X, y)
        note(line, model.booster_)

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit="3GB", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = [psutil.Process(pid) for pid in client.run(lambda: psutil.Process().pid).values()]
        rows = ROWS // PARTS
        dask_X = client.persist(dask.array.from_array(X, chunks=(rows, COLUMNS)))
        dask_y = client.persist(dask.array.from_array(y, chunks=rows))
        distributed.wait([dask_X, dask_y])
        for tree_learner in ("data", "voting"):
            with measured(f"two workers, {tree_learner} parallel", workers) as line:
                model = DaskLGBMClassifier(**PARAMETERS, client=client, tree_learner=tree_learner).fit(dask_X, dask_y)
            note(line, model.booster_)


if __name__ == "__main__":
    main()
