"""Folds: how to cross-validate so many rows."""


def folds_for(n_rows: int) -> tuple[int, int]:
    """Splits and repeats of cross-validation that suit a number of rows.

    With few rows the score of a single pass is mostly chance, and passes cost little. With many rows it is the other
    way round: 50,000 rows, a quarter of the fewest that have one split, tell apart what is worth telling apart.

    Parameters
    ----------
    n_rows : int
        Rows to train on.

    Returns
    -------
    splits, repeats : int
        1 split is one model, judged by the rows that it was not fitted on.
    """
    if n_rows < 2_000:
        return 10, 2
    if n_rows < 10_000:
        return 10, 1
    return (5, 1) if n_rows < 200_000 else (1, 1)
