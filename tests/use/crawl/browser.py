"""A browser without pictures: it keeps cookies, reads forms out of pages, and sends them as they stand or changed."""

from __future__ import annotations

import html.parser
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

HOST = "http://testserver"


@dataclass
class Form:
    """What a browser would send: each control's name and value, in order; ``buttons`` are left out."""

    id: str = ""
    action: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._form = Form()
        self._select: list[tuple[str, bool]] | None = None
        self._name = ""
        self._text: list[str] | None = None
        self._multiple = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag == "form":
            self._form = Form(said.get("id", ""), said.get("action", ""))
            self.forms.append(self._form)
        elif tag == "input" and said.get("name") and said.get("type") not in {"submit", "file", "button"}:
            if said.get("type") not in {"checkbox", "radio"} or "checked" in said:
                self._form.fields.append((said["name"], said.get("value", "on" if "checked" in said else "")))
        elif tag == "select":
            self._name, self._select, self._multiple = said.get("name", ""), [], "multiple" in said
        elif tag == "option" and self._select is not None:
            self._select.append((said.get("value", ""), "selected" in said))
        elif tag == "textarea":
            self._name, self._text = said.get("name", ""), []

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select is not None:
            chosen = [value for value, selected in self._select if selected]
            if not chosen and self._select and not self._multiple:
                chosen = [self._select[0][0]]
            self._form.fields += [(self._name, value) for value in chosen if self._name]
            self._select = None
        elif tag == "textarea" and self._text is not None:
            self._form.fields.append((self._name, "".join(self._text).removeprefix("\n")))
            self._text = None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)


@dataclass
class Page:
    """An answer."""

    url: str
    status: int
    location: str
    body: str

    @cached_property
    def _reader(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.body)
        return reader

    @property
    def links(self) -> list[str]:
        """Paths of this site that the page links to, in order."""
        found = [urljoin(self.url, link) for link in self._reader.links]
        return [link for link in found if link.startswith("/")]

    def form(self, like: str) -> Form:
        """The first form whose id or one of whose fields begins so."""
        for form in self._reader.forms:
            if form.id.startswith(like) or any(name.startswith(like) for name, _ in form.fields):
                return form
        raise LookupError(f"{self.url} (status {self.status}) has no form {like!r}")


class Browser:
    """One client. ``answers`` is what it has seen, an entry a request, to be compared with another run's."""

    def __init__(self, http: httpx.AsyncClient, logged: Callable[[], list[str]]) -> None:
        self._http, self._logged = http, logged
        self.answers: list[dict[str, Any]] = []

    async def get(self, url: str) -> Page:
        return await self._ask("GET", url)

    async def post(self, url: str, fields: Mapping[str, str] | list[tuple[str, str]] = ()) -> Page:
        """Sends this form and follows where it is sent to, as browsers do."""
        token = [("csrfmiddlewaretoken", self._http.cookies.get("csrftoken", ""))]
        page = await self._ask("POST", url, [*token, *(fields.items() if isinstance(fields, Mapping) else fields)])
        return await self.get(urljoin(url, page.location)) if page.location else page

    async def submit(self, page: Page, like: str, changes: Mapping[str, str | list[str] | None], *buttons: str) -> Page:
        """Sends a form of the page as it stands, but for these fields (None: left out), by these buttons."""
        form = page.form(like)
        fields = [(name, value) for name, value in form.fields if name not in {*changes, "csrfmiddlewaretoken"}]
        for name, value in changes.items():
            fields += [(name, one) for one in ([value] if isinstance(value, str) else value or [])]
        return await self.post(urljoin(page.url, form.action), [*fields, *((button, "1") for button in buttons)])

    async def _ask(self, method: str, url: str, fields: list[tuple[str, str]] | None = None) -> Page:
        began = time.perf_counter()
        # httpx wants a mapping of lists, and keeps the order of names.
        data: dict[str, list[str]] = {}
        for name, value in fields or []:
            data.setdefault(name, []).append(value)
        try:
            answer = await self._http.request(method, HOST + url, data=data or None)
        except Exception as err:
            self.answers.append({"asked": f"{method} {url}", "failed": repr(err), "logged": self._logged()})
            raise
        self.answers.append(
            {
                "asked": f"{method} {url}",
                "sent": [pair for pair in fields or [] if pair[0] != "csrfmiddlewaretoken"],
                "status": answer.status_code,
                "headers": sorted(_said(name, value) for name, value in answer.headers.multi_items()),
                "body": answer.text,
                "logged": self._logged(),
                "ms": (time.perf_counter() - began) * 1000,
            }
        )
        location = answer.headers.get("location", "")
        place = urlsplit(location)
        return Page(url, answer.status_code, place._replace(scheme="", netloc="").geturl(), answer.text)


def _said(name: str, value: str) -> str:
    """A header as it is compared: of a cookie its name and rules, and nothing of what changes with the time."""
    if name == "set-cookie":
        key, _, rest = value.partition("=")
        rules = [rule for rule in rest.split(";")[1:] if "expires" not in rule.lower()]
        empty = rest.startswith((";", '""'))
        return f"{name}: {key}={'' if empty else '...'};{';'.join(rules)}"
    return f"{name}: {'...' if name in {'date', 'expires', 'content-length', 'etag', 'last-modified'} else value}"
