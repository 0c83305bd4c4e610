"""Turn: what is decided on an event loop is kept and answered together, at the end of the loop's turn."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import orjson

from tabserve.api.certain import Certain, Reply
from tabserve.api.errors import answer_to
from tabserve.decisions.log import Decided, DecisionLog
from tabserve.errors import DecisionLogFullError
from tabserve.log import Marks, traced

logger = logging.getLogger(__name__)
_Waiting = tuple[Decided, Marks, Reply]


class Turn:
    """Answers all that is decided in one turn of the loop together; what must be kept is kept before, with one write.

    A prediction takes the code that answers out of the CPU's caches, and the other way round. Sixteen clients are
    answered in three quarters of the time when eight predictions follow each other, and then eight answers.

    Where each write is forced to the disk, a thread waits for that, and what is decided meanwhile goes there together.

    Parameters
    ----------
    log : DecisionLog or None
        Where decisions are kept, if they are.
    """

    def __init__(self, log: DecisionLog | None) -> None:
        self._log = log
        self._waiting: list[_Waiting] = []
        self._is_on_disk = False
        self._disk = ThreadPoolExecutor(1)  # it has no thread before it is used
        self._full = Certain.of(answer_to(DecisionLogFullError()))  # made once: a refusal must be cheap

    def refusal(self) -> Certain | None:
        """The answer when nothing may be decided, because it could not be kept; asked once in a turn."""
        return self._full if self._log and not self._waiting and self._log.refuses else None

    def answer(self, decided: Decided, marks: Marks, reply: Reply) -> None:
        """Reply with a decision's answer when it is kept, or with a refusal when it cannot be.

        Parameters
        ----------
        decided : Decided
        marks : Marks
            Of the request.
        reply : callable
            Takes the answer.
        """
        self._waiting.append((decided, marks, reply))
        if len(self._waiting) == 1 and not self._is_on_disk:
            asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        waiting, self._waiting = self._waiting, []
        decided = [one for one, _, _ in waiting]
        if self._log is None or not self._log.syncs_each:
            _reply(waiting, self._answers(decided))
            return
        self._is_on_disk = True
        answers = asyncio.get_running_loop().run_in_executor(self._disk, self._answers, decided)
        answers.add_done_callback(partial(self._end_on_disk, waiting))

    def _end_on_disk(self, waiting: Sequence[_Waiting], answers: "asyncio.Future[list[Certain]]") -> None:
        self._is_on_disk = False
        if self._waiting:
            self._end()
        _reply(waiting, answers.result())

    def _answers(self, decided: Sequence[Decided]) -> list[Certain]:
        try:
            if self._log:
                self._log.keep_answers(decided)
            return [Certain.of_json(orjson.dumps(one.answered.content), one.answered) for one in decided]
        except DecisionLogFullError:
            return [self._full] * len(decided)
        except Exception as error:  # whoever waits for an answer must get one
            return [Certain.of(answer_to(error))] * len(decided)


def _reply(waiting: Sequence[_Waiting], answers: Sequence[Certain]) -> None:
    for (_, marks, reply), answer in zip(waiting, answers, strict=True):
        try:
            reply(answer.to(marks))
        except Exception as error:  # the others must get theirs
            logger.error("an answer could not be sent: %s", traced(error))
