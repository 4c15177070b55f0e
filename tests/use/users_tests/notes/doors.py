"""Every door of the bridge to the database: each writes a row, and says which there are."""

from asgiref.sync import sync_to_async
from django.db import transaction
from sqlalchemy import insert, select

from django_bridge import atomic, database, mapped, run_django, scope, session, sync_session, with_session

from .models import Note
from .views import texts, write


def row():
    return mapped(Note)


async def by_session(text):
    async with session() as db:
        await db.execute(insert(row()).values(text=text))
        await db.commit()
        return sorted((await db.scalars(select(row().text))).all())


async def by_atomic(text):
    async with atomic() as db:
        await db.execute(insert(row()).values(text=text))
        return sorted((await db.scalars(select(row().text))).all())


async def by_both_orms(text):
    async with atomic() as db:
        await Note.objects.acreate(text=text)
        return sorted((await db.scalars(select(row().text))).all())


@with_session
async def by_decorator(text, *, db):
    db.add(row()(text=text))
    await db.commit()
    return sorted((await db.scalars(select(row().text))).all())


async def by_database(text):
    await database().execute(insert(row()).values(text=text))
    return sorted(await database().fetch_all(select(row().text), into=str))


async def by_stream(text):
    await database().execute(insert(row()).values(text=text))
    async with database().stream(select(row().text)) as rows:
        return sorted([one[0] async for one in rows])


async def by_the_orm(text):
    await Note.objects.acreate(text=text)
    return sorted([note.text async for note in Note.objects.all()])


async def by_run_django(text):
    await run_django(write, text)
    return await run_django(texts)


async def by_scope(text):
    async with scope():
        await Note.objects.acreate(text=text)
        return await run_django(texts)


def in_sync_session(text):
    with transaction.atomic(), sync_session() as db:
        db.add(row()(text=text))
        db.flush()
        return sorted(db.scalars(select(row().text)).all())


async def by_sync_session(text):
    return await run_django(in_sync_session, text)


async def by_sync_session_in_a_thread(text):
    return await sync_to_async(in_sync_session)(text)


async def by_a_thread(text):
    await sync_to_async(write)(text)
    return await sync_to_async(texts)()


DOORS = {name.removeprefix("by_"): door for name, door in list(globals().items()) if name.startswith("by_")}
IN_A_THREAD = ("sync_session_in_a_thread", "a_thread")
"""Sync code that the user sends to a thread himself."""
ASYNC = {name: door for name, door in DOORS.items() if name not in IN_A_THREAD}
