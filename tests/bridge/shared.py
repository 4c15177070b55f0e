"""What the tests of the shared transaction have in common: a table that both ORMs know, and who writes to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from sqlalchemy import String, UniqueConstraint, delete, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asyncdb import Session
from django_bridge import database, run_django


class Base(DeclarativeBase):
    pass


class Kind(Base):
    """Django's ContentType as SQLAlchemy sees it; unique by (app_label, model)."""

    __tablename__ = "django_content_type"
    __table_args__ = (UniqueConstraint("app_label", "model"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    app_label: Mapped[str] = mapped_column(String(100))
    model: Mapped[str] = mapped_column(String(100))


async def create_table(using: str | None = None) -> None:
    async with database(using).engine.begin() as making:
        await making.run_sync(Base.metadata.create_all)


async def clear() -> None:
    await database().execute(delete(Kind))


async def outside(using: str | None = None) -> list[str]:
    """What a third connection sees."""
    async with database(using).session() as db:
        return list(await db.scalars(select(Kind.model).order_by(Kind.model)))


async def session_writes(db: Session, model: str) -> None:
    await db.execute(insert(Kind).values(app_label="a", model=model))


async def object_writes(db: Session, model: str) -> None:
    db.add(Kind(app_label="a", model=model))


async def orm_writes(db: Session, model: str) -> None:
    await ContentType.objects.acreate(app_label="a", model=model)


def create(model: str) -> None:
    with transaction.atomic():
        ContentType.objects.create(app_label="a", model=model)


async def sync_code_writes(db: Session, model: str) -> None:
    await run_django(create, model)


async def thread_writes(db: Session, model: str) -> None:
    await sync_to_async(create)(model)


async def session_reads(db: Session) -> list[str]:
    return list(await db.scalars(select(Kind.model).order_by(Kind.model)))


async def orm_reads(db: Session) -> list[str]:
    return [one.model async for one in ContentType.objects.order_by("model")]


def models() -> list[str]:
    return list(ContentType.objects.order_by("model").values_list("model", flat=True))


async def sync_code_reads(db: Session) -> list[str]:
    return await run_django(models)


async def thread_reads(db: Session) -> list[str]:
    return await sync_to_async(models)()


def create_without_savepoint(model: str) -> None:
    ContentType.objects.create(app_label="a", model=model)


async def bare_sync_code_writes(db: Session, model: str) -> None:
    await run_django(create_without_savepoint, model)


async def bare_thread_writes(db: Session, model: str) -> None:
    await sync_to_async(create_without_savepoint)(model)


Writer = Callable[[Session, str], Awaitable[None]]
WRITERS: list[Writer] = [session_writes, object_writes, orm_writes, sync_code_writes, thread_writes]
READERS = [session_reads, orm_reads, sync_code_reads, thread_reads]


WITHOUT_SAVEPOINT: list[Writer] = [
    session_writes,
    object_writes,
    orm_writes,
    bare_sync_code_writes,
    bare_thread_writes,
]
