"""The one template of the gateway's pages, and the words that vary in it.

Invariants: no outside resource, no script; text contrast at least 7:1 in light and dark;
placeholders are filled with escaped text only.
"""

_STYLE = (
    """
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--line:#dfe3e8;--ink:#16202b;
--soft:#475260;--calm:#0b6b75;--warn:#8a5200;--bad:#a3262a}
@media (prefers-color-scheme:dark){:root{--paper:#10151b;--card:#181f27;--line:#2c3641;
--ink:#edf1f5;--soft:#b4bfca;--calm:#6fd3dd;--warn:#f3bd6c;--bad:#ff9d9a}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;flex-direction:column;background:var(--paper);
color:var(--ink);font:1.0625rem/1.6 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{flex:1;display:grid;place-items:center;padding:2rem 1.25rem}
article{width:100%;max-width:34rem;background:var(--card);border:1px solid var(--line);
border-radius:1rem;padding:2.25rem 2.25rem 2rem;
box-shadow:0 1px 2px #0000000a,0 12px 32px #0000000f}
.gate{display:block;width:3rem;height:3rem;margin-bottom:1.25rem}
.calm{color:var(--calm)}.warn{color:var(--warn)}.bad{color:var(--bad)}
h1{margin:0 0 .75rem;font-size:1.625rem;line-height:1.25;letter-spacing:-.01em;text-wrap:balance}
p{margin:0 0 .75rem;color:var(--soft)}
.lead{color:var(--ink)}
.detail{margin:1.25rem 0 1rem;padding:.75rem 1rem;border-left:3px solid var(--line);
background:var(--paper);border-radius:0 .5rem .5rem 0;overflow-wrap:anywhere}
.small{margin:1.25rem 0 0;font-size:.875rem}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
footer{padding:0 1.25rem 1.5rem;text-align:center;font-size:.875rem;color:var(--soft)}
@media (prefers-contrast:more){:root{--line:currentColor}}
""".strip()
    .replace("{", "{{")
    .replace("}", "}}")
)

_GATE = (
    '<svg class="gate {tone}" viewBox="0 0 48 48" fill="none" stroke="currentColor"'
    ' stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
    '<path d="M5 9v30M43 9v30M5 12l17 7v20M43 12l-17 7v20M5 25l17 5M43 25l-17 5"/>'
    "</svg>"
)

PAGE = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="robots" content="noindex">\n'
    '<meta name="color-scheme" content="light dark">\n{refresh}'
    f"<title>{{title}}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    f"<main>\n<article>\n{_GATE}\n<h1>{{title}}</h1>\n"
    '<p class="lead">{text}</p>\n{extra}</article>\n</main>\n'
    "<footer>Lockgate &middot; status {status}</footer>\n</body>\n</html>\n"
)

DETAIL = '<p class="detail">{detail}</p>\n'
REFERENCE = '<p class="small">Reference: <code>{request_id}</code></p>\n'

TONES = {404: "calm", 503: "warn"}
"""Colour of the sign by status; any other is "bad"."""

TITLES = {
    "unknown_host": "No app lives here",
    "private_path": "Nothing here",
    "app_building": "The app is being built",
    "app_starting": "The app is starting",
    "app_unhealthy": "The app is not well",
    "app_asleep": "The app is asleep",
    "app_waking": "The app is waking up",
    "app_draining": "The app is being replaced",
    "app_stopped": "The app is stopped",
    "app_failed": "The app could not start",
    "app_busy": "The app is busy",
    "upstream_unreachable": "The app cannot be reached",
}
"""Headings for reasons that deserve more than the heading of their status."""

_RELOAD = "<p>Reload this page in a moment.</p>\n"
_RELOADS = "<p>This page looks again by itself every few seconds.</p>\n"
_OPERATOR = "<p>If it stays like this, tell whoever runs the app.</p>\n"

REFRESH = '<meta http-equiv="refresh" content="5">\n'
REFRESHED = frozenset({"app_building", "app_starting", "app_waking"})
"""Reasons that pass by themselves soon, so that the page asks again."""

ADVICE = {
    "unknown_host": "<p>Check the address for a mistake, or ask whoever gave it to you.</p>\n",
    "misdirected": "<p>Reload the page; your browser will open a new connection.</p>\n",
    "head_too_large": "<p>Clearing the cookies of this site often helps.</p>\n",
    "too_many_fields": "<p>Clearing the cookies of this site often helps.</p>\n",
    "app_building": _RELOADS,
    "app_starting": _RELOADS,
    "app_waking": _RELOADS,
    "app_draining": _RELOAD,
    "app_unhealthy": _RELOAD + _OPERATOR,
    "app_unavailable": _RELOAD + _OPERATOR,
    "upstream_unreachable": _RELOAD + _OPERATOR,
    "upstream_closed": _RELOAD + _OPERATOR,
    "upstream_timeout": _RELOAD + _OPERATOR,
}
"""What the visitor can do about it, by reason."""
