"""What must hold of sealed bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki.errors import SealError
from pki.sealing import derive_key, seal, unseal

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_sealed_bytes_open_with_the_same_key_and_text(plain: bytes, associated: bytes) -> None:
    """What goes in comes out, and none of it is visible in between."""
    sealed = seal(KEY, plain, associated)
    assert unseal(KEY, sealed, associated) == plain
    assert len(plain) < 8 or plain not in sealed


def test_a_seal_never_repeats() -> None:
    """The same plaintext seals differently each time: the nonce is fresh."""
    assert len({seal(KEY, b"x", b"a") for _ in range(100)}) == 100


@pytest.mark.parametrize("position", range(30))
def test_any_changed_byte_is_noticed(position: int) -> None:
    """Version, nonce, ciphertext and tag are all authenticated."""
    sealed = bytearray(seal(KEY, b"x", b"a"))
    assert len(sealed) == 30
    sealed[position] ^= 1
    with pytest.raises(SealError):
        unseal(KEY, bytes(sealed), b"a")


@pytest.mark.parametrize(
    ("key", "associated", "cut"), [(OTHER, b"a", 0), (KEY, b"b", 0), (KEY, b"a", 1), (KEY, b"a", 9)]
)
def test_another_key_text_or_length_does_not_open(key: bytes, associated: bytes, cut: int) -> None:
    """Purpose and name are bound into the seal."""
    sealed = seal(KEY, b"x", b"a")
    with pytest.raises(SealError):
        unseal(key, sealed[: len(sealed) - cut], associated)


def test_derived_keys_differ_by_purpose_and_master() -> None:
    """A purpose's key says nothing about another's; the same input gives the same key."""
    keys = [derive_key(KEY, "pki"), derive_key(KEY, "vault"), derive_key(OTHER, "pki")]
    assert len(set(keys)) == 3
    assert derive_key(KEY, "pki") == keys[0]
    assert {len(key) for key in keys} == {32}


def test_derivation_is_the_one_that_sealed_what_is_on_disks() -> None:
    """The derivation never changes: changing it would lock every installation out."""
    assert derive_key(KEY, "pki").hex() == (
        "d154d3b60c57cda79612a67d71a5d1a3bccb909631a99f0bc427981c0dfc210f"
    )


@pytest.mark.parametrize("key", [b"", b"x" * 16, b"x" * 31, b"x" * 33])
def test_keys_of_another_length_are_refused(key: bytes) -> None:
    """A short key is an error, never a weaker cipher."""
    for call in (
        lambda: seal(key, b"x", b""),
        lambda: unseal(key, seal(KEY, b"x", b""), b""),
        lambda: derive_key(key, "pki"),
    ):
        with pytest.raises(SealError, match="32 bytes"):
            call()
