"""Takes the installed Django and asgiref for read: writes the hashes of the hooked functions to drift.json.

Run it with each supported Django, all drivers installed, after reading every function that
``django_bridge.drift.changed()`` names: ``python scripts/read_hooks.py``. With ``--keep``, what was accepted
before stays accepted, for a release of the same line.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import django
from django.conf import settings

if __name__ == "__main__":
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DATABASES={
            alias: {"ENGINE": f"django.db.backends.{engine}"}
            for alias, engine in (("default", "sqlite3"), ("mysql", "mysql"), ("postgresql", "postgresql"))
        },
    )
    django.setup()
    from django_bridge import drift

    for name in drift.changed():
        print(name)  # noqa: T201
    drift.read_again(keep="--keep" in sys.argv[1:])
