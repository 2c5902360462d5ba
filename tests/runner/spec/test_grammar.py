"""What may be written in an app's YAML must hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec import grammar
from runner.spec.grammar import SpecError


@pytest.mark.parametrize("name", ["a", "hello", "a-1", "a" * 40])
def test_a_good_app_name_is_one(name: str) -> None:
    """Lower-case letters, digits and hyphens make a name."""
    assert grammar.is_app_name(name)


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a" * 41, "a_b", "a.b", "ä", "a\n"])
def test_a_bad_app_name_is_none(name: str) -> None:
    """Everything else is no name."""
    assert not grammar.is_app_name(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("TOKEN", True), ("_x1", True), ("1X", False), ("A-B", False), ("LOCKGATE_URL", False)],
)
def test_a_secret_is_named_like_a_variable_that_is_not_ours(name: str, expected: bool) -> None:
    """Its name becomes an environment variable."""
    assert grammar.is_secret_name(name) is expected


@pytest.mark.parametrize(
    ("repo", "kind"),
    [
        ("https://git.example.org/a.git", "https"),
        ("HTTPS://git.example.org/a.git", "https"),
        ("ssh://git@host:2222/a.git", "ssh"),
        ("git@host:team/a.git", "ssh"),
        ("host:team/a.git", "ssh"),
        ("./a:b", "local"),
        ("/srv/a:b", "local"),
        ("../a", "local"),
        ("a/b", "local"),
        ("file:///srv/a", "local"),
    ],
)
def test_a_repo_is_fetched_as_git_would_read_it(repo: str, kind: str) -> None:
    """Scheme, scp-like address or folder."""
    assert grammar.check_repo(repo) == repo
    assert grammar.find_repo_kind(repo) == kind


@pytest.mark.parametrize(
    ("repo", "remedy"),
    [
        ("http://git.example.org/a", "use https"),
        ("git://git.example.org/a", "use https"),
        ("ext::sh -c id", "write https"),
        ("--upload-pack=id", "write https"),
        ("https://user:pass@git.example.org/a", "lockgate secrets set"),
        ("https://token@git.example.org/a", "lockgate secrets set"),
        ("~/app", "folder"),
        ("", "write https"),
        ("a\nb", "write https"),
    ],
)
def test_an_unsafe_repo_is_refused_with_a_remedy(repo: str, remedy: str) -> None:
    """No plaintext transport, no credentials in an address, no option in disguise."""
    with pytest.raises(SpecError) as caught:
        grammar.check_repo(repo)
    assert remedy in caught.value.remedy


def test_a_credential_in_an_address_is_not_repeated() -> None:
    """An error message ends up in logs."""
    with pytest.raises(SpecError) as caught:
        grammar.check_repo("https://user:hunter2@git.example.org/a")
    assert "hunter2" not in str(caught.value)


def test_a_secret_value_in_place_of_a_name_is_not_repeated() -> None:
    """Somebody who pastes a token gets no copy of it in a log."""
    with pytest.raises(SpecError) as caught:
        grammar.check_secret_name("ghp-hunter2/value")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("repo", "expected"),
    [
        ("../x", "/srv/x"),
        (".", "/srv/apps"),
        ("/abs/x", "/abs/x"),
        ("git@host:x", "git@host:x"),
        ("https://h/x", "https://h/x"),
    ],
)
def test_a_relative_repo_starts_at_the_files_folder(repo: str, expected: str) -> None:
    """Where the command was run from plays no part."""
    assert grammar.build_absolute_repo(repo, "/srv/apps") == expected


@pytest.mark.parametrize("path", ["app.py", "a/b.py", "./a.py", "."])
def test_a_path_inside_is_taken(path: str) -> None:
    """Relative paths without a way out."""
    assert grammar.check_inside(path) in {"app.py", "a/b.py", "a.py", "."}


@given(st.text(max_size=30))
def test_a_path_that_is_taken_never_leaves_the_repository(path: str) -> None:
    """Whatever is written, what is taken is relative and has no '..'."""
    try:
        taken = grammar.check_inside(path)
    except SpecError:
        return
    assert not taken.startswith(("/", "-"))
    assert ".." not in taken.split("/")


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "-x", "~/x", "a\\b", "a\0b"])
def test_a_path_outside_is_refused(path: str) -> None:
    """Absolute, upward and odd paths."""
    with pytest.raises(SpecError):
        grammar.check_inside(path)


@pytest.mark.parametrize("ref", ["HEAD", "main", "v1.2", "feature/x", "a" * 40])
def test_a_ref_is_taken(ref: str) -> None:
    """Branches, tags, commits."""
    assert grammar.check_ref(ref) == ref


@pytest.mark.parametrize("ref", ["", "-x", "a..b", "a b", "a:b", "@{u}", "a\n"])
def test_a_bad_ref_is_refused(ref: str) -> None:
    """No options, ranges or reflog expressions."""
    with pytest.raises(SpecError):
        grammar.check_ref(ref)


@pytest.mark.parametrize(
    "host", ["https://a", "a:8443", "a/b", "*.a", "A.example", "a b", "-a", "1.2.3.4", ""]
)
def test_a_bad_host_is_refused(host: str) -> None:
    """A host is a lower-case DNS name and nothing more."""
    with pytest.raises(ValueError):
        grammar.check_host(host)


def test_a_host_key_is_a_type_and_base64() -> None:
    """What ssh-keyscan prints after the name."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsV"
    assert grammar.check_host_key(key) == key
    with pytest.raises(SpecError):
        grammar.check_host_key("host ssh-ed25519 AAAA")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("python app.py --port {port}", ("python", "app.py", "--port", "{port}")),
        ("a 'b c'", ("a", "b c")),
        (["a", "b c"], ("a", "b c")),
    ],
)
def test_a_command_is_split_into_words(written: object, words: tuple[str, ...]) -> None:
    """Text is split as a shell would, a list is taken as it is."""
    assert grammar.parse_command(written) == words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a && b", "no shell"),
        ("a | b", "no shell"),
        ("a 'b", "split"),
        ("", "empty"),
        ([], "empty"),
        ([1], "list of texts"),
        (5, "list of texts"),
        (["a\0"], "NUL"),
    ],
)
def test_a_bad_command_is_refused(written: object, said: str) -> None:
    """What would not do what it seems to say is an error."""
    with pytest.raises(SpecError, match=said):
        grammar.parse_command(written)


@pytest.mark.parametrize(("version", "is_good"), [("3.12", True), ("3.12.4", True), ("2.7", False)])
def test_a_python_version_is_of_python_3(version: str, is_good: bool) -> None:
    """`3.12` or `3.12.4`."""
    if is_good:
        assert grammar.check_python(version) == version
        return
    with pytest.raises(SpecError):
        grammar.check_python(version)


@pytest.mark.parametrize("path", ["x", "/a b", "/a#b", ""])
def test_a_bad_probe_path_is_refused(path: str) -> None:
    """It is put into a request line."""
    with pytest.raises(SpecError):
        grammar.check_url_path(path)
    assert grammar.check_url_path("/ok?x=1") == "/ok?x=1"


@pytest.mark.parametrize("env", [{"A-B": "x"}, {"": "x"}, {"A": "x\0"}])
def test_a_bad_variable_is_refused(env: dict[str, str]) -> None:
    """The kernel and shells would not take it."""
    with pytest.raises(SpecError):
        grammar.check_env(env)
