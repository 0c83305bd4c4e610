"""What all executors have in common: `Pool`, and values that each worker gets once."""

from abc import abstractmethod
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, TypeVar
from uuid import uuid4

T = TypeVar("T")


class Shared(Generic[T]):
    """A large value that many tasks need; as an argument it is as small as a name.

    Attributes
    ----------
    key : str
        Its name, the same in all processes: for what a worker derives from the value and keeps.
    """

    def __init__(self, value: T) -> None:
        self.key = uuid4().hex
        self._value = value

    def get(self) -> T:
        """The value. Nobody may change it: other tasks use the same object."""
        return self._value


class Pool(Executor):
    """An executor that can share values."""

    @abstractmethod
    def share(self, value: T) -> AbstractContextManager[Shared[T]]:
        """Let all workers have a value, as long as the context lasts: each gets it once, whatever the number of tasks.

        Parameters
        ----------
        value : object
            Such as a matrix, or a tuple of several.

        Returns
        -------
        context manager
            Gives the `Shared` that is an argument of tasks, or part of one.
        """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(cancel_futures=True)
