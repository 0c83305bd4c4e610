"""The service that an expert would write: FastAPI, a pydantic record, look-ups instead of pandas, orjson.

It uses the same LightGBM model as our service and gives the same numbers. The route is a coroutine: a prediction takes
less time than handing it to a thread.
"""

import os
from pathlib import Path
from typing import Any, Literal

import lightgbm
import numpy as np
import orjson
from fastapi import FastAPI, Response
from pydantic import Field, create_model

from tabserve.columns.features import Category
from tabserve.use_cases.credit import DERIVED, FEATURES

THRESHOLD = float(os.environ["BENCHMARK_THRESHOLD"])
CODES = [
    {value: code for code, value in enumerate(feature.values)} if isinstance(feature, Category) else None
    for feature in FEATURES
]

# an expert writes this out field by field: `housing: Literal["for free", "own", "rent"]`, `age: int = Field(ge=18)`
fields: dict[str, Any] = {
    feature.name: (Literal[feature.values], ...)
    if isinstance(feature, Category)
    else (int, Field(ge=feature.low, le=feature.high))
    for feature in FEATURES
}
Applicant: Any = create_model("Applicant", **fields)

booster = lightgbm.Booster(model_str=Path(os.environ["BENCHMARK_MODEL"]).read_text())
app = FastAPI()


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Say that the model is loaded: it was, at import."""
    return {"status": "ready"}


@app.post("/predict")
async def predict(record: Applicant) -> Response:
    """Predict one record."""
    return answer([row(record)])


@app.post("/predict_list")
async def predict_list(records: list[Applicant]) -> Response:
    """Predict a list of records."""
    return answer([row(record) for record in records])


def row(record: Any) -> list[float]:
    """What the model was trained on: codes of categories, numbers and their quotients."""
    values = record.__dict__
    row = [value if codes is None else codes[value] for codes, value in zip(CODES, values.values(), strict=True)]
    for column in DERIVED:
        row.append(values[column.numerator] / values[column.denominator])
    return row


def answer(rows: list[list[float]]) -> Response:
    """Decisions and probabilities."""
    probability = np.asarray(booster.predict(np.array(rows), num_threads=1))
    content = {"result": (probability >= THRESHOLD).astype(int), "probability": probability}
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
