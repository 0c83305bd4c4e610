"""The base of transformers and models: scikit-learn's conventions, without scikit-learn."""

import inspect
from typing import Any, Self

from tabserve.errors import NotFittedError


class Estimator:
    """An object whose constructor sets parameters and whose `fit` learns a state.

    As in scikit-learn, a constructor only stores its arguments, unchanged and under their own names, and the names of
    what `fit` learns end in an underscore. Therefore `sklearn.base.clone` works on every subclass.
    """

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters by name.

        Parameters
        ----------
        deep : bool
            Only for compatibility with scikit-learn; there are no nested parameters.
        """
        return {name: getattr(self, name) for name in self._parameter_names()}

    @classmethod
    def default_params(cls) -> dict[str, Any]:
        """The parameters that need not be given, by name."""
        parameters = inspect.signature(cls).parameters.items()
        return {name: one.default for name, one in parameters if one.default is not one.empty}

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name and return self.

        Raises
        ------
        ValueError
            For an unknown name.
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
        # from the end, where fit's attributes are, because every prediction asks this
        for name in reversed(vars(self)):
            if name[-1] == "_" and name[0] != "_":
                return
        raise NotFittedError(self)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({arguments})"
