"""Two crawls of the same script side by side: what differs, in words, after masking what must."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterator
from typing import Any

_CSRF = re.compile(r'(name="csrfmiddlewaretoken" value=")\w+|(csrfmiddlewaretoken=)\w+')
_HASH = re.compile(r"(<strong>(?:salt|hash)</strong>: <bdi>)[^<]*")
_CLOCK = re.compile(r"\b\d\d:\d\d(:\d\d)?(\.\d+)?([+-]\d\d:?\d\d)?\b")
_NEW_ID = re.compile(r"(?<!\d)10\d{3}(?!\d)")
_OPTION = re.compile(r'\s*<option value="[^"]*"(?: selected)?>[^<]*?of.(\d)</option>')
_MOST_SHOWN = 4


def differences(stock: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Each difference of the answers, of what was logged meanwhile, and of the rows at the end."""
    together = len(stock["crawls"]) > 1
    found = [
        f"client {number}, {text}" if together else text
        for number, (one, two) in enumerate(zip(stock["crawls"], other["crawls"], strict=True), 1)
        for text in _of_crawl(one, two, number if together else None)
    ]
    for table in stock["rows"]:
        one, two = stock["rows"][table], other["rows"][table]
        if one != two:
            lost, more = sorted(set(one) - set(two)), sorted(set(two) - set(one))
            found.append(f"rows of {table} ({len(one)} stock, {len(two)} bridged)\n    lost: {lost}\n    more: {more}")
    found += [f"logged at the end: {text}" for text in other["logged"] if text not in stock["logged"]]
    return found


def shown(found: list[str]) -> str:
    """A failure's text: how many differences, and the first of them."""
    more = f"\n... and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
    return (
        f"{len(found)} differences between Django as it is and the bridge:\n\n"
        + "\n\n".join(found[:_MOST_SHOWN])
        + more
    )


def _of_crawl(one: list[Any], two: list[Any], number: int | None) -> Iterator[str]:
    for (step, stock), (_, bridged) in zip(one, two, strict=True):
        for before, after in zip(stock, bridged, strict=False):
            if why := _of_answers(before, after, number):
                logged = "".join(f"\n    logged: {text}" for text in after.get("logged", []))
                yield f"{step}: {after['asked']}\n{why}{logged}"
                break  # what follows in this step follows from it
        else:
            if len(stock) != len(bridged):
                rest = (stock if len(stock) > len(bridged) else bridged)[min(len(stock), len(bridged))]
                yield f"{step}: {len(stock)} requests stock, {len(bridged)} bridged; one more: {rest['asked']}"


def _of_answers(stock: dict[str, Any], bridged: dict[str, Any], number: int | None) -> str:
    for name in ("asked", "sent", "failed", "status", "headers"):
        one, two = (masked(repr(answer.get(name)), number) for answer in (stock, bridged))
        if one != two:
            return f"    {name}: {one} stock, {two} bridged"
    one, two = (masked(answer.get("body", ""), number) for answer in (stock, bridged))
    if one != two:
        lines = difflib.unified_diff(one.splitlines(), two.splitlines(), "stock", "bridged", n=1, lineterm="")
        return "\n".join(f"    {line.rstrip()[:200]}" for line in list(lines)[:25])
    # Of several clients at once nobody can say whose doing a line of the log is.
    if number is None and (one := _heads(stock)) != (two := _heads(bridged)):
        return f"    logged: {one} stock, {two} bridged"
    return ""


def _heads(answer: dict[str, Any]) -> list[str]:
    return [text.partition("\n")[0] for text in answer.get("logged", [])]


def masked(text: str, number: int | None) -> str:
    """Without tokens, salts and today's times; of several clients' also without new ids, without
    what is others', and in no order."""
    text = _CSRF.sub(r"\1\2...", text)
    text = _HASH.sub(r"\1...", text)
    for day in _TODAY:
        text = re.sub(rf"{re.escape(day)}(,? (\d+:\d\d|\d+) [ap]\.m\.|, noon|, midnight)?", "today", text)
    text = _CLOCK.sub("now", text)
    if number is not None:
        text = _NEW_ID.sub("new", text)
        text = _OPTION.sub(lambda found: found[0] if int(found[1]) == number else "", text)
        # What a page lists without an ORDER BY comes as the clients' writes have mixed.
        text = "\n".join(sorted(filter(None, map(str.strip, text.replace("<", "\n<").splitlines()))))
    return text


def _spellings(day: datetime.date) -> Iterator[str]:
    from django.utils.dateformat import format as django_format

    yield day.isoformat()
    yield django_format(day, "N j, Y")
    yield django_format(day, "M j, Y")


# The day before and the one after are there for a crawl over midnight, in whatever zone.
_TODAY = [
    text
    for days in (-1, 0, 1, 2)
    for text in _spellings(datetime.date.today() + datetime.timedelta(days=days))  # noqa: DTZ011
]
