"""Two self-gMAD rounds over real video frames, answered by recorded people, beside three other ways to choose images.

    python -m benchmarks.bench_self_gmad [--seeds 0 1 2] [--images 24] [--steps 30] [--dry]

324 H.265-coded frames of 38 contents with 21 people's ratings (TU Ilmenau). Per seed the contents are dealt out: 13 are
labelled and train the target, 15 are the unlabelled pool, 10 are held out and asked about by nobody. Each arm chooses
images of the pool, in two rounds, has them rated by recorded people over HTTP, and fine-tunes on old and new labels:

* self-gMAD: the product's own loop, from "troubleshoot" to the second fine-tuning;
* random images;
* ensemble variance: images on which the pruned variants' scores differ most;
* MC-dropout: images on which the target's scores differ most under dropout of its pooled features.

All arms of a seed start from the same target, may rate as many images, and fine-tune for as many steps. Needs the data
folder (``FALSIFY_SHARED_DATA``, by default ``../shared/data``).
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import markdown_table, write_section

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FALSIFY_SHARED_DATA", ROOT.parent / "shared" / "data"))
PLOT = ROOT / "docs" / "plots" / "self_gmad.svg"
SIDE = 192  # people saw every frame at the full height of the screen, so all are brought to one height
LABELLED, POOL = 13, 15  # contents; the rest is held out
LEAST_CONTENTS = 3  # of validation and of test
PEOPLE, OVERLAP, ROUNDS = 8, 5, 2
LOWEST, HIGHEST = 1, 5  # of a recorded rating
DROPOUT, PASSES = 0.2, 20
VARIANTS = 4
NOTES = """
Reasons to expect little here: the pool is tiny (about 130 frames) while the method searches a large corpus for rare
failures, so its picks differ little from random ones; they are extreme and alike, where an average over held-out
contents asks for typical images; few steps on half old labels change little; and seeds, each with its own 13
training contents, differ by more than any arm gains. The old test split holds three or four contents, so its column
says little about forgetting.
"""
ARMS = {
    "self_gmad": "self-gMAD",
    "random": "random",
    "variance": "ensemble variance",
    "dropout": "MC-dropout",
}


def rated_name(text: str) -> str:
    r"""The frame's name in "['.\\selection\\<name>.png']"."""
    return text.split("\\")[-1].removesuffix("']").removesuffix(".png")


def ratings() -> dict[tuple[int, str], int]:
    """What each recorded person said of each frame, 1 to 5."""
    with (DATA / "iqa_uhd_frames" / "ratings.csv").open(newline="") as rows:
        return {
            (int(row["user_ID"]), rated_name(row["video_name"])): int(row["rating"]) for row in csv.DictReader(rows)
        }


def deal(contents: Sequence[str], seed: int) -> dict[str, str]:
    """Which part each content belongs to."""
    order = np.random.default_rng(seed).permutation(sorted(set(contents)))
    parts = ["labelled"] * LABELLED + ["pool"] * POOL + ["held"] * (len(order) - LABELLED - POOL)
    return dict(zip(order.tolist(), parts, strict=True))


def unpack(folder: Path, seed: int) -> dict[str, Path]:
    """The list of each part, with its frames brought to one height beside it."""
    frames = DATA / "iqa_uhd_frames"
    with (frames / "mos_ci.csv").open(newline="") as rows:
        rated = {row["image_name"]: row for row in csv.DictReader(rows)}
    part_of = deal([name.split("_1frame")[0] for name in rated], seed)
    lists: dict[str, list[list[Any]]] = {"labelled": [], "pool": [], "held": []}
    (folder / "images").mkdir(parents=True)
    with tarfile.open(frames / "images.tar") as archive:
        for member in archive:
            name = Path(member.name).stem
            file = archive.extractfile(member)
            if file is None or name not in rated:
                continue
            with Image.open(file) as coded:
                coded.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"images/{name}.png")
            content = name.split("_1frame")[0]
            row = [f"images/{name}.png", content, rated[name]["mos"], rated[name]["std"], 21]
            lists[part_of[content]].append(row)
    files = {}
    for part, lines in lists.items():
        # The pool's contents are its own, so it needs no groups; selection may show several frames of one content.
        columns = [0] if part == "pool" else range(5)
        files[part] = folder / f"{part}.csv"
        with files[part].open("w", newline="") as out:
            writer = csv.writer(out)
            for line in [["path", "group", "mos", "mos_std", "mos_n"], *sorted(lines)]:
                writer.writerow([line[at] for at in columns])
    return files


def start_weights(file: Path, seed: int) -> Path:
    """A quality network whose first fires were trained on ImageNet, and whose last layer was not."""
    import torch
    from safetensors.torch import save_file

    from models_zoo.architectures import build

    torch.manual_seed(seed)
    network = build("unique_squeezenet")
    published = torch.load(
        DATA / "imagenet1000" / "squeezenet1_0_deepcompressed_rgb255.pth", map_location="cpu", weights_only=True
    )
    state = network.state_dict()
    for name in state:
        if name.startswith("backbone."):
            state[name] = published[name.replace("backbone.", "features.")]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


class Study:
    """One seed: its corpora, its labelled set, its first target, and the recorded people. Runs inside the product."""

    def __init__(self, seed: int, images: int, steps: int) -> None:
        from django.conf import settings

        from competition.demo.seeding import demo_owner

        self.seed, self.images, self.steps = seed, images, steps
        self.by = demo_owner()
        self.folder = Path(settings.VAR_DIR) / "study"
        files = unpack(self.folder, seed)
        self.corpora = {part: self._corpus(part, file) for part, file in files.items()}
        self.edition = self._edition()
        self.target = self._target()
        self.rated = ratings()
        people = sorted({person for person, _ in self.rated})
        self.people = np.random.default_rng(seed).permutation(people)[:PEOPLE].tolist()

    def _corpus(self, part: str, file: Path) -> Any:
        from competition.demo.seeding import corpus_ensure

        scale = {"mos_low": str(LOWEST), "mos_high": str(HIGHEST)}
        return corpus_ensure(
            f"Frames, {part}", by=self.by, make=lambda: None, source="list", location=str(file), options=scale
        )

    def _edition(self) -> Any:
        """The first seed of a split that gives validation and test some contents each."""
        import pyarrow.parquet as pq

        from accounts.errors import DomainError
        from training.labelled import edition_add, labelled_set_create

        made = labelled_set_create(name="Frames", task="quality", by=self.by)
        source = {"kind": "corpus", "corpus": self.corpora["labelled"].pk, "origin": "base"}
        for split_seed in range(1000 * self.seed, 1000 * self.seed + 1000):
            try:
                edition = edition_add(labelled_set=made, sources=[source], by=self.by, seed=split_seed)
            except DomainError:  # a split without any content
                continue
            table = pq.read_table(edition.path, columns=["group", "split"])
            parts = {(row["split"], row["group"]) for row in table.to_pylist()}
            if min(sum(part == split for part, _ in parts) for split in ("val", "test")) >= LEAST_CONTENTS:
                return edition
        raise AssertionError("no seed splits the contents")

    def _target(self) -> Any:
        from competition.demo.seeding import version_ensure

        start = version_ensure(
            "Quality of frames", by=self.by, make=lambda: start_weights(self.folder / "start.safetensors", self.seed),
            card={"task": "quality"}, kind="torch", architecture="unique_squeezenet",
            preprocessing={"range": 255, "mean": [123.0, 117.0, 104.0]},
        )  # fmt: skip
        config = {"epochs": 20, "batch": 16, "crop": 160, "rate": 3e-4, "decay_epochs": 10, "evaluate_every": 5}
        return self.run("unique", self.edition, {"start": start}, config).outputs.get(role="network").version

    def run(self, method: str, edition: Any, inputs: dict[str, Any], config: dict[str, Any]) -> Any:
        """A finished run."""
        from training.services import run_create

        run = run_create(
            method=method, by=self.by, edition=edition, inputs=inputs, config=config, preset="small", seed=self.seed
        )
        work()
        run.refresh_from_db()
        assert run.finished_at, run.job.error
        return run

    def answer_for(self, number: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """How the ``number``-th recorded person rates a picture: as they did in the laboratory, on 0 to 100."""
        from corpora.reading import manifest_of
        from labeling.models import Slot

        names = [Path(path).stem for path in manifest_of(self.corpora["pool"]).column("path")]

        def answer(trial: dict[str, Any]) -> dict[str, Any]:
            row = Slot.objects.values_list("trial__item__row", flat=True).get(pk=trial["slot"])
            said = self.rated[self.people[number], names[row]]
            return {"value": 100 * (said - LOWEST) / (HIGHEST - LOWEST)}

        return answer

    def scores(self, version: Any, part: str) -> np.ndarray:
        """The version's scores of a part, higher = better."""
        from models_zoo.models import Scores
        from models_zoo.reading import oriented
        from models_zoo.services import scores_request

        corpus = self.corpora[part]
        scores_request(versions=[version], corpus=corpus, by=self.by)
        work()
        return np.array(oriented(Scores.objects.select_related("version__model").get(version=version, corpus=corpus)))

    def reading(self, version: Any) -> dict[str, float]:
        """Rank and linear correlation on the held-out contents, rank correlation on the old test split."""
        from corpora.reading import opinion_table
        from training.engine.measures import agreement

        held = opinion_table(self.corpora["held"])
        said = self.scores(version, "held")[held.rows]
        tested, rated = self.test_rows(), opinion_table(self.corpora["labelled"])
        old = self.scores(version, "labelled")[tested]
        truth = rated.mos[np.searchsorted(rated.rows, tested)]
        fresh = agreement(said, held.mos)
        return {"srcc": fresh.srcc.value, "plcc": fresh.plcc.value, "old": agreement(old, truth).srcc.value}

    def test_rows(self) -> np.ndarray:
        import pyarrow.parquet as pq

        table = pq.read_table(self.edition.path, columns=["row", "split"])
        return np.sort(table["row"].to_numpy()[table["split"].to_numpy() == "test"])


def work() -> None:
    """What the workers would do."""
    from jobs.inline import run_all_inline
    from jobs.models import Job, JobState

    for _ in range(20):
        Job.objects.filter(state=JobState.QUEUED).update(not_before=None)
        if not run_all_inline():
            return


def study(seed: int, images: int, steps: int) -> dict[str, Any]:
    """All arms of one seed; runs in a process with the product's environment."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    started = time.perf_counter()
    made = Study(seed, images, steps)
    first = made.reading(made.target)
    say(seed, f"the target: SRCC {first['srcc']:.3f} on held-out contents")
    loop = troubleshoot(made)
    found: dict[str, Any] = {"seed": seed, "first": first, **loop}
    found["arms"] = {"self_gmad": loop["readings"]}
    for arm, acquire in (("random", by_chance), ("variance", by_variance), ("dropout", by_dropout)):
        found["arms"][arm] = baseline(made, arm, acquire, loop["asked"], loop["variants"])
        say(seed, f"{ARMS[arm]}: " + ", ".join(f"{each['srcc']:.3f}" for each in found["arms"][arm]))
    del found["readings"], found["variants"]
    return found | {"minutes": (time.perf_counter() - started) / 60}


def say(seed: int, text: str) -> None:
    print(f"seed {seed}: {text}", file=sys.stderr, flush=True)


def troubleshoot(made: Study) -> dict[str, Any]:
    """Two rounds of the product's own loop."""
    from competition.demo.replaying import replay
    from competition.learning import round_learn
    from competition.loop import loop_read
    from competition.services import competition_create, competition_launch, round_start

    competition = competition_create(
        name="Troubleshoot", corpus=made.corpora["pool"], by=made.by, versions=[made.target], kind="self_gmad",
        duplicate_distance=None, control_size=12, overlap=OVERLAP, seed=made.seed,
        options={
            "edition": made.edition.pk, "variants": VARIANTS, "budget": made.images, "finetune_steps": made.steps,
        },
        campaign_options={"repeat_share": 0.0},
    )  # fmt: skip
    readings, asked = [], []
    round_ = competition_launch(competition=competition, by=made.by)
    for number in range(1, ROUNDS + 1):
        work()
        round_.refresh_from_db()
        assert round_.campaign, (round_.state, round_.error)
        replay(round_, made.answer_for, people=PEOPLE, note="Recorded people", server="", say=lambda text: None)
        work()
        asked.append(ordinary(round_))
        round_learn(round=round_, by=made.by)
        work()
        round_.refresh_from_db()
        assert round_.learn_run, round_.error
        assert round_.learn_run.finished_at, round_.error
        target = round_.learn_run.outputs.get(role="target").version
        readings.append(made.reading(target))
        say(made.seed, f"self-gMAD, round {number}: {asked[-1]} images, SRCC {readings[-1]['srcc']:.3f}")
        if number < ROUNDS:
            round_ = round_start(competition=competition, by=made.by)
    variants = [each.version for each in competition.rounds.get(number=1).prepare_run.outputs.order_by("number")]
    lines = loop_read(competition)
    fresh = [{which: line["fresh"][which]["srcc"]["value"] for which in ("old", "new")} for line in lines[1:]]
    reports = [told(line) for line in lines]
    return {"readings": readings, "asked": asked, "fresh": fresh, "reports": reports, "variants": variants}


def told(line: dict[str, Any]) -> str:
    """What the competition's page says of one round."""
    failures, fresh = line["failures"], line["fresh"] or {}
    text = (
        f"round {line['round'].number}: people contradict the target on {100 * failures['rate']:.0f} % of "
        f"{failures['n']} pairs ({100 * failures['low']:.0f} to {100 * failures['high']:.0f} %)"
    )
    for which, title in (("old", "the target before"), ("new", "this round's target")):
        if fresh.get(which):
            found = fresh[which]["srcc"]
            text += f"; on its images {title} has SRCC {found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
    return text


def ordinary(round_: Any) -> int:
    """Images that the round's people rated for learning, its control arm aside."""
    from labeling.models import Trial, TrialKind

    return Trial.objects.filter(campaign=round_.campaign, kind=TrialKind.ORDINARY).count()


Acquire = Callable[[Study, Any, list[Any], np.ndarray, int, int], np.ndarray]


def by_chance(made: Study, target: Any, variants: list[Any], free: np.ndarray, n: int, number: int) -> np.ndarray:
    return np.random.default_rng([made.seed, number]).choice(free, n, replace=False)


def by_variance(made: Study, target: Any, variants: list[Any], free: np.ndarray, n: int, number: int) -> np.ndarray:
    """Most different first; each variant's scores brought to opinion scores by a line over the old labels."""
    from corpora.reading import opinion_table

    rated = opinion_table(made.corpora["labelled"])
    scaled = []
    for variant in variants:
        slope, offset = np.polyfit(made.scores(variant, "labelled")[rated.rows], rated.mos, 1)
        scaled.append(slope * made.scores(variant, "pool") + offset)
    spread = np.std(scaled, axis=0)
    return free[np.argsort(-spread[free], kind="stable")[:n]]


def by_dropout(made: Study, target: Any, variants: list[Any], free: np.ndarray, n: int, number: int) -> np.ndarray:
    """Most uncertain first: the deviation of the score over passes with dropout before the last layer."""
    import torch

    from corpora.reading import manifest_of
    from models_zoo.adapters.load import torch_module
    from models_zoo.adapters.prepare import Prepared
    from models_zoo.architectures.unique import bilinear_pool
    from models_zoo.reading import version_spec

    spec = version_spec(target)
    network, _ = torch_module(spec)
    pooled: list[torch.Tensor] = []
    network.get_submodule("backbone").register_forward_hook(lambda _m, _i, out: pooled.append(bilinear_pool(out)))
    prepared = Prepared(network, spec.preprocessing).eval()
    paths = manifest_of(made.corpora["pool"]).column("path")
    torch.manual_seed(made.seed + number)
    spread = np.zeros(len(paths))
    with torch.inference_mode():
        for row in free:
            with Image.open(Path(made.corpora["pool"].root) / paths[row]) as picture:
                prepared(torch.from_numpy(np.array(picture.convert("RGB")))[None])
            dropped = torch.nn.functional.dropout(pooled.pop().repeat(PASSES, 1), DROPOUT)
            spread[row] = float(network.get_submodule("fc")(dropped)[:, 0].std())
    return free[np.argsort(-spread[free], kind="stable")[:n]]


def baseline(
    made: Study, arm: str, acquire: Acquire, asked: Sequence[int], variants: list[Any]
) -> list[dict[str, float]]:
    """As many images in as many rounds, chosen another way; only the variance arm tunes variants beside the target."""
    from training.labelled import edition_add, labelled_set_create

    target, edition, readings = made.target, made.edition, []
    labelled_set = labelled_set_create(name=f"Frames and {ARMS[arm]}", task="quality", by=made.by)
    free = np.arange(made.corpora["pool"].n_rows)
    sources = list(made.edition.sources)
    for number, n in enumerate(asked, start=1):
        chosen = acquire(made, target, variants, free, n, number)
        free = np.setdiff1d(free, chosen)
        campaign = rate(made, f"{ARMS[arm]}, round {number}", chosen)
        sources.append({"kind": "campaign", "campaign": campaign.pk, "origin": "found", "split": "train"})
        edition = edition_add(labelled_set=labelled_set, sources=sources, by=made.by, seed=made.seed, based_on=edition)
        inputs = {"target": target} | ({"variant": variants} if arm == "variance" else {})
        run = made.run("finetune", edition, inputs, {"steps": made.steps})
        target = run.outputs.get(role="target").version
        variants = [each.version for each in run.outputs.filter(role="variant").order_by("number")] or variants
        readings.append(made.reading(target))
    return readings


def rate(made: Study, name: str, rows: np.ndarray) -> Any:
    """A campaign on these images, rated to its end by recorded people over HTTP."""
    from competition.demo.replaying import Person, own_server
    from corpora.services import item_ensure
    from labeling.services import TrialSpec, campaign_create, campaign_open, invite_create, trials_add

    items = item_ensure(corpus=made.corpora["pool"], rows=sorted(rows.tolist()))
    campaign = campaign_create(
        name=name, by=made.by, overlap=OVERLAP, protocol="continuous", taxonomy=None, repeat_share=0.0, seed=made.seed
    )
    trials_add(campaign=campaign, trials=[TrialSpec(item=item) for item in items.values()])
    campaign_open(campaign=campaign, by=made.by)
    invite = invite_create(campaign=campaign, by=made.by, quota=PEOPLE, note="Recorded people")
    with own_server() as server:
        people = [Person(server, number) for number in range(PEOPLE)]
        for person in people:
            person.join(invite.code)
        for person in people:
            person.label(made.answer_for(person.number))
    work()
    return campaign


def spawn(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One seed in a process and a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        variables = os.environ | {"VAR_DIR": folder, "OMP_NUM_THREADS": "1", "LOG_LEVEL": "ERROR"}
        for name in ("DATABASE_URL", "REDIS_URL"):
            variables.pop(name, None)
        for command in ("migrate", "admin_ensure"):
            quiet = ["--verbosity", "0"]
            subprocess.run(
                [sys.executable, "manage.py", command, *quiet], cwd=ROOT, env=variables, check=True, capture_output=True
            )
        command_line = [
            sys.executable, "-m", "benchmarks.bench_self_gmad", "--one", str(seed),
            "--images", str(options.images), "--steps", str(options.steps), "--out", f"{folder}/found.json",
        ]  # fmt: skip
        subprocess.run(command_line, cwd=ROOT, env=variables, check=True)
        found: dict[str, Any] = json.loads(Path(f"{folder}/found.json").read_text())
        return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % t interval over seeds."""
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else np.nan
    return float(found.mean()), half


def shown(values: Sequence[float], sign: str = "") -> str:
    mean, half = interval(values)
    return f"{mean:{sign}.3f} ± {half:.3f}"


def report(results: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
    first = [result["first"] for result in results]

    def readings(arm: str, number: int, name: str) -> np.ndarray:
        return np.array([result["arms"][arm][number][name] for result in results])

    base = np.array([reading["srcc"] for reading in first])
    rows = [
        [
            title,
            *(shown(readings(arm, number, "srcc")) for number in range(ROUNDS)),
            shown(readings(arm, -1, "plcc")),
            shown(readings(arm, -1, "srcc") - base, "+"),
            "" if arm == "random" else shown(readings(arm, -1, "srcc") - readings("random", -1, "srcc"), "+"),
            shown(readings(arm, -1, "old") - np.array([reading["old"] for reading in first]), "+"),
        ]
        for arm, title in ARMS.items()
    ]
    header = [
        "images chosen by", "SRCC, round 1", "SRCC, round 2", "PLCC, round 2", "gain in SRCC", "gain over random",
        "SRCC on the old test split",
    ]  # fmt: skip
    asked = ", ".join("+".join(map(str, result["asked"])) for result in results)
    loop = "\n".join(f"- Seed {result['seed']}, {line}." for result in results for line in result["reports"])
    return (
        "## Self-gMAD: two rounds on real frames, beside other ways to choose images\n\n"
        f"`python -m benchmarks.bench_self_gmad --seeds {' '.join(map(str, options.seeds))}`\n\n"
        f"{len(results)} seeds, mean ± half of the 95 % t interval over seeds. A target of {LABELLED} contents, "
        f"{asked} images of {POOL} other contents rated by {OVERLAP} recorded people each over HTTP, {options.steps} "
        f"steps of fine-tuning per round; measured on contents that no arm could ask about. The first target: SRCC "
        f"{shown(base)}, PLCC {shown([reading['plcc'] for reading in first])}. The last column is the change on the "
        "old test split: below zero is forgetting.\n\n"
        f"{markdown_table(header, rows)}\n\n![SRCC on held-out contents over images rated](plots/self_gmad.svg)\n\n"
        f"What the product's own report said of the target, round by round:\n\n{loop}\n\n"
        f"{{verdict}}\n\n{NOTES}\n{max(result['minutes'] for result in results):.0f} minutes for the slowest seed, "
        f"two at a time on two cores.\n"
    )


COLOURS = {"self_gmad": "#c2410c", "random": "#6b7280", "variance": "#2563eb", "dropout": "#059669"}
DASHES = {"self_gmad": "", "random": "6 3", "variance": "2 3", "dropout": "8 3 2 3"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 360, 60, 48, 40


def plot(results: Sequence[dict[str, Any]]) -> str:
    """SRCC over images rated, a line per arm, bars of the 95 % t interval over seeds."""
    counts = np.concatenate([[0.0], np.cumsum(np.mean([result["asked"] for result in results], axis=0))])
    lines = {
        arm: [interval([result["first"]["srcc"] for result in results])]
        + [interval([result["arms"][arm][at]["srcc"] for result in results]) for at in range(ROUNDS)]
        for arm in ARMS
    }
    low = min(mean - half for points in lines.values() for mean, half in points)
    high = max(mean + half for points in lines.values() for mean, half in points)
    low, high = np.floor(low * 20) / 20, min(1.0, np.ceil(high * 20) / 20)

    def x(count: float, shift: float = 0.0) -> float:
        return LEFT + (WIDTH - LEFT - 30) * count / counts[-1] + shift

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">Rank correlation with opinion scores on held-out contents</text>',
    ]
    for tick in np.arange(low, high + 1e-9, 0.05):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 30}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    for count in counts:
        parts.append(f'<text x="{x(count):.1f}" y="{HEIGHT - 28}" text-anchor="middle">{count:.0f}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">images rated by people</text>')
    for at, (arm, points) in enumerate(lines.items()):
        shift = 4.0 * (at - 1.5)
        places = [(x(count, shift), mean, half) for count, (mean, half) in zip(counts, points, strict=True)]
        path = " ".join(f"{px:.1f},{y(mean):.1f}" for px, mean, _ in places)
        style = f'stroke="{COLOURS[arm]}" stroke-width="2"'
        parts.append(f'<polyline points="{path}" fill="none" {style} stroke-dasharray="{DASHES[arm]}"/>')
        for px, mean, half in places:
            parts.append(f'<circle cx="{px:.1f}" cy="{y(mean):.1f}" r="3.5" fill="{COLOURS[arm]}"/>')
            if np.isfinite(half):
                parts.append(rule((px, y(mean - half)), (px, y(mean + half)), style))
        level = TOP + 16 + 18 * at
        parts.append(rule((LEFT + 20, level), (LEFT + 50, level), f'{style} stroke-dasharray="{DASHES[arm]}"'))
        parts.append(f'<text x="{LEFT + 58}" y="{level + 4}">{ARMS[arm]}</text>')
    return "\n".join([*parts, "</svg>\n"])


def rule(start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    return f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" {style}/>'


def verdict(results: Sequence[dict[str, Any]]) -> str:
    """What the figures allow to say."""
    fresh = [pair for result in results for pair in result["fresh"]]
    n_better = sum(pair["new"] > pair["old"] for pair in fresh)
    return (
        f"On selections that were labelled before anything was trained on them, the tuned target orders the images "
        f"better than the one before in {n_better} of {len(fresh)} cases. {beside_random(results)}"
    )


def beside_random(results: Sequence[dict[str, Any]]) -> str:
    """Whether self-gMAD and random images can be told apart, in one sentence."""
    last = {arm: np.array([result["arms"][arm][-1]["srcc"] for result in results]) for arm in ARMS}
    mean, half = interval(last["self_gmad"] - last["random"])
    if mean - half > 0:
        return "Self-gMAD beats random images: the interval of the difference lies above zero."
    if mean + half < 0:
        return "Self-gMAD loses to random images: the interval of the difference lies below zero."
    return (
        f"Self-gMAD is not told apart from random images here: the difference is {mean:+.3f} with a 95 % interval of "
        f"{mean - half:+.3f} to {mean + half:+.3f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=24, help="rated per round")
    parser.add_argument("--steps", type=int, default=30, help="of fine-tuning per round")
    parser.add_argument("--dry", action="store_true", help="print, and leave docs/ alone")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (DATA / "iqa_uhd_frames").is_dir():
        sys.exit(f"{DATA} has no iqa_uhd_frames folder: set FALSIFY_SHARED_DATA to the data folder.")
    if options.one is not None:
        options.out.write_text(json.dumps(study(options.one, options.images, options.steps)))
        return
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda seed: spawn(seed, options), options.seeds))
    text = report(results, options).format(verdict=verdict(results))
    print(text)
    if not options.dry:
        PLOT.parent.mkdir(parents=True, exist_ok=True)
        PLOT.write_text(plot(results), encoding="utf-8")
        write_section("self_gmad", text)


if __name__ == "__main__":
    main()
