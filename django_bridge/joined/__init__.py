"""Async code, and SQLAlchemy's sync sessions, on Django's own connection and in its transaction.

::

    sync code in transaction.atomic(), or a test
      async_to_sync ──> session(), atomic(), database().fetch_*
                          a Link: SQLAlchemy's connection, whose statements run in the caller's thread,
                          through Django's cursor, and whose transactions are blocks of Django's Atomic
"""
