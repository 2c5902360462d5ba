from runner.routing import build_table, find_host_owner
from runner.store import AppRecord, GenerationRecord


def build_record(name: str, hosts: tuple[str, ...], *states: str, slot: int = 0) -> AppRecord:
    generations = tuple(
        GenerationRecord(
            number=number, commit="c", env_hash="e", spec_hash="s", created_s=1.0, state=state
        )
        for number, state in enumerate(states, 1)
    )
    return AppRecord(
        name=name,
        uuid="a" * 32,
        slot=slot,
        spec={"hosts": list(hosts)} if hosts else {},
        desired="running",
        generations=generations,
        state="healthy" if states else "failed",
        reason="" if states else "it did not build",
    )


def test_the_published_generation_serves_and_the_draining_one_is_left_out() -> None:
    """What is not in the table drains."""
    record = build_record("hello", ("hello.localhost",), "draining", "published")
    addresses = {("hello", 1): "10.0.0.2:8443", ("hello", 2): "10.0.0.3:8443"}
    table = build_table(7, [record], addresses, "lockgate.internal")
    assert table.version == 7
    assert [route.upstream for route in table.routes] == ["hello/2"]
    (upstream,) = table.upstreams
    assert upstream.address == "10.0.0.3:8443"
    assert upstream.spiffe_id == "spiffe://lockgate.internal/app/hello/2"
    assert upstream.server_name == "hello.apps.lockgate.internal"


def test_an_app_that_does_not_run_keeps_its_hosts_and_says_why() -> None:
    """Visitors of a failed app read its reason, not that the host is unknown."""
    table = build_table(1, [build_record("hello", ("hello.localhost",))], {}, "lockgate.internal")
    (route,) = table.routes
    assert (route.upstream, route.state, route.reason) == (None, "failed", "it did not build")
    assert table.upstreams == ()


def test_an_app_that_was_never_deployed_has_no_route() -> None:
    """Secrets may be set before the first deploy; that opens no host."""
    assert build_table(1, [build_record("hello", ())], {}, "lockgate.internal").routes == ()


def test_the_apps_upload_limit_is_the_routes() -> None:
    """As the spec's JSON has it; without one the gateway's own limit holds."""
    record = build_record("hello", ("hello.localhost",), "published")
    limited = record.model_copy(update={"spec": {**record.spec, "max_upload": "20MiB"}})
    tables = [build_table(1, [r], {}, "lockgate.internal") for r in (record, limited)]
    assert [t.routes[0].max_body_bytes for t in tables] == [None, 20 * 1024**2]


def test_a_host_belongs_to_one_app() -> None:
    """The owner of a host is named, the app itself is no rival of its own."""
    records = [build_record("hello", ("a.localhost", "b.localhost"), "published")]
    assert find_host_owner(records, "other", ("b.localhost",)) == ("b.localhost", "hello")
    assert find_host_owner(records, "hello", ("b.localhost",)) is None
    assert find_host_owner(records, "other", ("c.localhost",)) is None
