"""The laws of the architecture, read from the syntax trees of a checkout.

Invariants: standard library only; imports nothing that it judges; reads files below the given root
and changes none; the caller decides which breach is excused.
"""

import ast
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PACKAGES = ("gateway", "runner", "pki")
MAY_IMPORT = {"runner": {"gateway", "pki"}, "gateway": {"pki"}, "pki": set[str]()}
AGENT = "runner/agent/"

QUARANTINE = {
    "docker": ("runner/engines/docker.py", "runner/engines/swarm.py"),
    "subprocess": ("runner/host.py", AGENT),
    "cryptography": ("pki/", "runner/vault.py"),
    "yaml": ("gateway/config.py", "runner/config.py", "pki/config.py", "runner/spec/model.py"),
}
PROGRAM_STARTERS = {
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "os.popen",
    "os.posix_spawn",
    "os.system",
}

PURE_ROOMS = (
    *("gateway/errors.py", "gateway/routes.py", "gateway/upstream.py", "gateway/pool.py"),
    *("gateway/framing.py", "gateway/headers.py", "gateway/pages/", "gateway/heads.py"),
    *("gateway/fields.py", "gateway/address.py", "gateway/admission.py", "gateway/table.py"),
    *("runner/errors.py", "runner/spec/model.py", "runner/observed.py", "runner/plan.py"),
    *("runner/steps.py", "runner/routing.py", "runner/urls.py", "runner/events.py"),
    *(
        "runner/spec/grammar.py",
        "runner/spec/streamlit.py",
        "runner/handover/delivery.py",
        "runner/source/git.py",
    ),
    *("runner/source/reasons.py", "runner/building/environment.py", "runner/building/reasons.py"),
    *("runner/engines/container.py", "runner/engines/image.py", "runner/engines/lines.py"),
    *("pki/errors.py", "pki/identity.py", "pki/profiles.py", "pki/csr.py", "pki/issuer.py"),
    *("pki/validate.py", "pki/bundle.py", "pki/rotation.py"),
)
IMPURE_MODULES = {
    *("asyncio", "socket", "selectors", "select", "ssl", "subprocess", "threading", "signal"),
    *("os", "pathlib", "shutil", "tempfile", "fcntl", "time", "random", "secrets", "uvloop"),
    *("aiohttp", "docker"),
}

FORBIDDEN_NAMES = {"common", "utils", "helpers", "base"}
FORBIDDEN_WORDS = {
    *("backend", "vhost", "manager", "handler", "helper", "util", "utils", "data", "info"),
}
WIRING = ("gateway/__main__.py", "runner/__main__.py", "pki/__main__.py", "runner/up/run.py")
CLOCK_CALLS = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "time.time"),
}
LOOSE_TASK = (
    "its exception is lost and the loop keeps only a weak reference, so it can vanish half way: "
    "use asyncio.TaskGroup, or own the task and await it"
)

MODULE_LINES_CAP, MODULE_LINES_MEDIAN = 400, 150
FUNCTION_LINES_CAP, FUNCTION_LINES_MEDIAN = 50, 10


@dataclass(frozen=True, slots=True, order=True)
class Breach:
    """One place where a law does not hold; `path` is relative to the checked root."""

    law: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: [{self.law}] {self.text}"


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file."""

    path: str
    lines: int
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.split("/", 1)[0]


def find_breaches(root: Path, exceptions: Mapping[tuple[str, str], str]) -> list[Breach]:
    """Every breach below `root` that no exception covers, and every exception that covers none.

    `exceptions` maps (law, path) to the reason why the law does not bind that file.
    """
    found = sorted(_walk_laws(root))
    excused = {(breach.law, breach.path) for breach in found} & set(exceptions)
    stale = [
        Breach("exception", path, 0, f"the exception from {law!r} is needed no more: delete it")
        for law, path in exceptions
        if (law, path) not in excused
    ]
    empty = [
        Breach("exception", path, 0, f"the exception from {law!r} has no reason")
        for (law, path), reason in exceptions.items()
        if not reason.strip()
    ]
    return [breach for breach in found if (breach.law, breach.path) not in excused] + stale + empty


def _walk_laws(root: Path) -> Iterator[Breach]:
    sources = [_parse(root, path) for name in PACKAGES for path in _python_files(root / name)]
    for source in sources:
        yield from _check_source(source, root)
    yield from _check_medians(sources)
    for path in _python_files(root / "tests"):
        yield from _check_test(_parse(root, path))


def _python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def _parse(root: Path, path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return Source(path.relative_to(root).as_posix(), len(text.splitlines()), ast.parse(text))


def _check_source(source: Source, root: Path) -> Iterator[Breach]:
    yield from _check_imports(source, root)
    yield from _check_quarantine(source)
    yield from _check_purity(source)
    yield from _check_names(source)
    yield from _check_sizes(source)
    yield from _check_mirror(source, root)
    yield from _check_tasks(source)
    yield from _check_clock(source)
    yield from _check_docstring(source)


# --- imports ---------------------------------------------------------------------------------


def _imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Absolute dotted names that a tree imports, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", node.lineno


def _check_imports(source: Source, root: Path) -> Iterator[Breach]:
    if source.path.startswith(AGENT):
        yield from _check_agent_imports(source, root)
        return
    for name, line in _imported(source.tree):
        top, _, inner = name.partition(".")
        if top not in PACKAGES or top == source.package:
            continue
        if top not in MAY_IMPORT[source.package]:
            text = f"{source.package} may not import {top} (runner → gateway → pki, never back)"
            yield Breach("direction", source.path, line, text)
        if inner:
            yield Breach("root-only", source.path, line, f"import it from {top}, not from {name}")
    yield from _check_late_imports(source)
    yield from _check_escaping_imports(source)


def _check_agent_imports(source: Source, root: Path) -> Iterator[Breach]:
    siblings = {path.stem for path in (root / AGENT).glob("*.py")}
    for name, line in _imported(source.tree):
        top = name.partition(".")[0]
        if top not in siblings and top not in sys.stdlib_module_names:
            text = f"the agent may import the standard library and its own files only, not {name}"
            yield Breach("agent", source.path, line, text)


def _check_late_imports(source: Source) -> Iterator[Breach]:
    for function in _functions(source.tree):
        for name, line in _imported(function):
            yield Breach("late-import", source.path, line, f"import {name} at the top of the file")


def _check_escaping_imports(source: Source) -> Iterator[Breach]:
    depth = source.path.count("/")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            yield Breach(
                "root-only", source.path, node.lineno, "relative import leaves the package"
            )


def _check_quarantine(source: Source) -> Iterator[Breach]:
    for name, line in _imported(source.tree):
        top = name.partition(".")[0]
        homes = QUARANTINE.get(top)
        if homes and not source.path.startswith(homes):
            text = f"{top} may be imported only in {', '.join(homes)}"
            yield Breach("quarantine", source.path, line, text)
    for call, name in _calls(source.tree):
        if name in PROGRAM_STARTERS and not source.path.startswith(QUARANTINE["subprocess"]):
            text = f"{name} starts a program: go through runner/host.py"
            yield Breach("quarantine", source.path, call.lineno, text)


def _check_purity(source: Source) -> Iterator[Breach]:
    if not source.path.startswith(PURE_ROOMS):
        return
    for name, line in _imported(source.tree):
        if name.partition(".")[0] in IMPURE_MODULES:
            text = f"a pure room may not import {name}: take time, bytes and paths as arguments"
            yield Breach("pure", source.path, line, text)
    for call, name in _calls(source.tree):
        if name == "open":
            yield Breach("pure", source.path, call.lineno, "a pure room opens no files")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
            yield Breach("pure", source.path, node.lineno, "a pure room never awaits")


# --- names, sizes, mirrors -------------------------------------------------------------------


def _check_names(source: Source) -> Iterator[Breach]:
    path = PurePosixPath(source.path)
    for part in (*path.parts[:-1], path.stem):
        if part in FORBIDDEN_NAMES or set(part.split("_")) & FORBIDDEN_WORDS:
            yield Breach("names", source.path, 1, f"{part!r} says nothing: name what it is")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and set(_split_camel(node.name)) & FORBIDDEN_WORDS:
            text = f"class {node.name}: not one of our words"
            yield Breach("names", source.path, node.lineno, text)


def _split_camel(name: str) -> list[str]:
    spaced = "".join(f" {char}" if char.isupper() else char for char in name)
    return spaced.lower().split()


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _check_sizes(source: Source) -> Iterator[Breach]:
    if source.lines > MODULE_LINES_CAP:
        text = f"{source.lines} lines, the cap is {MODULE_LINES_CAP}"
        yield Breach("module-size", source.path, 1, text)
    for function in _functions(source.tree):
        lines = _count_lines(function)
        if lines > FUNCTION_LINES_CAP:
            text = f"{function.name}() has {lines} lines, the cap is {FUNCTION_LINES_CAP}"
            yield Breach("function-size", source.path, function.lineno, text)


def _check_medians(sources: list[Source]) -> Iterator[Breach]:
    modules = [source.lines for source in sources if source.lines]
    functions = [_count_lines(f) for source in sources for f in _functions(source.tree)]
    if modules and statistics.median(modules) > MODULE_LINES_MEDIAN:
        text = f"the median module has {statistics.median(modules)} lines > {MODULE_LINES_MEDIAN}"
        yield Breach("module-median", ".", 0, text)
    if functions and statistics.median(functions) > FUNCTION_LINES_MEDIAN:
        text = f"the median function has {statistics.median(functions)} > {FUNCTION_LINES_MEDIAN}"
        yield Breach("function-median", ".", 0, text)


def _check_mirror(source: Source, root: Path) -> Iterator[Breach]:
    path = PurePosixPath(source.path)
    if path.name in {"__init__.py", "__main__.py"}:
        return  # public names and wiring: every other test goes through them
    mirror = PurePosixPath("tests") / path.parent / f"test_{path.name}"
    if not (root / mirror).is_file():
        yield Breach("mirror", source.path, 1, f"its test file {mirror} does not exist")


def _check_docstring(source: Source) -> Iterator[Breach]:
    if source.tree.body and not ast.get_docstring(source.tree):
        yield Breach("docstring", source.path, 1, "a module says in its first line what it is")


# --- tasks and clocks ------------------------------------------------------------------------


def _calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Calls with the dotted text of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def _check_tasks(source: Source) -> Iterator[Breach]:
    for call, name in _calls(source.tree):
        owner, _, method = name.rpartition(".")
        if method == "ensure_future" or (method == "create_task" and _is_loop(owner)):
            yield Breach("tasks", source.path, call.lineno, f"{name}: {LOOSE_TASK}")


def _is_loop(owner: str) -> bool:
    return owner in {"", "asyncio"} or "loop" in owner.rpartition(".")[2].lower()


def _check_clock(source: Source) -> Iterator[Breach]:
    if source.path in WIRING:
        return
    for call, name in _calls(source.tree):
        if name in CLOCK_CALLS:
            text = f"{name}(): take the time as an argument, wiring passes the clock in"
            yield Breach("clock", source.path, call.lineno, text)


# --- tests -----------------------------------------------------------------------------------


def _check_test(source: Source) -> Iterator[Breach]:
    for name, line in _imported(source.tree):
        if name.startswith(("unittest.mock", "mock")):
            text = "an honest fake or the real thing, never a mock"
            yield Breach("mocks", source.path, line, text)
    for function in _functions(source.tree):
        if function.name.startswith("test_") and not ast.get_docstring(function):
            text = f"{function.name} does not say in one sentence what must hold"
            yield Breach("test-docstring", source.path, function.lineno, text)
