"""The steps that `make scale` measures, each in a process of its own: `python -m benchmarks.scale_steps STEP ROWS`.

It prints the CPU seconds of the step and the process's peak memory as JSON. What a step is given, and imports, are made
before the clock starts; its work is done once on few rows, so that nothing is counted that happens only once.
"""

import io
import json
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.scale_data import USE_CASE
from tabserve.registry.artifact import Artifact
from tabserve.settings import RegistrySettings

if TYPE_CHECKING:
    import lightgbm
    import pyarrow as pa

FEW = 1_000  # rows of the work that is not counted
CHUNK = 65_536  # rows that are predicted or written at a time
FOLDER = "SCALE_FOLDER"  # the environment variable with the folder of the tables
Work = Callable[[], object]


def path_of(rows: int, kind: str) -> Path:
    """A table of so many rows."""
    return Path(os.environ[FOLDER], f"{rows}.{kind}")


def artifact() -> Artifact:
    """The model that answers, sped up as the environment says."""
    settings = RegistrySettings.from_environment()
    registry = settings.open_registry()
    found = registry.load(registry.latest(USE_CASE.name))
    found.speed_up(settings.compiled_trees)
    return found


def batches(model: Artifact, path: Path) -> "Iterator[pa.RecordBatch]":
    """A table's rows of raw cells, as scoring reads them."""
    from tabserve.scoring.reading import open_table

    with path.open("rb") as file, open_table(model, path.name, "", file) as opened:
        for batch in opened.reading.batches:
            yield batch.cells


def repeated(rows: int) -> Iterator[int]:
    """Sizes of at most CHUNK that add up."""
    return (min(CHUNK, rows - start) for start in range(0, rows, CHUNK))


# steps: from a number of rows to the work that is measured


def read(kind: str, rows: int) -> Work:
    model = artifact()
    return lambda: sum(cells.num_rows for cells in batches(model, path_of(rows, kind)))


def read_and_encode(kind: str, rows: int) -> Work:
    model = artifact()

    def work() -> None:
        for cells in batches(model, path_of(rows, kind)):
            model.pipeline.transform_cells(cells)

    return work


def matrix_of(model: Artifact, rows: int) -> "np.ndarray":
    """The matrix of a table of so many rows, at most CHUNK of them."""
    matrices, found = [], 0
    for cells in batches(model, path_of(rows, "parquet")):
        matrices.append(model.pipeline.transform_cells(cells)[0])
        found += len(matrices[-1])
        if found >= CHUNK:
            break
    return np.concatenate(matrices)[:CHUNK]


def predict(rows: int) -> Work:
    model = artifact()
    matrix = matrix_of(model, rows)
    return lambda: [model.model.predict(matrix[:size]) for size in repeated(rows)]


def write(kind: str, rows: int) -> Work:
    """Write answered rows; those of the first CHUNK again and again."""
    from tabserve.scoring.answering import Answering, Options
    from tabserve.scoring.reading import open_table
    from tabserve.scoring.writing import pieces, written_as

    model, path = artifact(), path_of(rows, "parquet")
    with path.open("rb") as file, open_table(model, path.name, "", file) as opened:
        kept = opened.kept(f"written.{kind}")
        as_dictionaries = kind == "parquet"
        answering = Answering(model, opened.reading, Options(), kept, lambda faults: None, dictionaries=as_dictionaries)
        schema, table = answering.schema, next(answering.tables())

    def work() -> None:
        tables = (table.slice(0, size) for size in repeated(rows))
        with path.with_name(f"written.{kind}").open("wb") as file:
            file.writelines(pieces(schema, tables, written_as(file.name, {})))

    return work


def score(source: str, destination: str, rows: int) -> Work:
    """`tabserve score`, all of it but the start of Python."""
    from tabserve.cli.score import score as command

    written = path_of(rows, source).with_name(f"scored.{destination}")
    arguments = [USE_CASE.name, str(path_of(rows, source)), str(written), "--overwrite", "--jobs", "1"]

    def work() -> None:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            command.main(arguments, standalone_mode=False)

    return work


def upload(kind: str, rows: int) -> Work:
    """A file that the service answers at once, as JSON: the form is parsed, the answer is written."""
    from dataclasses import replace

    from tabserve.api.app import create_app
    from tabserve.settings import Settings

    settings = Settings.from_environment({**os.environ, "AUTH_REQUIRED": "false", "LOG_LEVEL": "ERROR"})
    most = 2**30
    client = create_app(replace(settings, max_rows=most, sync_rows=most, max_content_length=most)).test_client()
    content = path_of(rows, kind).read_bytes()

    def work() -> None:
        form = {"fileupload": (io.BytesIO(content), f"table.{kind}")}
        answer = client.post(f"/outputs_upload/{USE_CASE.name}", data=form)
        assert answer.status_code == 200, answer.get_data()[:500]

    return work


# what others write


def expert_codes(names: Mapping[str, "np.ndarray"]) -> "np.ndarray":
    """Columns of numbers and codes, with the derived ones, in the order of the model's matrix."""
    encoder = artifact().encoder
    columns = [*names.values()]
    for derived in encoder.derived:
        numerator, denominator = (names[name] for name in derived.sources)
        columns.append(numerator / denominator)
    return np.column_stack(columns)


def booster() -> "lightgbm.Booster":
    """The model in LightGBM's own package."""
    import lightgbm

    return lightgbm.Booster(model_str=artifact().model.text_)


def pandas(rows: int) -> Work:
    import pandas as pd

    trees, features = booster(), artifact().features

    def work() -> None:
        table = pd.read_parquet(path_of(rows, "parquet"))
        names = {}
        for feature in features:
            column, values = table[feature.name], getattr(feature, "values", None)
            names[feature.name] = pd.Categorical(column, values).codes if values else column.to_numpy()
        table["probability"] = trees.predict(expert_codes(names), num_threads=1)
        table["result"] = table["probability"] > 0.5
        table.to_parquet(path_of(rows, "parquet").with_name("pandas.parquet"))

    return work


def polars(rows: int) -> Work:
    import polars as pl

    trees, features = booster(), artifact().features

    def work() -> None:
        table = pl.read_parquet(path_of(rows, "parquet"))
        names = {}
        for feature in features:
            column, values = table[feature.name], getattr(feature, "values", None)
            names[feature.name] = (column.cast(pl.Enum(values)).to_physical() if values else column).to_numpy()
        predictions = trees.predict(expert_codes(names), num_threads=1)
        answered = table.with_columns(pl.Series("probability", predictions), pl.Series("result", predictions > 0.5))
        answered.write_parquet(path_of(rows, "parquet").with_name("polars.parquet"))

    return work


# training


def train_read(rows: int) -> Work:
    from tabserve.training.parts import read as read_table
    from tabserve.training.parts import split

    return lambda: split(USE_CASE, read_table(USE_CASE, path_of(rows, "csv")), 42)


def training_matrix(rows: int) -> tuple["np.ndarray", "np.ndarray", Any]:
    """Matrix, classes and columns of all rows."""
    import pyarrow.parquet as parquet

    encoder = USE_CASE.encoder.fit()
    path = path_of(rows, "parquet")
    matrix = np.empty((rows, len(encoder.matrix_columns)))
    start = 0
    for cells in batches(artifact(), path):
        matrix[start : start + cells.num_rows] = encoder.transform_cells(cells)[0]
        start += cells.num_rows
    target = parquet.read_table(path, columns=[USE_CASE.target.feature.name]).column(0).to_numpy()
    return matrix, (target == 2).astype(float), encoder.matrix_columns


def trial(rows: int) -> Work:
    """One trial at the default scheme's folds, with LightGBM's own parameters."""
    from tabserve.models.lightgbm import LgbClassifier

    matrix, y, columns = training_matrix(rows)
    folds = default_folds(y)
    return lambda: LgbClassifier().cross_validate(matrix, y, folds, USE_CASE.task.metric, 1, columns)


def default_folds(y: "np.ndarray") -> Any:
    """The folds that a training of so many rows has by default."""
    from types import SimpleNamespace

    from tabserve.training.folds import folds_of

    return folds_of(USE_CASE, SimpleNamespace(y=y, groups=None, times=None), 42)


def plain_cv(rows: int) -> Work:
    """`lightgbm.cv` on the same matrix, folds and parameters, with as much patience."""
    import lightgbm

    from tabserve.models.lightgbm import MAX_ROUNDS, PATIENCE

    matrix, y, columns = training_matrix(rows)
    nominal = [place for place, column in enumerate(columns) if column.is_nominal]
    parameters = {
        "objective": "binary",
        "metric": "binary_logloss",
        "monotone_constraints": [column.monotone for column in columns],
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    folds = default_folds(y)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)

    def work() -> None:
        data = lightgbm.Dataset(matrix, y, categorical_feature=nominal)
        lightgbm.cv(parameters, data, MAX_ROUNDS, folds=folds, callbacks=[stop])

    return work


def final_fit(rows: int) -> Work:
    from tabserve.models.lightgbm import LgbClassifier

    matrix, y, columns = training_matrix(rows)
    return lambda: LgbClassifier(num_rounds=100).fit(matrix, y, columns)


def intervals(rows: int) -> Work:
    """The bootstrap of a hold-out of so many rows."""
    from tabserve.evaluation.bootstrap import bootstrap_intervals

    generator = np.random.default_rng(1)
    predictions = generator.random(rows)
    y = (generator.random(rows) < predictions).astype(float)
    decision = artifact().decision
    return lambda: bootstrap_intervals(USE_CASE.task.measure(y, predictions, decision), rows, 42)


STEPS: Mapping[str, Callable[[int], Work]] = {
    "read CSV": lambda rows: read("csv", rows),
    "read Parquet": lambda rows: read("parquet", rows),
    "read XLSX": lambda rows: read("xlsx", rows),
    "read CSV, check, encode": lambda rows: read_and_encode("csv", rows),
    "read Parquet, check, encode": lambda rows: read_and_encode("parquet", rows),
    "read XLSX, check, encode": lambda rows: read_and_encode("xlsx", rows),
    "trees: LightGBM": predict,
    "trees: interpreted": predict,
    "trees: compiled": predict,
    "write Parquet": lambda rows: write("parquet", rows),
    "write CSV": lambda rows: write("csv", rows),
    "score Parquet to Parquet: LightGBM": lambda rows: score("parquet", "parquet", rows),
    "score Parquet to Parquet: interpreted": lambda rows: score("parquet", "parquet", rows),
    "score Parquet to Parquet: compiled": lambda rows: score("parquet", "parquet", rows),
    "score CSV to CSV: interpreted": lambda rows: score("csv", "csv", rows),
    "pandas and Booster.predict": pandas,
    "polars and Booster.predict": polars,
    "upload CSV: LightGBM": lambda rows: upload("csv", rows),
    "upload XLSX: LightGBM": lambda rows: upload("xlsx", rows),
    "training: read, split, encode": train_read,
    "training: one trial": trial,
    "training: lightgbm.cv, the same folds": plain_cv,
    "training: final fit, 100 trees": final_fit,
    "training: intervals": intervals,
}


def cpu_seconds() -> float:
    """CPU of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mb() -> float:
    """The most memory of this process, or of a child of it that has ended."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own = int(status["VmHWM"].split()[0])  # `ru_maxrss` counts what the process that started this one had
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def main(step: str, rows: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before a library counts the CPUs
    logging.disable(logging.WARNING)
    if not step.endswith(("interpreted", "compiled")):
        sys.modules["lignum"] = None  # type: ignore[assignment]  # as if it were not installed
    STEPS[step](FEW)()
    work = STEPS[step](rows)
    before = cpu_seconds()
    work()
    print(json.dumps({"cpu": cpu_seconds() - before, "peak": peak_mb()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
