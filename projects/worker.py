"""``python -m projects.worker FILE``: checks the project of ``DJANGO_SETTINGS_MODULE`` and writes what it found."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import django


def check() -> dict[str, Any]:
    """Maps, fills and compares."""
    django.setup()
    from django.apps import apps
    from django.core.management import call_command
    from sqlalchemy.exc import SAWarning

    from asyncdb import registry

    from .comparing import different, missing
    from .filling import fill, link

    warnings.simplefilter("error", SAWarning)
    call_command("migrate", verbosity=0)
    found = [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]
    concrete = [model for model in found if not model._meta.proxy]
    columns = relations = compared = 0
    gone: list[str] = []
    differs: list[str] = []
    for model in found:
        in_columns, in_relations, absent = missing(model)
        columns, relations, gone = columns + in_columns, relations + in_relations, gone + absent
    empty = fill(concrete)
    links = link(concrete)

    async def compare() -> None:
        nonlocal compared, differs
        for model in found:
            number, found_here = await different(model)
            compared, differs = compared + number, differs + found_here
        await registry.close_all()

    asyncio.run(compare())
    return {
        "django": django.__version__,
        "models": len(found),
        "columns": columns,
        "relations": relations,
        "missing": gone,
        "rows": sum(model._base_manager.count() for model in concrete),
        "links": links,
        "empty": empty,
        "compared": compared,
        "differences": differs,
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(check(), indent=1))
