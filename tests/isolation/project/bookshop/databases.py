"""``SHOP_DATABASE_URL`` as an entry of Django's ``DATABASES``."""

from urllib.parse import parse_qsl, unquote, urlsplit

ENGINES = {
    "mysql": "django.db.backends.mysql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}


def database_from_url(url):
    """``sqlite://`` alone is a database in memory, also in the tests; with a path the tests have a file as well."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        path = parts.path.removeprefix("/")
        return {
            "ENGINE": ENGINES["sqlite"],
            "NAME": path or ":memory:",
            "TEST": {"NAME": f"{path}.test" if path else None},
        }
    return {
        "ENGINE": ENGINES[parts.scheme],
        "NAME": parts.path.removeprefix("/"),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),
    }
