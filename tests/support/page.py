"""A page of the dashboard as somebody without eyes and without scripts has it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx

VOID = frozenset({"meta", "br", "hr", "img", "input", "link", "path", "wbr"})
OF_SVG = frozenset({"path"})


@dataclass(slots=True)
class Form:
    """A form: where it goes, and what it has in its fields by itself."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """What a page holds. Raises AssertionError where it is not as every page is to be."""

    def __init__(self, source: str, address: str) -> None:
        super().__init__()
        self.address = address
        self.text = ""
        self.title = ""
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.cells: list[str] = []
        self._open: list[str] = []
        self._labelled: set[str] = set()
        self._fields: list[str] = []
        self._tables = self._captions = 0
        self.feed(source)
        self.close()
        self.text = " ".join(self.text.split())
        self._check(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is there, and refuse what a page may not have."""
        known = {name: value or "" for name, value in attrs}
        assert "style" not in known, f"{tag} has a style of its own"
        assert not [name for name in known if name.startswith("on")], f"{tag} has a script"
        for name in ("href", "src", "action", "hx-get"):
            if name in known:
                assert urlsplit(urljoin(self.address, known[name])).netloc == self.host
        if "id" in known:
            self.ids.append(known["id"])
        if tag == "a" and "href" in known:
            self.links.append(urljoin(self.address, known["href"]))
        if tag == "form":
            action = urljoin(self.address, known.get("action", ""))
            self.forms.append(Form(known.get("method", "get"), action))
        field_ = tag in {"input", "textarea"} and known.get("type") != "hidden"
        if field_ and "label" not in self._open:
            self._fields.append(known.get("id", ""))
        if tag == "input" and self.forms and known.get("name"):
            self.forms[-1].fields[known["name"]] = known.get("value", "")
        if tag == "label" and "for" in known:
            self._labelled.add(known["for"])
        if tag == "script":
            assert known.get("src"), "a script stands in the page itself"
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append(int(tag[1]))
        if tag in {"td", "th"}:
            self.cells.append("")
        self._tables += tag == "table"
        self._captions += tag == "caption"
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what SVG closes by itself."""
        assert tag in OF_SVG, f"<{tag}/>"

    def handle_endtag(self, tag: str) -> None:
        """Refuse a tag that closes another."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Gather the words."""
        assert "style" not in self._open, "a style stands in the page itself"
        if "title" in self._open:
            self.title += data
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.cells[-1] += data

    @property
    def host(self) -> str:
        """Where the page comes from."""
        return urlsplit(self.address).netloc

    def form(self, ending: str) -> Form:
        """Find the only form that goes where its address ends so."""
        (found,) = [form for form in self.forms if form.action.partition("#")[0].endswith(ending)]
        return found

    def row(self, first: str) -> list[str]:
        """Return the words of the cells from the one that says `first` on."""
        cells = [" ".join(cell.split()) for cell in self.cells]
        return cells[cells.index(first) :]

    def _check(self, source: str) -> None:
        assert source.lower().startswith("<!doctype html>")
        assert self._open == [], f"left open: {self._open}"
        assert len(self.ids) == len(set(self.ids)), "an id stands twice"
        assert self.headings.count(1) == 1, "there is one h1"
        steps = zip(self.headings, self.headings[1:], strict=False)
        assert all(after <= before + 1 for before, after in steps), self.headings
        assert self._tables == self._captions, "a table has no caption"
        assert set(self._fields) <= self._labelled - {""}, "a field has no label"
        assert self.title.strip(" ·")
        assert 'lang="en"' in source
        assert not re.search(r"\b(None|Undefined|nan)\b", self.text), self.text


class Visitor:
    """A browser without scripts: it follows links, sends forms, and keeps cookies."""

    def __init__(self, base_url: str) -> None:
        limits = httpx.Limits(keepalive_expiry=1.0)
        self.http = httpx.Client(base_url=base_url, timeout=15, trust_env=False, limits=limits)

    def close(self) -> None:
        """Close its connections."""
        self.http.close()

    def open(self, address: str, status: int = 200) -> Page:
        """Go to an address, where it may lead on."""
        return page_of(self.http.get(address, follow_redirects=True), status)

    def send(self, form: Form, status: int = 200, **fields: str) -> Page:
        """Send a form with what is written into it, and follow where that leads."""
        filled = {**form.fields, **fields}
        if form.method == "get":
            answer = self.http.get(form.action, params=filled, follow_redirects=True)
        else:
            answer = self.http.post(
                form.action,
                data=filled,
                headers={"Sec-Fetch-Site": "same-origin"},
                follow_redirects=True,
            )
        return page_of(answer, status)


def page_of(answer: httpx.Response, status: int = 200) -> Page:
    """Read the page that is the answer, and insist on what protects it."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[-2000:]}"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    return Page(answer.text, str(answer.url))
