"""Entry: what the decision log keeps of one decision, or of the decisions about one table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DECISION, SHADOW, TABLE, REFUSED = "decision", "shadow", "table", "refused"  # kinds of entries


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the decision log.

    Parameters
    ----------
    kind : str
        `decision`: one record that was answered. `shadow`: one that a model predicted which did not answer. `table`: a
        list or a file, whose records are in a table beside the log. `refused`: a request that was refused because of
        its fields; nothing of the record is kept.
    id : str
        UUID version 7, as it is answered. Row n of a table, from 0 on, has the id `<id>.<n>`.
    time : float
        Seconds since 1970.
    request_id : str
        As in the request's answer and log lines.
    client : str
        The user's name; empty without one.
    use_case, model_id : str
        What answered.
    digest : str
        The digest in the model's manifest.
    route : str
        The route by which it came, such as `/output/<model_id>`.
    arm : str
        The arm of a split that the record fell into; empty without a split.
    record : mapping
        As it came, of a decision or a shadow; else empty.
    score : float or mapping
        The prediction: a probability or a value, or by label the probabilities of several classes; None for a table.
    decision : object
        The answer's `result`; None for a table.
    threshold : float or None
        The cut that decided, where there is one.
    reasons : list of mapping or None
        What spoke for the decision, as `/explain` says it. None while it is not worked out, or when the model cannot
        be explained.
    rows : int
        How many records were decided.
    answers : str
        For a shadow, the id of the decision that was answered.
    keys : mapping
        What identifies the record: its values in the declared id columns, by name. For a table, lists of its rows'
        values, with None where a row has none.
    faults : mapping
        For a refusal, how many records had each fault, by field and kind of fault, `field:kind`.
    """

    kind: str = DECISION
    id: str
    time: float
    request_id: str = ""
    client: str = ""
    use_case: str
    model_id: str
    digest: str
    route: str
    arm: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    score: Any = None
    decision: Any = None
    threshold: float | None = None
    reasons: list[Mapping[str, Any]] | None = None
    rows: int = 1
    answers: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)
