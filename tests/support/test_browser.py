"""The browser of the tests believes our root and nobody else, and its notes are complete."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from playwright.sync_api import Error

from tests.support.browser import Witness, open_browser, open_page

PAGE = b"<title>hello</title><script>console.error('a fault')</script><img src='https://127.0.0.1:9/x'>"


class Pages(BaseHTTPRequestHandler):
    """One page with a fault and a stranger's picture."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def serve_pages(authority: trustme.CA) -> Iterator[int]:
    """The page over TLS on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hello.localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.browser
def test_only_the_given_root_is_trusted(tmp_path: Path) -> None:
    """A page under our root opens; the same page under another root is a certificate error."""
    ours, other = trustme.CA(), trustme.CA()
    with (
        serve_pages(ours) as trusted,
        serve_pages(other) as untrusted,
        open_browser(tmp_path / "home", ours.cert_pem.bytes()) as browser,
    ):
        witness = Witness()
        with open_page(browser, witness) as page:
            page.goto(f"https://hello.localhost:{trusted}/")
            assert page.title() == "hello"
            with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
                page.goto(f"https://hello.localhost:{untrusted}/")
    assert "a fault" in witness.errors
    assert witness.strangers == ["https://127.0.0.1:9/x"]
