"""Lists in JSON: workers keep them as they came, and the mover makes the log's tables of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabserve.decisions.tables import columns_of, written
from tabserve.tables.json_body import COLUMNS


def as_parquet(table: Mapping[str, Any]) -> bytes:
    """A list, or columns, with what was decided, as the log keeps tables.

    Parameters
    ----------
    table : mapping
        `body`, what was sent; `is_columns`, whether it holds columns; `target`, the column that is left out; and for
        each row `decisions` and `scores`, None for a row at fault, of which nothing is kept.
    """
    decisions = table["decisions"]
    is_good = [decision is not None for decision in decisions]
    columns = table["body"][COLUMNS] if table["is_columns"] else columns_of(_good(table["body"], is_good, {}))
    kept = {name: _good(values, is_good, None) for name, values in columns.items() if name != table["target"]}
    return b"".join(written(kept, by_label(table["scores"]), decisions))


def by_label(scores: Sequence[Any]) -> Any:
    """Scores as they are, or those of several classes as a sequence for each label."""
    first = next((score for score in scores if score is not None), None)
    if not isinstance(first, Mapping):
        return scores
    return {label: [score and score[label] for score in scores] for label in first}


def _good(values: Sequence[Any], is_good: Sequence[bool], nothing: Any) -> list[Any]:
    return [value if good else nothing for value, good in zip(values, is_good, strict=True)]
