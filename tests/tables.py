"""The two tables of the core's tests: books, and the authors of some of them."""

from __future__ import annotations

from sqlalchemy import ForeignKey, MetaData, String
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

SEQUENCE = "JSON_TABLE(CONCAT('[0', REPEAT(',0', {n} - 1), ']'), '$[*]' COLUMNS (seq FOR ORDINALITY)) AS numbers"
"""The numbers from 1 to n, as a table of MySQL and MariaDB; ``seq_1_to_n`` is MariaDB's alone."""


class Base(DeclarativeBase):
    metadata = MetaData()


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"), default=None)
    author: Mapped[Author | None] = relationship(lazy="raise")


book = Book.__table__
author = Author.__table__


async def create_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
