"""Relations that were not loaded: on the event loop they are refused by name, where SQLAlchemy says MissingGreenlet.

Read in SQLAlchemy 2.1.9 (``orm/strategies.py``: ``_LazyLoader._emit_lazyload``, which is called where SQL is needed and
nowhere else; ``orm/interfaces.py``: ``StrategizedProperty.strategy_for``; ``orm/instrumentation.py``:
``ClassManager.expired_attribute_loader``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy.orm import Mapper, RelationshipProperty, object_session
from sqlalchemy.orm.strategies import _LazyLoader

from asyncdb.greenlets import in_greenlet

from ..errors import LazyLoadError
from ..loops import on_the_loop

__all__ = ["LAZY", "refuse_expired"]

LAZY: Any = "django_bridge"
"""What ``relationship(lazy=...)`` is given for it."""


@RelationshipProperty.strategy_for(lazy=LAZY)
class _Refusing(_LazyLoader):
    """SQLAlchemy's lazy loading, where something can wait for the database."""

    def _emit_lazyload(self, session: Any, *args: Any, **kwargs: Any) -> Any:
        if not _can_wait(session, self.mapper):
            name, relation = self.parent.class_.__name__, self.key
            load = "selectinload" if self.uselist else "joinedload"
            raise LazyLoadError(
                f"{name}.{relation} was not loaded, and attribute access cannot wait for the database in async code: "
                f"add .options({load}({name}.{relation})) to the statement, or await "
                f"db.refresh({name.lower()}, [{relation!r}])",
            )
        return super()._emit_lazyload(session, *args, **kwargs)  # type: ignore[no-untyped-call]  # SQLAlchemy's


def _can_wait(session: Any, mapper: Mapper[Any]) -> bool:
    if in_greenlet() or not on_the_loop():
        return True  # run_sync(), run_django(); or sync_session() in a thread, whose dialect is an async one too
    return not session.get_bind(mapper).dialect.is_async


def refuse_expired(mapper: Mapper[Any]) -> None:
    """Lets columns that are read anew, after a roll-back or ``expire()``, be refused in the same way."""
    manager: Any = mapper.class_manager
    load = manager.expired_attribute_loader

    def load_if_it_can(state: Any, names: Iterable[str], passive: Any) -> Any:
        session = object_session(state.obj())
        if session is not None and not _can_wait(session, mapper):
            raise LazyLoadError(
                f"{mapper.class_.__name__}.{min(names)} has to be read again (after a roll-back, or expire()), and "
                f"attribute access cannot wait for the database in async code: await db.refresh(object)",
            )
        return load(state, names, passive)

    manager.expired_attribute_loader = load_if_it_can
