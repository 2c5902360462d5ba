"""Every reason for which the gateway says no, each with its status and a sentence for people.

Invariants: one table; a word that is not in it cannot be raised; the words are what the log says.
"""

REFUSALS: dict[str, tuple[int, str]] = {
    # The request line and the head as a whole.
    "bad_request_line": (400, "The first line of the request could not be understood."),
    "bad_syntax": (400, "The request does not follow the rules of HTTP."),
    "bad_target": (400, "The requested address holds characters that are not allowed there."),
    "bad_method": (501, "This kind of request is not supported."),
    "method_not_allowed": (405, "This kind of request is not allowed here."),
    "bad_version": (505, "This version of HTTP is not supported."),
    "url_too_long": (414, "The requested address is too long."),
    "head_too_large": (431, "The request carries more header bytes than are accepted."),
    "too_many_fields": (431, "The request carries more header fields than are accepted."),
    "bad_field_name": (400, "The name of a header field is not valid."),
    "bad_field_value": (400, "The value of a header field is not valid."),
    # Where the message ends.
    "bad_length": (400, "The request states its length in a way that is not valid."),
    "length_and_coding": (400, "The request states its length in two ways that disagree."),
    "bad_coding": (501, "The request uses a transfer coding that is not supported."),
    "coding_in_http10": (400, "The request uses a transfer coding that its version lacks."),
    "framing_overhead": (400, "The request spends too many bytes on framing."),
    "trailers_too_large": (431, "The request carries more trailer bytes than are accepted."),
    "body_too_large": (413, "The upload is larger than this app accepts."),
    # For whom it is meant.
    "missing_host": (400, "The request does not say which site it is for."),
    "duplicate_host": (400, "The request names more than one site."),
    "bad_host": (400, "The request names a site in a way that is not valid."),
    "host_mismatch": (400, "The request names two different sites."),
    "cross_origin": (403, "A page of another site may not open a socket to this app."),
    "misdirected": (421, "This connection was opened for another site."),
    "unknown_host": (404, "There is no app at this address."),
    "private_path": (404, "There is no page at this address."),
    # What it asks of the connection.
    "bad_connection": (400, "The request asks for header fields to be removed that must stay."),
    "bad_expect": (417, "The request expects something that is not supported."),
    "upgrade_with_body": (400, "The request changes protocol and carries a body at once."),
    "header_timeout": (408, "The request took too long to arrive."),
    "body_timeout": (408, "The upload stopped arriving."),
    "too_many_connections": (503, "Too many connections are open. Please try again in a moment."),
    # The state of the app.
    "app_building": (
        503,
        "It will answer here once it is ready; a first build can take some minutes.",
    ),
    "app_starting": (503, "This usually takes a few seconds."),
    "app_unhealthy": (503, "It does not answer its health check at the moment."),
    "app_asleep": (503, "Nobody has used it for a while."),
    "app_waking": (503, "This usually takes a few seconds."),
    "app_draining": (503, "A newer version is taking over, or it is being shut down."),
    "app_stopped": (503, "Its operator has stopped it."),
    "app_failed": (503, "Its last start did not succeed. Whoever runs it can see the reason."),
    "app_unavailable": (503, "The app is not available at the moment."),
    "app_busy": (503, "It is serving as many requests as it can. Please try again."),
    # What the app did.
    "upstream_unreachable": (502, "It did not answer the gateway."),
    "upstream_identity": (502, "The app could not prove its identity."),
    "upstream_tls": (502, "No encrypted connection to the app could be opened."),
    "upstream_closed": (502, "The app closed the connection before it answered."),
    "upstream_timeout": (504, "The app took too long to answer."),
    "upstream_syntax": (502, "The app answered with something that is not valid HTTP."),
    "upstream_status": (502, "The app answered with a status that is not valid."),
    "upstream_version": (502, "The app answered in a version of HTTP that is not supported."),
    "upstream_head_too_large": (502, "The app answered with too many header bytes."),
    "upstream_field": (502, "The app answered with a header field that is not valid."),
    "upstream_length": (502, "The app stated the length of its answer in an invalid way."),
    "upstream_coding": (502, "The app answered in a transfer coding that is not supported."),
    "upstream_upgrade": (502, "The app changed protocol without being asked to."),
    "upstream_accept": (502, "The app did not confirm the WebSocket handshake correctly."),
    "upstream_interim": (502, "The app sent too many provisional answers."),
    "internal": (500, "Something went wrong in the gateway."),
}
"""Word in the log → (status, sentence shown to the visitor)."""

STATUS_TITLES: dict[int, str] = {
    400: "Bad request",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not allowed",
    408: "Too slow",
    413: "Too large",
    414: "Address too long",
    417: "Expectation failed",
    421: "Wrong connection",
    431: "Headers too large",
    500: "Internal error",
    501: "Not supported",
    502: "The app did not answer properly",
    503: "Not available right now",
    504: "The app took too long",
    505: "Version not supported",
}
"""Heading of the page for each status that the table above can give."""

_REASON_BY_STATE: dict[str, str] = {
    state: f"app_{state}"
    for state in (
        "building",
        "starting",
        "unhealthy",
        "asleep",
        "waking",
        "draining",
        "stopped",
        "failed",
    )
}


class Refusal(Exception):
    """A message is refused: what to answer, what to log, whether the connection must end.

    `close` is true unless the message was understood to its last byte, because only then is
    it known where the next one begins (RFC 9112 section 9.6).
    """

    def __init__(self, reason: str, *, close: bool = True) -> None:
        status, text = REFUSALS[reason]
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.text = text
        self.close = close

    @classmethod
    def of(cls, reason: str, *, close: bool = True) -> "Refusal":
        """Build the refusal for a word of `REFUSALS`; KeyError for any other word."""
        return cls(reason, close=close)

    def __repr__(self) -> str:
        return f"Refusal({self.reason!r}, status={self.status}, close={self.close})"


def pick_state_reason(state: str) -> str:
    """The word for an app that cannot be reached because of its state, as `lockgate status` has it.

    A state without a word of its own (also "healthy" whose upstream is gone) is
    "app_unavailable".
    """
    return _REASON_BY_STATE.get(state, "app_unavailable")
