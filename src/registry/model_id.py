"""model_id: the name of an artifact."""

import re
from dataclasses import dataclass

USE_CASE = re.compile(r"[a-z][a-z0-9_]{0,49}", re.ASCII)
MODEL_ID = re.compile(
    rf"(?P<use_case>{USE_CASE.pattern})-"
    r"(?P<algorithm>[a-zA-Z][a-zA-Z0-9-]{0,49})"
    r"_v(?P<version>[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})-(?P<timestamp>[0-9]{1,12}\.[0-9]{6})",
    re.ASCII,
)


@dataclass(frozen=True)
class ModelId:
    """The parts of a model_id, e.g. `credit-lightgbm_v1.0.0-1795287600.123456`.

    Parameters
    ----------
    use_case, algorithm : str
        What was trained, and how.
    version : str
        The version of the program that trained it.
    timestamp : str
        Unix time in seconds, with six decimals.
    """

    use_case: str
    algorithm: str
    version: str
    timestamp: str

    @classmethod
    def parse(cls, text: str) -> "ModelId | None":
        """Split a text into the parts of a model_id.

        Parameters
        ----------
        text : str
            Any text, perhaps from a URL.

        Returns
        -------
        ModelId or None
            None for a malformed text.
        """
        match = MODEL_ID.fullmatch(text)
        return cls(**match.groupdict()) if match else None

    def __str__(self) -> str:
        return f"{self.use_case}-{self.algorithm}_v{self.version}-{self.timestamp}"

    @property
    def age_key(self) -> tuple[float, str]:
        """The key to sort by: the timestamp as a number, not as a text."""
        return float(self.timestamp), str(self)
