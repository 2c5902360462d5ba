"""Pages that the gateway itself shows: what went wrong, in words for people, or as JSON.

Invariants: everything that did not come from this package is escaped; a page needs no other
resource, no script and no font; the same words reach people and programs.
"""

import json
from html import escape

from gateway.errors import REFUSALS, STATUS_TITLES
from gateway.pages.template import (
    ADVICE,
    DETAIL,
    PAGE,
    REFERENCE,
    REFRESH,
    REFRESHED,
    TITLES,
    TONES,
)

HTML = b"text/html; charset=utf-8"
PROBLEM_JSON = b"application/problem+json"

_LONGEST_DETAIL = 300


def build_page(
    status: int,
    reason: str,
    title: str | None = None,
    *,
    detail: str = "",
    request_id: str = "",
    wants_json: bool = False,
) -> tuple[bytes, bytes]:
    """A page about a refusal: (body, content type).

    `reason` is a word of `REFUSALS` (any other word gets the sentence of "internal");
    `title` overrides the heading; `detail` says more in plain words, such as the state's
    reason; `request_id` lets the visitor and the operator speak of the same request.
    """
    text = REFUSALS.get(reason, REFUSALS["internal"])[1]
    heading = title or TITLES.get(reason) or STATUS_TITLES.get(status) or f"Status {status}"
    detail = detail[:_LONGEST_DETAIL]
    if wants_json:
        return _build_problem(status, reason, heading, text, detail, request_id), PROBLEM_JSON
    extra = DETAIL.format(detail=escape(detail)) if detail else ""
    extra += ADVICE.get(reason, "")
    if request_id:
        extra += REFERENCE.format(request_id=escape(request_id))
    page = PAGE.format(
        status=status,
        refresh=REFRESH if reason in REFRESHED else "",
        tone=TONES.get(status, "bad"),
        title=escape(heading),
        text=escape(text),
        extra=extra,
    )
    return page.encode("utf-8", "replace"), HTML


def _build_problem(
    status: int, reason: str, title: str, text: str, detail: str, request_id: str
) -> bytes:
    """RFC 9457 problem details."""
    problem: dict[str, str | int] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": f"{text} {detail}".strip(),
        "reason": reason,
    }
    if request_id:
        problem["request_id"] = request_id
    return json.dumps(problem).encode("ascii")


def wants_json(accept: bytes) -> bool:
    """Whether an Accept value prefers JSON to HTML (RFC 9110 section 12.5.1).

    HTML wins a tie, and wins when nothing, or something that cannot be understood, is said.
    """
    json_weight = html_weight = 0.0
    for member in accept.lower().split(b","):
        name, *parameters = (part.strip() for part in member.split(b";"))
        weight = _parse_weight(parameters)
        if name in {b"application/json", PROBLEM_JSON}:
            json_weight = max(json_weight, weight)
        elif name in {b"text/html", b"application/xhtml+xml", b"text/*"}:
            html_weight = max(html_weight, weight)
    return json_weight > html_weight


def _parse_weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return min(max(float(parameter[2:].decode("ascii", "replace")), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
