"""The example that training makes where none is declared."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from tabserve.columns.features import Category, Integer, Number, OrderedCategory
from tabserve.declaration.example import typical_record

AGE = Integer(name="age", low=0, high=120)
INCOME = Number(name="income", low=0, missing=True)
CITY = Category(name="city", values=("Bonn", "Ulm", "Jena"))
GRADE = OrderedCategory(name="grade", values=("low", "high"))
FEATURES = (AGE, INCOME, CITY, GRADE)

rows = st.lists(
    st.fixed_dictionaries(
        {
            "age": st.integers(0, 120),
            "income": st.none() | st.floats(0, 1e6),
            "city": st.sampled_from(CITY.values),
            "grade": st.sampled_from(GRADE.values),
        }
    ),
    min_size=1,
    max_size=20,
)


@given(rows)
def test_an_example_is_valid_and_nobodys_record(rows: list[dict[str, object]]) -> None:
    record = typical_record(FEATURES, pd.DataFrame(rows, columns=[feature.name for feature in FEATURES]))
    assert not any(feature.problem(record[feature.name]) for feature in FEATURES)
    assert record not in rows


def test_an_example_is_typical() -> None:
    table = pd.DataFrame(
        {
            "age": [20, 30, 90, 91, 40],
            "income": [1.0, 1e6, 6.0, 7.0, 5.0],
            "city": ["Ulm", "Ulm", "Jena", "Bonn", "Ulm"],
            "grade": ["high", "low", "high", "low", "high"],
        }
    )
    assert typical_record(FEATURES, table) == {"age": 40, "income": 6.0, "city": "Ulm", "grade": "high"}


def test_a_column_without_values_is_missing_in_the_example() -> None:
    table = pd.DataFrame({"income": [None, None]})
    assert typical_record((INCOME,), table) == {"income": None}
