"""What holds of every physical connection, whatever the driver: its transaction, its bounds, its state of health.

The physical connection is in autocommit. SQLAlchemy's "begin" only notes that a transaction is wanted; BEGIN is
sent before the first statement that needs one. At the end the server's own word decides whether there is
anything to end.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection

from ..config import DatabaseConfig, IsolationLevel
from ..errors import TransactionMisuse, TransactionOwnedByTask, TransactionPoisoned
from ..greenlets import await_
from ..limits import UNSAID, limit_of_context
from .at_rest import AtRest
from .bounds import NO_ANSWER, NO_REPLY, Bounds
from .committing import Committing
from .leftovers import Leftovers
from .residue import Residue, first_word, residue
from .routines import Routines
from .statements import Kind, kind_of_text

if TYPE_CHECKING:
    _Connection = AsyncAdapt_dbapi_connection
else:
    _Connection = object

log = logging.getLogger("asyncdb.transaction")


class Liveness(enum.Enum):
    """What a look at the socket tells, without a word to the server."""

    WHOLE = "whole"
    SUSPECT = "suspect"
    DEAD = "dead"


class Begun(enum.Enum):
    """How far the transaction that SQLAlchemy began has come."""

    NO = "no"
    WANTED = "wanted"
    SENT = "sent"


@dataclass(frozen=True, slots=True)
class Owner:
    """The task that a transaction belongs to."""

    task: asyncio.Task[Any] | None

    def admits(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether ``task`` may use the transaction."""
        return task is self.task


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """What the next BEGIN says.

    ``eager`` sends it before the first statement of whatever kind, as ``atomic`` promises.
    """

    isolation: IsolationLevel | None = None
    read_only: bool = False
    eager: bool = False
    single: bool = False
    """Whether one statement is all there will be, so that one that reads is a transaction by itself."""
    owner: Owner | None = None
    """Who may run statements in it; None: SQLAlchemy's own rules."""


DEFAULT_OPTIONS = TransactionOptions()
_ENDS_ITSELF = (
    "begins and ends its transaction itself: leave it normally to commit, raise to roll back, nest one for less"
)
_EACH_STATEMENT_READS_ANEW = frozenset({"READ COMMITTED", "READ UNCOMMITTED"})


class Keeper(Protocol):
    """Who began the transaction of a connection that others use too, and alone ends it."""

    def admit(self, kind: Kind) -> None:
        """Raises unless a statement of this kind may run now, in this task."""

    def failed(self, reason: str, error: BaseException | None = None) -> None:
        """Called when a write of SQLAlchemy's failed, or SQLAlchemy gave the transaction up."""

    def rolls_back_to_savepoint(self) -> None:
        """Called before SQLAlchemy goes back to a savepoint, which takes the blame for what failed since."""

    def rolled_back_to_savepoint(self) -> None:
        """Called when that is done."""


def _nobody() -> None:
    """In the place of a keeper."""


def check_owner(alias: str, owner: Owner) -> None:
    """Raises ``TransactionOwnedByTask`` in any task that ``owner`` does not admit."""
    task = asyncio.current_task()
    if not owner.admits(task):
        raise TransactionOwnedByTask(
            f"the transaction on {alias!r} belongs to {_name(owner.task)}, and {_name(task)} reached it: "
            "await one after the other in the owner's task (asyncio.gather makes tasks), or start the task outside",
        )


def _name(task: asyncio.Task[Any] | None) -> str:
    return f"task {task.get_name()!r}" if task is not None else "no task"


class PhysicalConnection(AtRest, Leftovers, Committing, Bounds, _Connection):
    """Mixin of SQLAlchemy's adapted connections: the transaction state of one physical connection."""

    isolation_level_of_server: str = ""
    idle_limit: float | None = None
    """Seconds after which the server itself closes an idle connection; None: it does not."""
    rollback_on_lock_timeout = False
    login_began: float | None = None
    """When its login began, on the monotonic clock; None where nobody timed it."""
    make_session: Callable[[], Awaitable[Any]] | None = None
    """Makes the session settings anew, as at the login; None: nobody knows all of them."""
    shared_by_sessions = False
    """Whether several sessions use it one after the other, beside who has it checked out."""
    one_result_at_a_time = False
    """Whether nothing else can be asked before a stream is read to its end."""
    borrowed = False
    """Whether it stands for a connection that is somebody else's, who alone may replace it."""
    left: str | None = None
    """What left something on the session (a setting, a lock) that the next user must not meet: its first word."""
    implies_begin = False
    """Whether a statement begins a transaction by itself, as SQLAlchemy's user expects; not so for Django's."""
    routines: Routines
    """What is known of the functions of its database; its dialect's."""
    _keeper: Callable[[], Keeper | None]
    by_hand = False
    """Whether a transaction was open before the statement that was sent last, of which SQLAlchemy knows nothing."""
    washing = False
    """Whether the server was told to forget the session, and its answer is still to be read."""
    made: Any = None
    """What that library's users have made of this connection when it was new."""
    execute_wrappers: Sequence[Any] = ()
    """What that library wants to be called around each of its statements on this connection."""

    def attach(self, config: DatabaseConfig) -> None:
        """Begins the life of this connection in the pool, once its session settings are made."""
        self._loop = asyncio.get_running_loop()
        self.begin_life(config)

    def begin_life(self, config: DatabaseConfig) -> None:
        """Forgets whatever was; nothing has happened on it yet."""
        self.config = config
        self.begun = Begun.NO
        self.options = DEFAULT_OPTIONS
        self.isolation_override: str | None = None
        self.may_commit = False
        self.wrote = False
        self.wrote_before: dict[str, bool] = {}
        """``wrote`` when each savepoint was set, to which a roll-back takes it back."""
        self.errors_met = False
        self.keeper = None
        self.poison: str | None = None
        self.spoiled: str | None = None
        self.doom: str | None = None
        self.may_have_written = self.in_doubt = False
        self.left, self.washing = None, False
        self.implies_begin = self.by_hand = False
        self.running = self.gave_up = None
        self.open_streams = ()
        self.begin_limits()

    @property
    def keeper(self) -> Keeper | None:
        """Who keeps its transaction; weakly, for the pool would keep a task alive that nobody can wake any more."""
        return self._keeper()

    @keeper.setter
    def keeper(self, keeper: Keeper | None) -> None:
        self._keeper = _nobody if keeper is None else weakref.ref(keeper)

    # -- the driver's part ---------------------------------------------------------------------------------------

    @property
    def server_in_transaction(self) -> bool:
        """The server's own word: is a transaction open? True where its word may be out of date."""
        raise NotImplementedError

    @property
    def stream_unfinished(self) -> bool:
        """Whether rows are still to come that somebody asked for and left, so that no other question can be asked."""
        return False

    async def ask_about_routines(self, names: list[str]) -> dict[str, bool]:
        """Asks the server which of these functions it knows, and whether each leaves nothing on its session."""
        raise NotImplementedError

    @property
    def raw(self) -> Any:
        """The driver's own connection, for what keeps account of its statements itself."""
        return self._connection

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, for a user: nobody knows what it says, so the session is reset afterwards."""
        self.hand_out()
        return self._connection

    def hand_out(self) -> None:
        """Has the driver's connection send the BEGIN that is owed before its first statement."""
        self.left = self.left or "the driver's own connection"
        self._connection.owed = self.before_raw

    def come_back(self) -> None:
        """Called when its user gives it back, or is done with it."""
        self.implies_begin = self.by_hand = self.coming_back = self.shared_by_sessions = False
        self.isolation_override = None
        self._connection.owed = None

    def look(self) -> Liveness:
        """Looks at the socket; sends nothing, waits for nothing."""
        raise NotImplementedError

    async def send(self, sql: str) -> None:
        """Sends one statement that has no rows and no parameters."""
        raise NotImplementedError

    async def send_begin(self, options: TransactionOptions, isolation: str | None) -> None:
        """Sends BEGIN with an isolation level, None being the connection's own."""
        raise NotImplementedError

    def ask_to_forget(self) -> bool:
        """Tells the server to forget the session, without waiting; False where it cannot be told."""
        return False

    async def has_forgotten(self) -> None:
        """Reads the answer to :meth:`ask_to_forget`; raises the driver's error if there is none."""
        raise NotImplementedError

    def begin_to_wash(self) -> bool:
        """Has the server let go of locks, settings and tables of this session; False: close the connection instead."""
        if self.make_session is None or not self.nothing_to_end or self.stream_unfinished:
            return False
        self.washing = self.ask_to_forget()
        return self.washing

    async def end_washing(self, *, within: float) -> None:
        """Makes the session anew, as it was after the login; raises where that did not come about in time."""
        assert self.make_session is not None
        watchdog = self._loop.call_later(within, self._give_up, f"{within:g} s (reset)")
        try:
            await self.has_forgotten()
            await self.make_session()
        except BaseException:
            self.doom = self.doom or "it could not be reset"
            raise
        finally:
            watchdog.cancel()
        if self.doom is not None:
            raise TimeoutError(self.doom)
        self.left, self.washing, self.errors_met = None, False, False
        self.begin_limits()

    def discard(self) -> None:
        """Closes an idle connection at once, also one whose loop is closed; never waits, never raises."""
        self.abort()

    def ends_transaction(self, error: BaseException) -> bool:
        """Whether the server has rolled back the whole transaction along with this error."""
        raise NotImplementedError

    @property
    def cause(self) -> str | None:
        """Why it was dropped in use, as the pool counts it; None where it was replaced, or came to its end."""
        if self.gave_up is not None:
            return self.gave_up
        if self.errors_met or self.in_doubt or self.poison:
            return "lost"
        return None if self.doom is None or NO_ANSWER in self.doom else "unclean"

    @property
    def can_change_limit(self) -> bool:
        """Whether the server listens now; if not, the statement that comes fails anyway."""
        return True

    @property
    def closed_by_server(self) -> bool:
        return self.look() is Liveness.DEAD

    # -- errors --------------------------------------------------------------------------------------------------

    def _handle_exception(self, error: Exception) -> NoReturn:
        self.note_error(error)
        if self.doom and isinstance(error, self.dbapi.Error) and self.doom.startswith(NO_REPLY):
            raise self.dbapi.OperationalError(self.doom) from error
        super()._handle_exception(error)

    def note_error(self, error: BaseException) -> None:
        """Draws the conclusions of an error: whether the transaction is over, whether the connection can be trusted."""
        self.errors_met = True
        if not isinstance(error, self.dbapi.Error):
            self.doom = self.doom or f"{type(error).__name__} in the driver"
        elif self.begun is Begun.SENT and self.ends_transaction(error):
            self.poison = "the server rolled it back (deadlock or lock time-out)"

    # -- the transaction -----------------------------------------------------------------------------------------

    @property
    def nothing_to_end(self) -> bool:
        """Whether the end of the transaction needs no word to the server."""
        return (
            self.begun is not Begun.SENT
            and self.doom is None
            and not self.open_streams
            and not self.server_in_transaction
        )

    @property
    def holds_transaction(self) -> bool:
        """Whether whoever comes next would be in a transaction: amid a statement of its own, without one, nobody is."""
        if self.begun is not Begun.NO or self.by_hand:
            return True
        return not self.waits_for_reply and bool(self.server_in_transaction)

    def want_transaction(self) -> None:
        """Notes that a transaction is wanted; where there is one, it is that one."""
        if self.begun is Begun.NO:
            self.begun = Begun.WANTED
            self.may_have_written = False

    def account_for(self, statement: str, kind: Kind | None = None, found: Residue | None = None) -> None:
        """Called where ``statement`` is about to be sent, by whomever. In a greenlet.

        ``kind`` and ``found`` are what is known of it; by default what its words tell.
        """
        kind = kind_of_text(statement) if kind is None else kind
        found = residue(statement) if found is None else found
        self.before(kind)
        self.note_what_is_left(statement, found)
        if kind is Kind.READ and self.left is not None and not self.routines.leave_nothing(found.calls):
            # A project's function with the name of one of the server's: it may write, and so belongs in a transaction.
            self.may_have_written = True
            if self.begun is Begun.WANTED and not self.options.single:
                await_(self._begin_now())

    def note_what_is_left(self, statement: str, found: Residue) -> None:
        """Notes what ``statement`` leaves on the session. In a greenlet."""
        if found.defines_routines:
            self.routines.forget()
        left = found.left or self.config.family in found.left_on
        if self.left is None and (left or (found.calls and not self._leave_nothing(found))):
            self.left = first_word(statement)

    def _leave_nothing(self, found: Residue) -> bool:
        asked = self.routines.unknown(found.calls)
        # Where it reads what the statement before has left, another question would come between them.
        if asked and self.can_change_limit and not (self.stream_unfinished or found.reads_left):
            await_(self._first(self._learn(asked), "a function was looked up"))
        return self.routines.leave_nothing(found.calls)

    async def _learn(self, asked: list[str]) -> None:
        names = sorted({name.lstrip(".") for name in asked})
        self.routines.learn(asked, await self.bounded(self.ask_about_routines(names)))

    def before(self, kind: Kind) -> None:
        """Called before each statement: refuses it in a dead transaction, and sends BEGIN where one is due."""
        if self.options.owner is not None:
            check_owner(self.config.alias, self.options.owner)
        if self.keeper is not None:
            self.keeper.admit(kind)
        self.require_usable()
        if kind is Kind.BOUNDARY and (self.options.owner is not None or self.keeper is not None):
            self.refuse_boundary()
        if self.open_streams:
            self.end_left_streams()
        if self.begun is Begun.NO:
            self._begin_as_implied()
        elif self.begun is Begun.SENT and not self.server_in_transaction:
            self.begun = Begun.WANTED  # MySQL has committed by itself before DDL: what follows needs a new BEGIN
        if kind is Kind.OPAQUE and self.options.single:
            kind = Kind.READ  # what it locks is let go at its end, what it calls is committed there
        limit = limit_of_context()
        if limit == UNSAID:
            limit = self._limit_of_config
        if limit != self.limit and self.can_change_limit:
            await_(self._first(self.change_limit(limit, in_transaction=self.begun is Begun.SENT), "its limit was set"))
        if self.begun is Begun.WANTED and (self.options.eager or self.needs_begin(kind)):
            await_(self._begin_now())
        if kind is Kind.WRITE and self.begun is not Begun.NO:
            self.wrote = True
        if kind is not Kind.READ:
            self.may_have_written = True

    def _begin_as_implied(self) -> None:
        """Wants the transaction that a statement of SQLAlchemy's user begins, also where SQLAlchemy knows of none.

        A listener to an engine's ``begin`` or a pool's ``checkout`` sends its statements before that.
        """
        if self.implies_begin and self.isolation_override != "AUTOCOMMIT":
            self.want_transaction()
        else:
            self.by_hand = bool(self.server_in_transaction)

    async def before_raw(self, statement: str | None) -> None:
        """Called by the driver's connection before a statement of who has it in hand; None: its words are not known."""
        if self.waits_for_reply:
            return  # it came by one of our own ways, and was prepared for there
        if self.keeper is not None:
            self.keeper.admit(Kind.OPAQUE)
        self.require_usable()
        kind = Kind.OPAQUE if statement is None else kind_of_text(statement)
        if self.begun is Begun.NO:
            self._begin_as_implied()
        elif self.begun is Begun.SENT and not self.server_in_transaction:
            self.begun = Begun.WANTED
        if self.begun is Begun.WANTED and (self.options.eager or statement is None or self.needs_begin(kind)):
            await self._begin_now()
        self.wrote = self.wrote or (kind is Kind.WRITE and self.begun is not Begun.NO)
        self.may_have_written = True

    def require_usable(self) -> None:
        """Raises where the transaction is over, or the connection lost."""
        if (reason := self.poison or self.spoiled) is not None:
            raise TransactionPoisoned(
                f"the transaction on {self.config.alias!r} is over: {reason}; leave its block, then start again",
            )
        if self.doom is not None:
            raise self.dbapi.OperationalError(f"this connection is lost: {self.doom}")

    def refuse_boundary(self) -> NoReturn:
        """Raises, for somebody wants to begin or end a transaction that is not his."""
        raise TransactionMisuse(f"the atomic() block on {self.config.alias!r} {_ENDS_ITSELF}")

    def needs_begin(self, kind: Kind) -> bool:
        """Whether a statement of this kind needs a BEGIN before it.

        A plain read does not where each statement has a snapshot of its own anyway (SQL-92, READ COMMITTED).
        """
        level = self.options.isolation or self.isolation_override or self.isolation_level_of_server
        return kind is not Kind.READ or level not in _EACH_STATEMENT_READS_ANEW

    async def _begin_now(self) -> None:
        begin = self.send_begin(self.options, self.options.isolation or self.isolation_override)
        await self._first(self.bounded(begin), "it began")
        self.begun = Begun.SENT

    async def _first(self, saying: Awaitable[Any], what: str) -> None:
        """Says what comes before a statement; where that fails, the error tells whether nothing was sent yet."""
        try:
            await saying
        except Exception as error:
            try:
                self._handle_exception(error)
            except Exception as raised:
                raised.nothing_was_sent = self.begun is not Begun.SENT  # type: ignore[attr-defined]
                raise
        except BaseException:
            self.doom = f"cancelled while {what}"
            raise

    def end(self, sql: str) -> None:
        """Commits or rolls back, if the server has anything to end."""
        if sql == "COMMIT" and self.options.owner is not None and not self.may_commit:
            self.refuse_boundary()
        poison, sent = self.poison or self.spoiled, self.begun is Begun.SENT
        try:
            if self.open_streams:
                self.end_streams(unread=self.doom is not None or (sql != "COMMIT" and self.stream_unfinished))
            if self.doom is not None:
                self.abort()  # what it would answer cannot be told apart; the server rolls back when it is gone
                if sql == "COMMIT" and sent:
                    raise self.dbapi.OperationalError(f"this connection is lost, nothing was committed: {self.doom}")
            elif sql == "COMMIT" and poison is None:
                if sent:
                    self.commit_now()
            elif self.server_in_transaction:
                self._roll_back()
        finally:
            if sql == "COMMIT" and poison is None:
                self._limit_in_transaction = False
            else:
                self.forget_limit()
            self.begun, self.options, self.wrote, self.may_commit = Begun.NO, DEFAULT_OPTIONS, False, False
            self.wrote_before.clear()
            self.may_have_written = False
            self.poison = self.spoiled = None
        self.errors_met = False
        if sql == "COMMIT" and poison is not None:
            raise TransactionPoisoned(
                f"the transaction on {self.config.alias!r} was not committed: {poison}; nothing of it was saved",
            )

    def _say(self, sql: str) -> None:
        try:
            self.wait_for(self.send(sql))
        except Exception as error:
            self._handle_exception(error)
        except BaseException:
            self.doom = f"cancelled during {sql}"
            raise

    def _roll_back(self) -> None:
        """Rolls back; where that fails the connection is dropped, with which the server rolls back by itself."""
        if self.stream_unfinished:
            self.doom = "a stream was left unfinished"
            return
        try:
            self._say("ROLLBACK")
        except Exception as error:
            self.doom = self.doom or "ROLLBACK failed"
            log.info("%r: ROLLBACK failed (%s); the connection is dropped", self.config.alias, type(error).__name__)


def physical(dbapi_connection: Any) -> Any:
    """The ``PhysicalConnection`` behind SQLAlchemy's proxies."""
    return getattr(dbapi_connection, "dbapi_connection", None) or dbapi_connection
