"""A session's tenant: row-level security on PostgreSQL; on MariaDB a view and a trigger that read a user variable."""

from django.db import connection

SCHEMA = {
    "postgresql": """
        CREATE TABLE tenant_item (id serial PRIMARY KEY, tenant integer NOT NULL, name varchar(40) NOT NULL);
        ALTER TABLE tenant_item ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON tenant_item USING (tenant = NULLIF(current_setting('storm.tenant', true), '')::integer);
        GRANT ALL ON tenant_item TO PUBLIC;
        GRANT ALL ON SEQUENCE tenant_item_id_seq TO PUBLIC;
    """,
    "mysql": """
        CREATE TABLE every_item (id integer AUTO_INCREMENT PRIMARY KEY, tenant integer, name varchar(40) NOT NULL);
        CREATE FUNCTION current_tenant() RETURNS integer NO SQL RETURN @tenant;
        CREATE VIEW tenant_item AS SELECT id, tenant, name FROM every_item WHERE tenant = current_tenant()
            WITH CHECK OPTION;
    """,
}
EVERY_ITEM = {"postgresql": "tenant_item", "mysql": "every_item"}


def set_tenant(number: int | None, *, local: bool = False) -> None:
    """Says it to the session, or with ``local`` on PostgreSQL to the transaction alone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT set_config('storm.tenant', %s, %s)", ["" if number is None else str(number), local])
        else:
            cursor.execute("SET @tenant = %s", [number])


def asked_tenant() -> int | None:
    """What the session says now."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT NULLIF(current_setting('storm.tenant', true), '')::integer")
        else:
            cursor.execute("SELECT @tenant")
        found = cursor.fetchone()[0]
    return None if found is None else int(found)


def found_tenant() -> int | None:
    """The same where nothing was said; a user variable that was never set is refused: docs/how-to/orm.md."""
    if connection.vendor == "postgresql":
        return asked_tenant()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_tenant()")
        return cursor.fetchone()[0]


def setting() -> str:
    """Another setting of the session, which some views change."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT " + ("current_setting('work_mem')" if connection.vendor == "postgresql" else "@@sort_buffer_size")
        )
        return str(cursor.fetchone()[0])


def change_setting() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SET work_mem = '1234kB'" if connection.vendor == "postgresql" else "SET sort_buffer_size = 123456"
        )
