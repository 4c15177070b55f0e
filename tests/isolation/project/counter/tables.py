"""The tables of the other apps, for SQLAlchemy."""

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Integer, MetaData, Numeric, String, Table

metadata = MetaData()
book = Table(
    "catalogue_book",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("title", String(100)),
    Column("isbn", String(20)),
    Column("author_id", BigInteger),
    Column("price", Numeric(8, 2)),
    Column("published", Date),
    Column("in_print", Boolean),
    Column("stock", Integer),
)
order = Table(
    "orders_order",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("reference", String(40)),
    Column("customer_id", BigInteger),
    Column("created", DateTime(timezone=True)),
)
event = Table(
    "orders_event",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("kind", String(20)),
    Column("reference", String(40)),
)
