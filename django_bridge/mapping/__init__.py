"""Django's models as SQLAlchemy's: tables, mapped classes, rows."""
