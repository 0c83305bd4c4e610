"""The service that tutorials build: FastAPI, a pydantic record, a pandas DataFrame for each request.

It uses the same LightGBM model as our service and gives the same numbers. The model is loaded once, at import. There
are two ways to make the categories. `astype("category")` is what tutorials do: LightGBM maps what pandas found to the
categories that it was trained with. The faster way fixes the categories in advance.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal

import lightgbm
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, Field, create_model

from tabserve.columns.features import Category
from tabserve.use_cases.credit import DERIVED, FEATURES

THRESHOLD = float(os.environ["BENCHMARK_THRESHOLD"])
CATEGORIES = {
    feature.name: pd.CategoricalDtype(list(feature.values)) for feature in FEATURES if isinstance(feature, Category)
}

# a tutorial writes this out field by field: `housing: Literal["for free", "own", "rent"]`, `age: int = Field(ge=18)`
fields: dict[str, Any] = {
    feature.name: (Literal[feature.values], ...)
    if isinstance(feature, Category)
    else (int, Field(ge=feature.low, le=feature.high))
    for feature in FEATURES
}
Applicant: Any = create_model("Applicant", **fields)

# a Booster trained on a DataFrame keeps the categories of its columns at the end of its text; ours was trained on codes
text = Path(os.environ["BENCHMARK_MODEL"]).read_text().rstrip().removesuffix("pandas_categorical:null")
levels = json.dumps([list(categories.categories) for categories in CATEGORIES.values()])
booster = lightgbm.Booster(model_str=f"{text}pandas_categorical:{levels}\n")
app = FastAPI()


@app.get("/ready")
def ready() -> dict[str, str]:
    """Say that the model is loaded: it was, at import."""
    return {"status": "ready"}


@app.post("/predict")
def predict(record: Applicant) -> dict[str, list[float]]:
    """Predict one record."""
    return answer(categories_found(frame([record])))


@app.post("/predict_list")
def predict_list(records: list[Applicant]) -> dict[str, list[float]]:
    """Predict a list of records."""
    return answer(categories_found(frame(records)))


@app.post("/careful")
def careful(record: Applicant) -> dict[str, list[float]]:
    """Predict one record, the careful way."""
    return answer(categories_fixed(frame([record])))


@app.post("/careful_list")
def careful_list(records: list[Applicant]) -> dict[str, list[float]]:
    """Predict a list of records, the careful way."""
    return answer(categories_fixed(frame(records)))


def frame(records: list[BaseModel]) -> pd.DataFrame:
    """Records as a table, with the quotients that the model was trained on."""
    table = pd.DataFrame([record.model_dump() for record in records])
    for column in DERIVED:
        table[column.name] = table[column.numerator] / table[column.denominator]
    return table


def categories_found(table: pd.DataFrame) -> pd.DataFrame:
    """Texts to categories: those that pandas finds in the column."""
    for name in CATEGORIES:
        table[name] = table[name].astype("category")
    return table


def categories_fixed(table: pd.DataFrame) -> pd.DataFrame:
    """Texts to categories: those that the model knows."""
    for name, categories in CATEGORIES.items():
        table[name] = table[name].astype(categories)
    return table


def answer(table: pd.DataFrame) -> dict[str, list[float]]:
    """Decisions and probabilities."""
    probability = np.asarray(booster.predict(table))
    return {"result": (probability >= THRESHOLD).astype(int).tolist(), "probability": probability.tolist()}
