"""Where measurements are written down: one section per benchmark in docs/benchmarks.md.

A *section* is the text between two markers::

    <!-- selection:start -->
    ...
    <!-- selection:end -->

`write_section` replaces what stands between them (or appends a new section) and closes with the *machine facts*: a
ratio means little without the processor and the library versions it was measured with.
"""

import os
import platform
import re
import tempfile
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
LIBRARIES = ("numpy", "scipy", "numba", "pyarrow", "torch", "torchvision", "onnxruntime", "Django")
_HEADER = "# Benchmarks\n\nEvery section is written by the command it names; ratios come from a single run.\n"


def machine_facts(libraries: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Cores this process may use, processor name, memory, Python and library versions, in words."""
    facts = {
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "processor": _cpu_name(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "Python": platform.python_version(),
    }
    for library in libraries:
        try:
            facts[library] = version(library)
        except PackageNotFoundError:
            continue
    return facts


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; every column but the first is right-aligned."""
    lines = [_table_row(header), _table_row([":--", *["--:"] * (len(header) - 1)])]
    lines += [_table_row(row) for row in rows]
    return "\n".join(lines)


def write_section(
    name: str,
    markdown: str,
    *,
    path: Path = DOCUMENT,
    measured_on: date | None = None,
    libraries: Iterable[str] = LIBRARIES,
) -> None:
    """Put `markdown` and the machine facts between the markers of section `name`; every other section stays as it is.

    `measured_on` is the date written beside the facts, today by default. The file is replaced atomically.
    Raises ValueError for a name that cannot be a marker and for a document with a broken pair of markers.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f'section "{name}": use small letters, digits, "-" and "_" only')
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    facts = "; ".join(f"{key} {value}" for key, value in machine_facts(libraries).items())
    section = f"{start}\n{markdown.strip()}\n\n*Measured {measured_on or date.today():%Y-%m-%d}. {facts}.*\n{end}"
    text = path.read_text(encoding="utf-8") if path.exists() else _HEADER
    if (text.count(start), text.count(end)) not in {(0, 0), (1, 1)}:
        raise ValueError(f'{path.name}: section "{name}" needs exactly one start and one end marker')
    if start in text:
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f'{path.name}: section "{name}" ends before it starts')
        text = before + section + after
    else:
        text = f"{text.rstrip()}\n\n{section}\n"
    _write_atomically(path, text)


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(text)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    os.chmod(file.name, mode)
    os.replace(file.name, path)


def _table_row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
