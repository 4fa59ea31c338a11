"""The commands: each parses, wires the concrete parts, calls one verb and prints. Nothing else puts parts together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from medsweep.errors import MedsweepError, ParamsError, StoreError
from medsweep.layout import Layout

if TYPE_CHECKING:
    from medsweep.params import Params

app = typer.Typer(
    name="medsweep",
    help="Honest, reproducible CNN experiments on labelled medical images. "
    "`dvc repro` runs the four stages; these are the stages and what surrounds them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = Console(soft_wrap=True, highlight=False)

# How long a stage waits, when its work is done, for MLflow to have been told.
_PUBLISH_SECONDS = 90
_INTERRUPTED = 128 + 2
# Files of many images, which no viewer opens.
_PACKS = frozenset({".npz", ".npy"})

AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]


class Place(StrEnum):
    """Where a version can be promoted to."""

    staging = "staging"
    production = "production"


class Size(StrEnum):
    """The sizes that MedMNIST's sets come in, in pixels."""

    s28 = "28"
    s64 = "64"
    s128 = "128"
    s224 = "224"


def main() -> None:
    """The entry point: an error that is the user's to mend is one line and exit code 2, never a traceback."""
    # A run id in the environment would take nested runs away from their parent (mlflow#15713).
    os.environ.pop("MLFLOW_RUN_ID", None)
    try:
        app()
    except MedsweepError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except SystemExit as left:
        # Typer makes this of Ctrl-C, and says nothing.
        if left.code == _INTERRUPTED:
            print("interrupted. What is finished is kept: run the same command again to go on.", file=sys.stderr)
        raise


def _open() -> tuple[Params, Layout]:
    from medsweep import params as parameters  # here, for pydantic would be half of what --help takes

    layout = Layout.find()
    return parameters.load(layout.params), layout


def _open_stage(name: str) -> tuple[Params, Layout]:
    from medsweep.project.code import check_code

    known, layout = _open()
    check_code(layout, name)
    return known, layout


def _say(lines: list[str]) -> None:
    for line in lines:
        console.print(line, markup=False)


def _answer(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


# -- projects ----------------------------------------------------------------------------------------------------------


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder; it is made.")],
    data: Annotated[
        Path | None, typer.Option("--from", metavar="DATA", help="Your images: a folder, CSV, npz or DICOMDIR.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="CSV", help="The labels, where they lie elsewhere.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Leave the data where they are, without a copy that DVC keeps.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("-S", metavar="KEY=VALUE", help="A key of prepare.source that is not guessed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project of your own around your data: params.yaml, dvc.yaml, Git and DVC. Nothing is overwritten.

    Example: `medsweep new my_study --from ~/scans`
    """
    from medsweep import params as parameters
    from medsweep.prepare import stage
    from medsweep.project.create import create

    made = create(folder, data, labels=labels, in_place=in_place, given=_given(settings or []))
    layout = Layout.find(made.root)
    if not as_json:
        _say([f"{folder} is a project now."])
        _say(made.found.lines() if made.found is not None else ["It starts with synthetic images: see --from."])
        _say([f"DVC keeps {', '.join(made.added)}."] if made.added else [])
    problems: list[str] = []
    if made.found is not None:
        try:
            quiet = Console(quiet=True) if as_json else console
            problems = list(stage.inspect(parameters.load(layout.params), layout, quiet).warnings)
        except MedsweepError as error:
            problems = [str(error)]
            _say([] if as_json else [f"Before dvc repro: {error}"])
    if as_json:
        _answer({**asdict(made), "root": str(made.root), "problems": problems})
        return
    _say([] if problems or made.found is None else ["Problems: none found."])
    _say([f"Next: {made.next[0]}", *(f"      {each}" for each in made.next[1:])])


def _given(settings: list[str]) -> dict[str, Any]:
    """`-S key=value` as params.yaml would have it."""
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found = {}
    for each in settings:
        key, equals, value = each.partition("=")
        key = key.removeprefix("prepare.source.")
        if not equals or not key.isidentifier():
            raise ParamsError("is not KEY=VALUE with a key of prepare.source.", where=f"-S {each}")
        try:
            found[key] = YAML(typ="safe", pure=True).load(StringIO(value))
        except YAMLError:
            raise ParamsError("has a value that is no YAML.", where=f"-S {each}") from None
    return found


@app.command()
def upgrade(as_json: AsJson = False) -> None:
    """Take up the medsweep that is installed: its code's digests in code.yaml, and keys that params.yaml lacks.

    Example: `pip install -U medsweep && medsweep upgrade && dvc repro`
    """
    from medsweep.project.upgrade import upgrade as take_up

    done = take_up(Layout.find())
    if as_json:
        _answer(asdict(done))
    else:
        _say(done.lines())


# -- the stages --------------------------------------------------------------------------------------------------------


@app.command()
def prepare() -> None:
    """Stage 1: read, check, resize and split the images.

    Example: `dvc repro prepare` (which calls `medsweep prepare`)
    """
    from medsweep.prepare import stage

    known, layout = _open_stage("prepare")
    _say(stage.run(known, layout, console).lines())


@app.command()
def augment() -> None:
    """Stage 2: draw and render the views of every augmentation policy.

    Example: `dvc repro augment` (which calls `medsweep augment`)
    """
    from medsweep.augment import stage

    known, layout = _open_stage("augment")
    _say(stage.run(known, layout, console).lines())


@app.command()
def train() -> None:
    """Stage 3: search the space, and write the winner. An interrupted search goes on where it was.

    Example: `dvc repro train` (which calls `medsweep train`)
    """
    from medsweep.train import stage

    known, layout = _open_stage("train")
    followers: list[subprocess.Popen[bytes]] = []

    def follow(log: Path) -> None:
        followers.append(_follower(layout, log))

    summary = stage.run(known, layout, console, on_log=follow)
    _say(summary.lines())
    for each in followers:
        try:
            each.wait(_PUBLISH_SECONDS)
        except subprocess.TimeoutExpired:
            console.print("MLflow has not answered yet; nothing is lost: medsweep publish tells it later.")


def _follower(layout: Layout, log: Path) -> subprocess.Popen[bytes]:
    """Tell MLflow of the growing log from a process of its own: the search neither waits for it nor fails with it."""
    command = [sys.executable, "-m", "medsweep", "publish", "--follow", str(log), "--parent", str(os.getpid())]
    # A session of its own, so that Ctrl-C ends the search and lets this one tell MLflow the rest.
    return subprocess.Popen(
        command, cwd=layout.root, stdin=subprocess.DEVNULL, start_new_session=True, env=_quiet_environment()
    )


def _quiet_environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


@app.command()
def evaluate() -> None:
    """Stage 4: the trained model on the test split, and a new version in MLflow's model registry.

    Example: `dvc repro` (which calls `medsweep evaluate` last)
    """
    from medsweep.evaluate import stage

    known, layout = _open_stage("evaluate")
    _say(stage.run(known, layout, console).lines())
    try:
        _publish(known, layout)
    except StoreError as error:
        # The stage's work is done and on the disk; the store can be told later.
        console.print(f"not published yet: {error}", style="yellow", markup=False)


# -- data --------------------------------------------------------------------------------------------------------------


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="The set's name, for example pneumoniamnist.")],
    size: Annotated[Size, typer.Option(help="Pixels along each side.")] = Size.s28,
) -> None:
    """Download a MedMNIST set into data/raw, its md5 verified. No stage ever downloads anything.

    Example: `medsweep fetch pneumoniamnist --size 28`
    """
    from medsweep.sources.fetch import fetch as download

    layout = Layout.find()
    path = layout.relative(download(name, int(size.value), layout.raw, console))
    _say(
        [
            f"Next: dvc add {path}",
            "Then train on it:",
            f"  dvc exp run -S prepare.source.kind=medmnist -S prepare.source.path={path}",
        ]
    )


@app.command()
def check(as_json: AsJson = False) -> None:
    """Check params.yaml and the data, before any epoch and without writing a stage's output.

    Example: `medsweep check`
    """
    from medsweep.augment.policies import check_policies
    from medsweep.prepare import stage
    from medsweep.train.presets import presets_in_space
    from medsweep.train.space import check_space

    known, layout = _open()
    check_policies(known.augment)
    check_space(known.train, max_views=known.augment.views)
    presets_in_space(known.train)
    quiet = Console(quiet=True) if as_json else console
    summary = stage.inspect(known, layout, quiet)
    if as_json:
        _answer(asdict(summary))
    else:
        console.print("params.yaml is fine: every key, table row and range.")
        _say(summary.lines())


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="RECORD", help="A record's id, or a patient's pseudonym.")],
    patient: Annotated[bool, typer.Option("--patient", help="All images of the patient with this pseudonym.")] = False,
    only_print: Annotated[bool, typer.Option("--print", help="Print where it is, and open nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the file that a record id stands for, and open it with the system's viewer.

    Works where the images were prepared: the map from ids to files stays in .medsweep/private.

    Example: `medsweep show 3f9c2a7be01d4c58`
    """
    from medsweep.prepare import private

    layout = Layout.find()
    found = private.find_records(layout, name, patient=patient)
    if as_json:
        _answer([asdict(each) for each in found])
        return
    for each in found:
        frame = "" if each.frame is None else f", image {each.frame} in it"
        whose = f", patient {each.patient or each.patient_pseudonym}" if each.patient_pseudonym else ""
        _say([f"{each.record_id}: {each.file}{frame} ({each.split}{whose})"])
    if len(found) > 1 or only_print:
        if len(found) > 1 and not only_print:
            _say(["Next: medsweep show RECORD opens one of them."])
        return
    path = private.file_of(layout, found[0])
    if path.is_dir() or path.suffix.lower() in _PACKS:
        path = private.picture_of(layout, found[0])
        _say(["It is no file of its own: its prepared pixels are shown."])
    # xdg-open hands the file over and ends, and only then tells whether it could; macOS's would wait for the viewer.
    if typer.launch(str(path), wait=sys.platform == "linux"):
        raise MedsweepError("no viewer could be started.", where=str(path), fix="Open the file yourself.")
    if found[0].patient_pseudonym == found[0].record_id:
        n = private.count_of_patient(layout, found[0].record_id)
        if n > 1:
            _say([f"This is also the pseudonym of a patient with {n} images: --patient lists them."])


# -- one image ---------------------------------------------------------------------------------------------------------


@app.command()
def explain(
    image: Annotated[str, typer.Argument(help="A record id (or its first six characters), or an image file.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="A registered version; else the workspace's model.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="A method, more than once if you like; else all.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="The class; else the one decided for.")] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="Which frame of a DICOM file, from 0.")] = None,
    output: Annotated[Path, typer.Option(help="The PNG or SVG to write.")] = Path("explanation.png"),
    as_json: AsJson = False,
) -> None:
    """Explain one image: the model's probability and decision, and where it sees what speaks for it.

    Example: `medsweep explain scan.png --method grad_cam --output scan_explained.png`
    """
    from medsweep.evaluate import one_image
    from medsweep.prepare.one_image import find_image

    known, layout = _open()
    picture = find_image(image, known, layout, frame=frame)

    def answer(subject: one_image.Subject) -> one_image.Answer:
        return one_image.explain_image(
            picture, subject, known, layout, methods=method or [], class_name=class_name, output=output
        )

    if version is None:
        found = answer(one_image.Subject.of_workspace(layout))
    else:
        from medsweep.registry.version import registered_model

        with registered_model(layout, known.experiment, version) as model:
            name = f"version {version} of '{known.experiment}'"
            found = answer(one_image.Subject(name=name, **vars(model)))
    if as_json:
        _answer(asdict(found))
    else:
        _say(found.lines())


# -- tracking and the registry -----------------------------------------------------------------------------------------


@app.command()
def publish(
    follow: Annotated[Path | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
    as_json: AsJson = False,
) -> None:
    """Tell MLflow what the workspace's run logs say; what it knows already stays as it is.

    Example: `MLFLOW_TRACKING_URI=http://mlflow.example:5000 medsweep publish`
    """
    known, layout = _open()
    if follow is not None:
        from medsweep.tracking import publisher

        gone = publisher.gone(parent)
        # A finished stage moves its log to its outputs: what the follower has not read by then, `publish` reads there.
        publisher.follow(layout, known.experiment, follow, lambda: gone() or not follow.is_file())
        if layout.search_log.is_file():
            publisher.publish(layout, known.experiment)
        return
    summary = _publish(known, layout, say=not as_json)
    if as_json:
        _answer(asdict(summary))


def _publish(known: Params, layout: Layout, *, say: bool = True) -> Any:
    from medsweep.tracking.publisher import publish as tell

    summary = tell(layout, known.experiment, console if say else None)
    if say:
        console.print(summary.sentence, markup=False)
    return summary


def _published(then: Callable[[Params, Layout], Any], *, say: bool) -> Any:
    """The registry follows the workspace: whoever asks it sees what the workspace holds now."""
    known, layout = _open()
    _publish(known, layout, say=say)
    return then(known, layout)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="The port on this machine.")] = 5000) -> None:
    """Open MLflow's UI on this project's runs and versions.

    Example: `medsweep ui --port 5001`
    """
    from medsweep.tracking.store import ui_command

    command = _published(lambda _, layout: ui_command(layout, port), say=True)
    if not command.arguments:
        console.print(f"A tracking server is in use: {command.address}")
        return
    _refuse_taken(port)
    console.print(f"MLflow UI: {command.address}   (Ctrl-C ends it)", style="bold")
    try:
        sys.exit(subprocess.call(command.arguments, env={**os.environ, **command.environment}))
    except KeyboardInterrupt:
        sys.exit(0)


def _refuse_taken(port: int) -> None:
    import socket

    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StoreError("is taken by another program.", where=f"port {port}", fix=f"Try --port {port + 1}.")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, help="The version's number: medsweep history lists them.")],
    to: Annotated[Place, typer.Option(help="Where to.")],
    as_json: AsJson = False,
) -> None:
    """Promote a version of the registered model: its alias, and MLflow's legacy stage.

    Example: `medsweep promote 1 --to staging`
    """
    from medsweep.registry.promote import promote as point

    def then(known: Params, layout: Layout) -> str:
        return point(layout, known.experiment, version, to.value)

    uri = _published(then, say=not as_json)
    if as_json:
        _answer({"version": version, "to": to.value, "uri": uri})
    else:
        _say([f"Version {version} is in {to.value} now.", f'Load it: mlflow.tensorflow.load_model("{uri}")'])


@app.command()
def history(as_json: AsJson = False) -> None:
    """List the registered versions: when, how good, where promoted.

    Example: `medsweep history --json`
    """
    from medsweep.registry.history import history as versions

    rows = _published(lambda known, layout: versions(layout, known.experiment), say=not as_json)
    if as_json:
        _answer([asdict(row) for row in rows])
    elif not rows:
        console.print("No version yet. Next: dvc repro")
    else:
        console.print(_version_table(rows))


def _version_table(rows: list[Any]) -> Any:
    from rich.table import Table

    table = Table("version", "created (UTC)", "aliases", "test AUROC", "search", "promoted", box=None, pad_edge=False)
    for row in rows:
        auroc = "–" if row.auroc is None else f"{row.auroc:.3f}"
        if row.low is not None:
            auroc += f" ({row.low:.3f}–{row.high:.3f})"
        promoted = ", ".join(f"{place} {_to_the_minute(when)}" for place, when in row.promotions.items())
        created = _to_the_minute(row.created)
        table.add_row(str(row.version), created, ", ".join(row.aliases), auroc, row.search_key[:8], promoted)
    return table


def _to_the_minute(moment: str) -> str:
    """A moment in ISO 8601 as a table of 80 columns can hold it."""
    return moment[:16].replace("T", " ")


@app.command()
def compare(
    first: Annotated[str | None, typer.Argument(metavar="[A]", help="The first model; leave both out for all.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="[B]", help="The second model.")] = None,
    output: Annotated[Path | None, typer.Option(help="The page on all versions; default .medsweep/comparison.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two models on the same test images, or without arguments all versions of the experiment.

    A model is a version's number, an alias, `workspace`, a path to a predictions.csv, a Git revision or an experiment.

    Example: `medsweep compare 1 candidate`
    """
    if first is None or second is None:
        if first is not None:
            raise ParamsError(
                "needs two models, or none for all versions.", where="compare", fix="Name the second one."
            )
        _compare_all(output, as_json)
    else:
        _compare_two(first, second, as_json)


def _compare_two(first: str, second: str, as_json: bool) -> None:
    from tempfile import TemporaryDirectory

    from medsweep.compare.address import find, needs_store
    from medsweep.compare.pair import compare as weigh

    known, layout = _open()
    if needs_store(first) or needs_store(second):
        _publish(known, layout, say=not as_json)
    with TemporaryDirectory() as folder:
        sides = []
        for index, address in enumerate((first, second)):
            own = Path(folder) / str(index)
            own.mkdir()
            sides.append(find(address, layout, known.experiment, own))
    found = weigh(sides[0], sides[1], known.evaluate)
    if as_json:
        _answer(found.as_json())
        return
    _say([found.sentence, found.decided, *([found.caution] if found.caution else [])])
    console.print(_difference_table(found))
    how = "Holm-adjusted together" if len(found.metrics) > 1 else "as it is"
    _say(
        [
            f"Intervals: {100 * found.confidence:g} %, by resampling {found.unit}, the same for both, but for the two "
            f"AUROCs' own, which are by their variance; p {how}."
        ]
    )


def _difference_table(found: Any) -> Any:
    from rich.table import Table

    from medsweep.compare.pair import COMPARED

    def shown(each: Any, sign: str = "") -> str:
        if each.value != each.value:
            return "undefined"
        ends = "" if each.low != each.low else f" ({each.low:{sign}.3f} to {each.high:{sign}.3f})"
        return f"{each.value:{sign}.3f}{ends}"

    table = Table("", found.first, found.second, "difference", "p", box=None, pad_edge=False)
    for name, each in found.metrics.items():
        p = found.adjusted[name]
        cells = (shown(each.first), shown(each.second), shown(each.difference, "+"))
        table.add_row(COMPARED[name], *cells, "–" if p != p else f"{p:.3f}")
    return table


def _compare_all(output: Path | None, as_json: bool) -> None:
    from tempfile import TemporaryDirectory

    from medsweep.compare import page
    from medsweep.compare.experiment import compare_all
    from medsweep.tracking.evaluations import Evaluations

    known, layout = _open()
    _publish(known, layout, say=not as_json)
    store = Evaluations(layout, known.experiment)
    with TemporaryDirectory() as folder:
        found = compare_all(store, known.experiment, known.evaluate, Path(folder))
    written = page.write(found, output.resolve() if output is not None else layout.comparison)
    runs = store.leave([each.version.search_key for each in found.candidates], written)
    if as_json:
        _answer({**found.as_json(), "page": str(written[0])})
        return
    _say([*found.sentences, f"Page: {written[0]}"])
    if runs:
        _say([f"In MLflow: artifacts, comparison, of {runs} search run{'' if runs == 1 else 's'}."])


@app.command()
def study(
    output: Annotated[Path, typer.Option(help="The SQLite file to write.")] = Path("study.db"),
) -> None:
    """Rebuild the search as a plain Optuna study in SQLite, for optuna-dashboard.

    Example: `medsweep study && optuna-dashboard sqlite:///study.db`
    """
    from medsweep.train.stage import finished_search
    from medsweep.train.study import export_study

    known, layout = _open()
    searched, outcomes = finished_search(layout, known.train)
    export_study(searched, outcomes, output.resolve(), name=known.experiment)
    _say([f"{len(outcomes)} trials written to {output}.", f"Next: optuna-dashboard sqlite:///{output}"])
