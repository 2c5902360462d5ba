"""The address that visitors type.

Invariants: pure.
"""


def build_url(host: str, https: str) -> str:
    """`https` is where the gateway listens, `HOST:PORT`; port 443 goes without saying."""
    port = https.rsplit(":", 1)[1]
    return f"https://{host}" if port == "443" else f"https://{host}:{port}"
