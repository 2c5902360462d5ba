"""Pages that the gateway itself shows."""

import json
from html.parser import HTMLParser

import pytest

from gateway.errors import REFUSALS
from gateway.pages import build_page, wants_json

EVIL = "<script>alert(1)</script>\"'&{x}"


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        self.text += data


@pytest.mark.parametrize("reason", REFUSALS)
def test_page_is_accessible_and_self_contained(reason: str) -> None:
    """Every page has language, title, one heading, a landmark, and fetches nothing."""
    status, text = REFUSALS[reason]
    body, content_type = build_page(status, reason)
    page = Page(body.decode())
    names = [tag for tag, _ in page.tags]
    assert content_type == b"text/html; charset=utf-8"
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert [names.count(name) for name in ("title", "h1", "main", "footer")] == [1, 1, 1, 1]
    assert not {"script", "link", "img", "iframe", "base", "form"} & set(names)
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in page.tags)
    assert "url(" not in page.text
    assert text in page.text
    assert f"status {status}" in page.text
    assert "prefers-color-scheme:dark" in page.text
    assert "{" not in body.decode().split("</style>")[1]


def test_nothing_is_reflected_unescaped() -> None:
    """What came from elsewhere is text, never markup."""
    body, _ = build_page(503, "app_failed", EVIL, detail=EVIL, request_id=EVIL)
    page = Page(body.decode())
    assert "script" not in [tag for tag, _ in page.tags]
    assert page.text.count(EVIL) == 4


def test_detail_is_bounded() -> None:
    """A long reason does not become a long page."""
    body, _ = build_page(503, "app_failed", detail="é" * 5000)
    assert body.decode().count("é") == 300


def test_lone_surrogate_does_not_break_a_page() -> None:
    """A detail that is no Unicode text is still shown."""
    assert b"a?b" in build_page(503, "app_failed", detail="a\udcffb")[0]


@pytest.mark.parametrize(
    ("reason", "refreshes"),
    [("app_starting", True), ("app_building", True), ("app_failed", False), ("bad_host", False)],
)
def test_page_asks_again_only_if_waiting_helps(reason: str, refreshes: bool) -> None:
    """A start passes by itself; a failure does not."""
    body, _ = build_page(REFUSALS[reason][0], reason)
    assert (b'http-equiv="refresh"' in body) is refreshes


def test_unknown_reason_and_status_still_make_a_page() -> None:
    """A word or a status that the tables lack does not leave the visitor without a page."""
    body, _ = build_page(418, "teapot")
    assert b"<h1>Status 418</h1>" in body
    assert REFUSALS["internal"][1].encode() in body


def test_programs_get_problem_details() -> None:
    """With JSON asked for, the same words come as RFC 9457 problem details."""
    body, content_type = build_page(
        503, "app_failed", detail=EVIL, request_id="r1", wants_json=True
    )
    assert content_type == b"application/problem+json"
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "The app could not start",
        "status": 503,
        "detail": f"{REFUSALS['app_failed'][1]} {EVIL}",
        "reason": "app_failed",
        "request_id": "r1",
    }
    assert "request_id" not in json.loads(build_page(400, "bad_host", wants_json=True)[0])


@pytest.mark.parametrize(
    ("accept", "prefers"),
    [
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"Application/JSON ; charset=utf-8", True),
        (b"application/json, text/plain, */*", True),
        (b"application/json;q=0.9, text/html;q=0.8", True),
        (b"text/html, application/json", False),
        (b"application/json;q=0.5, text/html", False),
        (b"application/json;q=0", False),
        (b"application/json;q=x", False),
        (b"application/json;q=-1", False),
        (b"application/json;q=nan", False),
        (b"application/json;q=\xff", False),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", False),
        (b"*/*", False),
        (b"", False),
        (b",;,", False),
        (b"text/event-stream", False),
    ],
)
def test_preference_is_read_from_accept(accept: bytes, prefers: bool) -> None:
    """JSON is given to who prefers it; people get HTML."""
    assert wants_json(accept) is prefers
