"""COMMIT: what is known after it, and what is said where nothing is.

::

    the reply came                          committed, or not: the server's word
    it was never sent                       not committed
    it was sent and the reply was lost      CommitInDoubt; nothing, where the transaction only read
    its task was cancelled                  it goes on for ``commit_grace`` seconds; then the cancellation is raised,
                                            with the outcome, or the doubt, as a note
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import CommitInDoubt
from ..events import CommitLeftInDoubt, publish
from ..shielding import Shielded
from .bounds import Bounds

log = logging.getLogger("asyncdb.transaction")


class Committing(Bounds):
    """Mixin of :class:`~asyncdb.drivers.physical.PhysicalConnection`."""

    may_have_written = False
    """Whether something ran in the transaction that is more than a plain read."""
    in_doubt = False
    """Whether nobody knows if its last COMMIT was applied."""
    dbapi: Any

    # -- the driver's part ---------------------------------------------------------------------------------------

    def may_be_applied(self, error: BaseException) -> bool:
        """Whether a COMMIT that was sent and brought ``error`` may have been applied all the same."""
        return self.gave_up is not None or not isinstance(error, self.dbapi.Error)

    if TYPE_CHECKING:

        async def send(self, sql: str) -> None: ...
        def note_error(self, error: BaseException) -> None: ...
        def _handle_exception(self, error: Exception) -> NoReturn: ...
        @property
        def closed_by_server(self) -> bool: ...

    # -- what holds of all of them -------------------------------------------------------------------------------

    def commit_now(self) -> None:
        """Sends COMMIT and waits for the reply."""
        if self.closed_by_server:
            self.doom = "the server closed it"
            lost = self.dbapi.OperationalError(f"{self.doom} before COMMIT was sent: nothing was committed")
            self._lost_at_exit(lost)
            return
        work = Shielded(self.send("COMMIT"), self.config.commit_grace)
        self._committing = True
        try:
            self.wait_for(work)
        except Exception as error:
            self._failed(error, work.cancelled)
            return
        except BaseException as error:
            self._leave_doubt(error)
            raise
        finally:
            self._committing = False
        if work.cancelled is not None:
            work.cancelled.add_note(f"the transaction on {self.config.alias!r} was committed before this cancellation")
            raise work.cancelled

    def _failed(self, error: Exception, cancelled: BaseException | None) -> None:
        self.note_error(error)
        if not self.may_be_applied(error):
            if cancelled is None:
                self._handle_exception(error)
            cancelled.add_note(f"the transaction on {self.config.alias!r} was not committed ({type(error).__name__})")
        elif cancelled is not None:
            self._leave_doubt(cancelled)
        elif self.may_have_written:
            self._doubt(cancelled=False)
            raise CommitInDoubt(
                f"the COMMIT on {self.config.alias!r} was sent and its reply was lost "
                f"({self.gave_up or 'connection lost'}): whether it was applied is not known; look for what it wrote "
                "before anything of it runs again",
                error,
            ) from error
        else:
            self._lost_at_exit(error)
            return
        raise cancelled

    def _lost_at_exit(self, error: Exception) -> None:
        """Nothing is lost where nothing was written: whoever only read keeps what he has read."""
        self.doom = self.doom or "lost at the end of a transaction that only read"
        if self.may_have_written:
            raise error
        log.info("%r: the connection was lost at the end of a transaction that only read", self.config.alias)

    def _leave_doubt(self, cancelled: BaseException) -> None:
        """Says with a cancellation what it cannot say by itself."""
        self.doom = self.doom or "cancelled during COMMIT"
        if not self.may_have_written:
            return
        self._doubt(cancelled=True)
        cancelled.add_note(
            f"the COMMIT on {self.config.alias!r} was sent, and this cancellation did not wait for its reply any "
            "longer: whether it was applied is not known (CommitInDoubt)"
        )
        log.error("%r: a commit is in doubt: its task was cancelled, and no reply came in time", self.config.alias)

    def _doubt(self, *, cancelled: bool) -> None:
        self.doom = self.doom or "its COMMIT is in doubt"
        self.in_doubt = True
        publish(CommitLeftInDoubt(self.config.alias, cancelled))
