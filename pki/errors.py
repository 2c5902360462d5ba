"""What can go wrong in the PKI, each with the word that is logged and the status that is answered.

Invariants: a message is one line for an operator and never holds a key, a CSR or a certificate.
"""


class PkiError(Exception):
    """The PKI refused or failed; `reason` is the logged word, `status` the HTTP status answered."""

    reason = "failed"
    status = 500

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class IdentityError(PkiError, ValueError):
    """A name is outside its grammar (trust domain, app, host, SPIFFE ID)."""

    reason = "bad_identity"
    status = 400


class CsrError(PkiError):
    """A certificate signing request is malformed, unproven or for a key we do not sign."""

    reason = "bad_csr"
    status = 400


class DeniedError(PkiError):
    """The peer's uid may not ask for this."""

    reason = "denied"
    status = 403


class UnknownNameError(PkiError):
    """Nobody registered the app, generation or host that was asked for."""

    reason = "unknown_name"
    status = 404


class NameTakenError(PkiError):
    """Another app already holds the host."""

    reason = "name_taken"
    status = 409


class CertificateError(PkiError):
    """A certificate broke a rule of `validate` and was not let out."""

    reason = "invalid_certificate"


class SealError(PkiError):
    """Sealed bytes do not open: wrong key, other purpose or name, or tampering."""

    reason = "seal_broken"


class KeystoreError(PkiError):
    """A key file or state file is missing, unsafe or unreadable."""

    reason = "bad_keystore"


class JournalError(PkiError):
    """The journal cannot be written or its chain is broken."""

    reason = "bad_journal"


class ConfigError(Exception):
    """Configuration that cannot be used: where it is written, what is wrong, what to write instead.

    `line` counts from 1 and is None when the key is not written in the file; `key` is dotted.
    """

    def __init__(
        self, file: str, line: int | None, key: str, problem: str, remedy: str = ""
    ) -> None:
        self.file = file
        self.line = line
        self.key = key
        self.problem = problem
        self.remedy = remedy
        where = f"{file}:{line}" if line is not None else file
        text = ": ".join(part for part in (where, key, problem) if part)
        super().__init__(f"{text} ({remedy})" if remedy else text)
