"""Lockgate's certificate authority: identities, leaves, sealed keys, and configuration files.

Invariants: the only public names are those below; nothing here imports the gateway or the runner.
"""

from pki.client import PkiClient
from pki.config import (
    PkiConfig,
    RunDir,
    StateDir,
    TrustDomain,
    Uid,
    build_default_dirs,
    load_document,
    load_pki_config,
    load_section,
    parse_document,
)
from pki.errors import (
    ConfigError,
    CsrError,
    DeniedError,
    IdentityError,
    JournalError,
    KeystoreError,
    NameTakenError,
    PkiError,
    SealError,
    UnknownNameError,
)
from pki.identity import (
    SpiffeId,
    build_app_dns_name,
    build_app_id,
    build_gateway_dns_name,
    build_gateway_id,
    parse_app_name,
    parse_host,
    parse_spiffe_id,
    parse_trust_domain,
)
from pki.journal import verify_journal
from pki.keys import KeyAndCsr, make_key_and_csr
from pki.keystore import load_master_key, load_or_create_master_key, write_private
from pki.rotation import pick_renewal_time
from pki.schema import Document, Section, build_model, build_suggestion
from pki.sealing import derive_key, seal, unseal
from pki.units import (
    Duration,
    Size,
    UnitError,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from pki.wire import IssuedLeaf

__all__ = [
    "ConfigError",
    "CsrError",
    "DeniedError",
    "Document",
    "Duration",
    "IdentityError",
    "IssuedLeaf",
    "JournalError",
    "KeyAndCsr",
    "KeystoreError",
    "NameTakenError",
    "PkiClient",
    "PkiConfig",
    "PkiError",
    "RunDir",
    "SealError",
    "Section",
    "Size",
    "SpiffeId",
    "StateDir",
    "TrustDomain",
    "Uid",
    "UnitError",
    "UnknownNameError",
    "build_app_dns_name",
    "build_app_id",
    "build_default_dirs",
    "build_gateway_dns_name",
    "build_gateway_id",
    "build_model",
    "build_suggestion",
    "derive_key",
    "format_duration",
    "format_size",
    "load_document",
    "load_master_key",
    "load_or_create_master_key",
    "load_pki_config",
    "load_section",
    "make_key_and_csr",
    "parse_app_name",
    "parse_document",
    "parse_duration",
    "parse_host",
    "parse_size",
    "parse_spiffe_id",
    "parse_trust_domain",
    "pick_renewal_time",
    "seal",
    "unseal",
    "verify_journal",
    "write_private",
]
