"""Result: what became of each candidate of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabserve.registry.manifest import Manifest


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate.

    Parameters
    ----------
    manifest : Manifest
        What it is and how good it is, with the verdicts of the gates. It is saved exactly when it passed them.
    report : Path
        Its report on this machine, whether it was saved or not.
    published : bool
        Whether the registry that it is for has it.
    """

    manifest: Manifest
    report: Path
    published: bool = False

    @property
    def model_id(self) -> str:
        """Its name."""
        return self.manifest.model_id

    @property
    def saved(self) -> bool:
        """Whether it passed its gates and was saved on this machine."""
        return self.manifest.passed


@dataclass(frozen=True)
class TrainingResult:
    """What a training led to.

    Parameters
    ----------
    outcomes : sequence of Outcome
        One for each algorithm that was to be trained, the best by cross-validation first: it has the newest model_id,
        and so answers for the use case unless a champion does.
    unpublished : str
        Why some that were saved are not published, and the way out; empty when all are.
    """

    outcomes: Sequence[Outcome]
    unpublished: str = ""

    @property
    def manifests(self) -> list[Manifest]:
        """All candidates' manifests."""
        return [outcome.manifest for outcome in self.outcomes]

    @property
    def saved(self) -> list[Outcome]:
        """Those that passed their gates."""
        return [outcome for outcome in self.outcomes if outcome.saved]

    @property
    def rejected(self) -> list[Outcome]:
        """Those that did not."""
        return [outcome for outcome in self.outcomes if not outcome.saved]

    @property
    def problems(self) -> list[str]:
        """What did not end well, in sentences; empty when every candidate was registered."""
        unregistered = " ".join(
            f"{outcome.manifest.algorithm} was not registered; it failed: {', '.join(_failed(outcome.manifest))}."
            for outcome in self.rejected
        )
        return [problem for problem in (self.unpublished, unregistered) if problem]


def _failed(manifest: Manifest) -> list[str]:
    return [verdict.gate for verdict in manifest.gates if not (verdict.passed or verdict.accepted)]
