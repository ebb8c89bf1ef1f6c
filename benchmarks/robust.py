"""A robust method's preset for several seeds: what its networks measure, as a table and a plot for docs/methods/.

``python -m benchmarks.robust oat --seeds 0 1 2``. Each seed has a directory of its own under ``--runs``: a run that was
stopped goes on, a finished one is read. Data: CIFAR-10 from the data folder (``FALSIFY_SHARED_DATA``), or digits.

Line: what one seed says of one network, or of one point of an adjustable network, by the name of its group. Groups are
averaged over the seeds; the interval of each accuracy stands in the runs themselves.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import markdown_table, write_section
from benchmarks.robust_data import cifar_data, digits_data
from benchmarks.scatter import Dot, Series, scatter
from training.engine.devices import Resources
from training.engine.explore import read_explorer
from training.engine.labels import LabelledData
from training.engine.local import RunResult, run_method
from training.engine.networks import json_digest
from training.engine.registry import MethodConfig, method
from training.engine.robustness import Unconfirmed

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "methods"
METHODS = ("pgdat", "oat", "rdi", "atmc")


@dataclass(frozen=True)
class Line:
    """series: groups of one colour and line in the plot."""

    table: str
    group: str
    series: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table: the value by that name, times ``factor``, with that many digits."""

    name: str
    title: str
    factor: float = 1.0
    digits: int = 1


SHARES = (
    Column("sa", "SA %", 100),
    Column("ra", "RA own %", 100),
    Column("ra_strong", "RA strong %", 100),
    Column("ra_independent", "RA independent %", 100),
)
COLUMNS = (
    *SHARES,
    Column("macs", "MMACs", 1e-6, 2),
    Column("macs_paper", "MMACs, paper's count", 1e-6, 2),
    Column("macs_honest", "MMACs, honest", 1e-6, 2),
    Column("images_per_second", "images/s", 1, 0),
    Column("params", "parameters", 1e-3, 1),
    Column("latency_ms", "ms", 1, 2),
    Column("bytes", "kB", 1e-3, 1),
    Column("bytes_zip", "kB, zipped", 1e-3, 1),
    Column("paper_bits", "kbit, paper's formula", 1e-3, 1),
    Column("nnz", "non-zeros", 1, 0),
    Column("seconds", "s of training", 1, 0),
)
NETWORKS, POINTS, ATTACKS = "Networks", "Points of the adjustable network", "Attacks"


def networks_of(result: RunResult) -> list[Line]:
    """Every output that was assessed."""
    lines = []
    for output in result.outputs:
        if "measured" in output.facts:
            name = output.label or f"{output.role} {output.number + 1}"
            lines.append(Line(NETWORKS, name, output.role, flat(output.facts["measured"])))
    return lines


def oat_points(content: dict[str, Any]) -> list[Line]:
    lines = []
    for point in content["points"]:
        mark = "" if point["trained"] else ", not trained"
        name = f"lambda {point['lam']:g}, width {point['width']:g}{mark}"
        lines.append(Line(POINTS, name, f"adjustable, width {point['width']:g}", flat(point)))
    return lines


def rdi_points(content: dict[str, Any]) -> list[Line]:
    points = [
        Line(POINTS, f"budget {point['budget'] / 1e6:.3g} MMACs", "early exits", flat(point))
        for point in content["points"]
    ]
    attacks = [Line(ATTACKS, attack["name"], "attacks", flat(attack)) for attack in content.get("attacks", ())]
    single = content.get("single")
    alone = [Line(POINTS, "one exit", "one exit", {**flat(single), "macs_honest": single["macs"]})] if single else []
    return [*points, *alone, *attacks]


def atmc_points(content: dict[str, Any]) -> list[Line]:
    return [Line(POINTS, point["name"], point["family"], flat(point)) for point in content["points"]]


@dataclass(frozen=True)
class Shown:
    """What the plot of a method shows: a table's lines, by two of their values."""

    points: Callable[[dict[str, Any]], list[Line]]
    table: str
    x: str
    y: str
    x_title: str
    y_title: str
    title: str
    log_x: bool = False
    factor: float = 1.0  # of x


SHOWN = {
    "pgdat": Shown(lambda _: [], NETWORKS, "sa", "ra_independent", "standard accuracy, %",
                   "robust accuracy (independent attack), %", "Adversarial training", factor=100),
    "oat": Shown(oat_points, POINTS, "sa", "ra", "standard accuracy, %", "robust accuracy, %",
                 "One adjustable network, and dedicated ones", factor=100),
    "rdi": Shown(rdi_points, POINTS, "macs_honest", "ra", "mean million MACs, rejected heads counted",
                 "robust accuracy, %", "Early exits, and a network with one", factor=1e-6),
    "atmc": Shown(atmc_points, POINTS, "bytes", "ra", "size of the file, kB", "robust accuracy, %",
                  "Compressed networks", log_x=True, factor=1e-3),
}  # fmt: skip


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Measured values by their means, everything else as it is."""
    return {
        name: value["value"] if isinstance(value, dict) and "value" in value else value
        for name, value in values.items()
    }


def lines_of(name: str, result: RunResult) -> list[Line]:
    """Everything that one seed measured."""
    content = read_explorer(result.directory)
    lines = networks_of(result)
    if content is not None:
        lines += SHOWN[name].points(content)
        lines += [Line(POINTS, each["name"], "dedicated", flat(each)) for each in content.get("dedicated", ())]
    return lines


def tables(seeds: Sequence[Sequence[Line]]) -> str:
    """A Markdown table of each sort of line: means over the seeds, ± their standard deviation. Points that are networks
    of the run as well are shown once."""
    said = []
    for table in dict.fromkeys(line.table for lines in seeds for line in lines):
        groups = grouped(seeds, table)
        if table == POINTS and set(groups) <= set(grouped(seeds, NETWORKS)):
            continue
        columns = [
            column for column in COLUMNS
            if any(is_number(line.values.get(column.name)) for lines in groups.values() for line in lines)
        ]  # fmt: skip
        rows = [
            [group, *(cell([line.values.get(column.name) for line in lines], column) for column in columns)]
            for group, lines in groups.items()
        ]
        said.append(f"### {table}\n\n{markdown_table(['', *(column.title for column in columns)], rows)}")
    return "\n\n".join(said)


def grouped(seeds: Sequence[Sequence[Line]], table: str) -> dict[str, list[Line]]:
    """Lines of a table by group, in the order of their first appearance."""
    groups: dict[str, list[Line]] = {}
    for lines in seeds:
        for line in lines:
            if line.table == table:
                groups.setdefault(line.group, []).append(line)
    return groups


def cell(values: Iterable[Any], column: Column) -> str:
    numbers = [column.factor * float(value) for value in values if is_number(value)]
    if not numbers:
        return ""
    mean = f"{statistics.fmean(numbers):,.{column.digits}f}"
    spread = f"{statistics.stdev(numbers):,.{column.digits}f}" if len(numbers) > 1 else "0"
    return f"{mean} ± {spread}" if float(spread.replace(",", "")) else mean


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plot(name: str, seeds: Sequence[Sequence[Line]]) -> str:
    """The method's plot as SVG; "" where nothing was measured that it shows."""
    shown = SHOWN[name]
    series: dict[str, list[Dot]] = {}
    for group, lines in grouped(seeds, shown.table).items():
        places = [
            (shown.factor * line.values[shown.x], 100 * line.values[shown.y])
            for line in lines
            if is_number(line.values.get(shown.x)) and is_number(line.values.get(shown.y))
        ]
        if places:
            x, y = (statistics.fmean(values) for values in zip(*places, strict=True))
            series.setdefault(lines[0].series, []).append(Dot(x, y, tuple(places), short(group)))
    if not series:
        return ""
    drawn = [
        Series(label, tuple(sorted(dots, key=lambda dot: dot.x)), is_line=len(dots) > 1 and label != "dedicated")
        for label, dots in series.items()
    ]
    return scatter(drawn, title=shown.title, x_title=shown.x_title, y_title=shown.y_title, log_x=shown.log_x)


def short(group: str) -> str:
    return group.replace("lambda ", "").replace(", width 1", "").replace("budget ", "")


def run_seeds(
    name: str,
    config: MethodConfig,
    data: LabelledData,
    seeds: Sequence[int],
    runs: Path,
    resources: Resources,
) -> tuple[list[list[Line]], list[str]]:
    """The lines of each seed, and what there is to say about them."""
    found, notes = [], []
    for seed in seeds:
        started = time.monotonic()
        try:
            result = run_method(
                name, config=config, directory=runs / f"seed-{seed}", data=data, seed=seed, resources=resources
            )
        except Unconfirmed as error:
            notes.append(f"Seed {seed} failed: {error}")
            continue
        found.append(lines_of(name, result))
        notes.append(f"Seed {seed}: {result.seconds:.0f} s in all.")
        print(f"seed {seed}: {time.monotonic() - started:.0f} s now, {result.seconds:.0f} s in all", flush=True)
    return found, notes


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--preset", default="", help="of the method; the first one by default")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="change the config")
    parser.add_argument("--data", choices=("cifar", "digits"), default="cifar")
    parser.add_argument("--train", type=int, default=10_000, help="CIFAR training images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=ROOT / "var" / "benchmarks" / "robust")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--no-write", action="store_true", help="print the tables, leave docs/methods alone")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    changed = dict(pair.split("=", 1) for pair in options.set)
    config = method(options.method).configure(
        options.preset, **{name: json.loads(value) for name, value in changed.items()}
    )
    preset = options.preset or next(iter(method(options.method).card.presets))
    data = digits_data() if options.data == "digits" else cifar_data(train=options.train)
    slug = f"{preset}-{options.data}".replace(" ", "-")
    if options.set:
        slug += f"-{json_digest(sorted(options.set))[:6]}"
    runs = options.runs / f"{options.method}-{slug}"
    resources = Resources(device=options.device, precision=options.precision)
    found, notes = run_seeds(options.method, config, data, options.seeds, runs, resources)
    text = tables(found)
    drawn = plot(options.method, found)
    print(f"{text}\n\n" + "\n".join(notes))
    if options.no_write:
        return
    command = f"python -m benchmarks.robust {options.method} --preset {preset} --data {options.data}"
    command += "".join(f" --set {pair}" for pair in options.set)
    said = [
        f"## Results: preset `{preset}` on {data.name}\n\n{len(found)} seeds of {len(data.rows('train')):,} training "
        f"images; mean ± standard deviation over seeds. `{command}`",
        text,
    ]
    (PAGES / "plots").mkdir(parents=True, exist_ok=True)
    if drawn:
        picture = PAGES / "plots" / f"{options.method}-{slug}.svg"
        picture.write_text(drawn, encoding="utf-8")
        said.append(f"![{SHOWN[options.method].title}](plots/{picture.name})")
    said.append("\n".join(f"- {note}" for note in notes))
    page = PAGES / f"{options.method}.md"
    if not page.exists():
        page.write_text(f"# {method(options.method).card.title}\n", encoding="utf-8")
    write_section(f"results-{slug}", "\n\n".join(said), path=page)


if __name__ == "__main__":
    main()
