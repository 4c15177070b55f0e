"""``python -m projects.worker``: maps, fills and compares the project of its job, in the project's environment."""

from __future__ import annotations

import asyncio
import json
import platform
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import django

from .job import Job

__all__ = ["check"]


def check(job: Job) -> dict[str, Any]:
    """Returns the findings."""
    django.setup()
    from django.apps import apps
    from django.core.management import call_command
    from django.db import connection
    from sqlalchemy.exc import SAWarning
    from sqlalchemy.orm import configure_mappers

    from asyncdb import registry

    from .accessors import missing
    from .comparing import Compared, compare
    from .completing import complete
    from .filling import fill
    from .linking import link
    from .making import know

    warnings.simplefilter("error", SAWarning)
    call_command("migrate", verbosity=0)
    models = list(apps.get_models(include_auto_created=True))
    counts = [missing(model) for model in models]
    configure_mappers()
    there = set(connection.introspection.table_names(include_views=True))
    kept = [model for model in models if model._meta.db_table in there]
    concrete = [model for model in kept if not model._meta.proxy]
    random.seed(job.seed)
    know(concrete)
    empty = fill(concrete, job.rows)
    link(concrete)
    complete(concrete)
    found = Compared()

    async def run() -> None:
        for model in kept:
            await compare(model, found)
        await registry.close_all()

    asyncio.run(run())
    return {
        "django": django.__version__,
        "python": platform.python_version(),
        "models": len(models),
        "columns": sum(count[0] for count in counts),
        "relations": sum(count[1] for count in counts),
        "missing": [name for count in counts for name in count[2]],
        "without_table": [model._meta.label for model in models if model not in kept],
        "rows_of": {model._meta.label: model._base_manager.count() for model in concrete},
        "empty": empty,
        **vars(found),
    }


def main() -> None:
    """Writes the findings of this process's job."""
    job = Job.from_environment()
    Path(job.report).write_text(json.dumps(check(job), default=str))


if __name__ == "__main__":
    main()
    sys.exit()
