"""Every row of every table, as it can be compared between two runs."""

from __future__ import annotations

import datetime
from typing import Any

from django.apps import apps
from django.contrib.auth.hashers import check_password
from django.contrib.sessions.models import Session

PASSWORDS = ("correct horse", "a new horse", "another horse")


def all_rows(since: datetime.datetime, *, mask_ids_from: int | None) -> dict[str, list[str]]:
    found = {}
    for model in apps.get_models(include_auto_created=True):
        columns = [column.attname for column in model._meta.concrete_fields]
        if model is Session:
            found["sessions"] = sorted(repr(_decoded(session)) for session in Session.objects.all())
            continue
        found[model._meta.label] = sorted(
            repr([(name, _value(name, value, since, mask_ids_from)) for name, value in zip(columns, row, strict=True)])
            for row in model._base_manager.values_list(*columns)
        )
    return found


def _decoded(session: Session) -> list[tuple[str, Any]]:
    return sorted((k, v) for k, v in session.get_decoded().items() if k != "_auth_user_hash")


def _value(name: str, value: Any, since: datetime.datetime, mask_ids_from: int | None) -> Any:
    if isinstance(value, datetime.datetime) and value >= since:
        return "now"
    if name == "password":
        return next((plain for plain in PASSWORDS if check_password(plain, value)), value)
    if mask_ids_from and isinstance(value, int) and not isinstance(value, bool) and value >= mask_ids_from:
        return "new"
    if mask_ids_from and name == "object_id" and str(value).isdigit() and int(value) >= mask_ids_from:
        return "new"
    return value
