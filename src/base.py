"""What transformers and models share: scikit-learn's conventions, without importing scikit-learn."""

import inspect
from typing import Any, Self

from tabserve.errors import NotFittedError


class Estimator:
    """Something with parameters that are set by its constructor and state that is learnt by `fit`.

    As in scikit-learn, a constructor stores its arguments unchanged under their own names and does nothing else,
    and what `fit` learns ends in an underscore. `sklearn.base.clone` therefore works on every subclass.
    """

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name, as the constructor got them.

        Parameters
        ----------
        deep : bool
            Taken for scikit-learn's sake; there are no nested parameters.
        """
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name and return self.

        Raises
        ------
        ValueError
            For a name that the constructor does not have.
        """
        unknown = params.keys() - set(self._parameter_names())
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no parameter {', '.join(sorted(unknown))}; "
                f"it has {', '.join(self._parameter_names())}."
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def check_is_fitted(self) -> None:
        """Raise `NotFittedError` unless `fit` was called."""
        # from the end: what fit sets comes after what the constructor set, and this is asked at every prediction
        for name in reversed(vars(self)):
            if name[-1] == "_" and name[0] != "_":
                return
        raise NotFittedError(self)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"
