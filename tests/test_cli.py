from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from medsweep import cli
from medsweep.errors import SearchError, StoreError

COMMANDS = [
    "new",
    "upgrade",
    "prepare",
    "augment",
    "train",
    "evaluate",
    "fetch",
    "check",
    "explain",
    "publish",
    "ui",
    "promote",
    "history",
    "compare",
    "study",
    "show",
]
HEAVY = ["tensorflow", "keras", "mlflow", "sklearn", "scipy", "pandas", "matplotlib", "optuna", "cv2", "PIL", "dvc"]
Answer = tuple[int, str, str]


@pytest.fixture
def write_params(
    tmp_path: Path, default_params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Makes the current folder a project; keyword arguments change prepare.source, `change` anything."""

    def write(change: Callable[[dict[str, Any]], None] = lambda _: None, **source: Any) -> Path:
        found = json.loads(json.dumps(default_params))
        found["prepare"]["image"] |= {"height": 16, "width": 16}
        found["prepare"]["checks"]["min_images_per_class"] = 1
        if source:
            found["prepare"]["source"] = {"path": "data/raw", **source}
        else:
            found["prepare"]["source"] |= {"patients": 12, "images_per_patient": 2, "size": 20}
        change(found)
        with (tmp_path / "params.yaml").open("w") as stream:
            YAML().dump(found, stream)
        (tmp_path / "dvc.yaml").write_text("stages: {}\n")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return write


def draw(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folders(root: Path, count: int = 6) -> Path:
    for k, name in enumerate(("benign", "malignant")):
        for index in range(count):
            draw(root / "data" / "raw" / name / f"{index}.png", 100 * k + index)
    return root / "data" / "raw"


def refused(answer: Answer) -> str:
    """The one line of an error that is the user's to mend."""
    code, _, err = answer
    assert code == 2, err
    assert "Traceback" not in err and err.startswith("error: ") and err.count("\n") == 1, err
    return err.removeprefix("error: ").rstrip("\n")


# -- help --------------------------------------------------------------------------------------------------------------


def test_every_command_has_help_with_an_example(medsweep: Callable[..., Answer]) -> None:
    code, out, _ = medsweep("--help")
    assert code == 0 and all(f" {name} " in out for name in COMMANDS)
    assert {each.callback.__name__ for each in cli.app.registered_commands if each.callback} == set(COMMANDS)
    for name in COMMANDS:
        code, out, _ = medsweep(name, "--help")
        assert code == 0
        assert "Example:" in out and ("medsweep" in out.split("Example:")[1])


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import sys
import medsweep.cli
sys.argv = ["medsweep", "--help"]
try:
    medsweep.cli.main()
except SystemExit as left:
    assert not left.code
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stdout + done.stderr


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medsweep", "check"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "no medsweep project here" in refused((done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["promote", "one", "--to", "staging"],
        ["promote", "0", "--to", "staging"],
        ["promote", "1"],
        ["promote", "1", "--to", "nowhere"],
        ["fetch", "x", "--size", "29"],
        ["ui", "--port", "0"],
    ],
)
def test_a_wrong_command_line_is_answered_with_code_2(arguments: list[str], medsweep: Callable[..., Answer]) -> None:
    code, _, err = medsweep(*arguments)
    assert code == 2 and "Traceback" not in err and "Usage:" in err


# -- params.yaml -------------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


def at(path: str, value: Any) -> Change:
    def change(found: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        for step in steps:
            found = found[step]
        found[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (at("train.serach", {}), "params.yaml: train.serach: unknown key."),
        (at("train.search.trials", "many"), "train.search.trials: input should be a valid integer, not 'many'"),
        (at("prepare.checks.unreadable", "maybe"), "prepare.checks.unreadable: input should be 'error', 'warn' or"),
        (at("prepare.source.kind", "folders"), "Choose from: "),
        (at("prepare.source.patiens", 3), "prepare.source.patiens: unknown key"),
        (at("train.space.optimizer.adamm", {"learning_rate": 0.1}), "unknown optimizer 'adamm'"),
        (at("train.space.loss.hinge", {}), "unknown loss 'hinge'"),
        (at("train.space.backbone.resnet", {}), "unknown backbone 'resnet'"),
        (at("train.space.schedule.warm", {}), "unknown schedule 'warm'"),
        (at("train.space.activation", ["rellu"]), "unknown activation 'rellu'"),
        (at("train.space.optimizer.adam.beta", 0.1), "train.space.optimizer.adam.beta: unknown hyperparameter"),
        (at("train.space.policy", ["strongest"]), "'strongest', which augment.policies lacks"),
        (at("augment.policies.geometric.twirl", {}), "unknown transform 'twirl'"),
        (at("augment.policies.geometric.rotate", {"probability": 2, "degrees": 9}), "geometric.rotate.probability"),
    ],
)
def test_params_that_cannot_be_run_are_one_line(
    change: Change, said: str, medsweep: Callable[..., Answer], write_params: Callable[..., Path]
) -> None:
    write_params(change)
    assert said in refused(medsweep("check"))


def test_an_unknown_optimizer_is_answered_with_those_there_are(
    medsweep: Callable[..., Answer], write_params: Callable[..., Path]
) -> None:
    write_params(at("train.space.optimizer", {"adamm": {"learning_rate": 0.1}}))
    wanted = (
        "train.space.optimizer.adamm: unknown optimizer 'adamm'. Choose from: gradient_descent, sgd, averaged_sgd, "
        "momentum, nesterov, adam, adamw, rmsprop, adagrad, adadelta, adamax, nadam, lion."
    )
    for command in ("check", "train"):
        assert refused(medsweep(command)) == wanted


@pytest.mark.parametrize("command", ["prepare", "augment", "train", "evaluate", "publish", "history", "study"])
def test_every_command_reads_params_first(
    command: str, medsweep: Callable[..., Answer], write_params: Callable[..., Path]
) -> None:
    root = write_params(at("runtime.worker", 1))
    assert refused(medsweep(command)) == "params.yaml: runtime.worker: unknown key."
    (root / "params.yaml").write_text("a: [1\n")
    assert "params.yaml: is not valid YAML" in refused(medsweep(command))


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["check", "prepare"])
def reads_data(request: pytest.FixtureRequest, medsweep: Callable[..., Answer]) -> Callable[[], str]:
    """`check` and `prepare` find the same in the data, in the same words."""
    return lambda: refused(medsweep(request.param))


@pytest.mark.parametrize("kind", ["folder", "table", "medmnist"])
def test_data_that_is_not_there(kind: str, reads_data: Callable[[], str], write_params: Callable[..., Path]) -> None:
    write_params(kind=kind, path="data/raw/nowhere")
    assert "data/raw/nowhere" in reads_data()


def test_a_class_without_images(reads_data: Callable[[], str], write_params: Callable[..., Path]) -> None:
    root = write_params(kind="folder")
    (folders(root) / "normal").mkdir()
    assert "normal" in reads_data()


@pytest.mark.parametrize("content", [b"not an image", b"", "cut"])
def test_an_image_that_cannot_be_read_is_named(
    content: bytes | str, reads_data: Callable[[], str], write_params: Callable[..., Path]
) -> None:
    root = write_params(kind="folder")
    path = folders(root) / "benign" / "3.png"
    path.write_bytes(path.read_bytes()[:100] if isinstance(content, str) else content)
    assert "benign/3.png" in reads_data()


def table(root: Path, rows: list[str], head: str = "image,label,patient,split") -> None:
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "table.csv").write_text("\n".join([head, *rows]) + "\n")


COLUMNS = {"image_column": "image", "label_column": "label", "patient_column": "patient", "split_column": "split"}


@pytest.mark.parametrize("lacks", ["image", "label", "patient", "split"])
def test_a_column_that_is_missing_is_named(
    lacks: str, reads_data: Callable[[], str], write_params: Callable[..., Path]
) -> None:
    root = write_params(kind="table", path="data/table.csv", **COLUMNS)
    folders(root)
    head = "image,label,patient,split".replace(lacks, "other")
    table(root, [f"raw/benign/{n}.png,benign,p{n},train" for n in range(3)], head)
    text = reads_data()
    assert f"'{lacks}'" in text and "other" in text and "data/table.csv" in text


def test_a_patient_in_two_given_splits(reads_data: Callable[[], str], write_params: Callable[..., Path]) -> None:
    root = write_params(kind="table", path="data/table.csv", **COLUMNS)
    folders(root, 9)
    rows = []
    for name in ("benign", "malignant"):
        for n in range(9):
            split = ("train", "val", "test")[n // 3]
            rows.append(f"raw/{name}/{n}.png,{name},{name}-{n},{split}")
    rows[0] = "raw/benign/0.png,benign,benign-8,train"  # who is in test as well
    table(root, rows)
    text = reads_data()
    assert "patient" in text and "prepare.checks.patient_overlap" in text


# -- what check leaves -------------------------------------------------------------------------------------------------


def _everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_check_writes_no_output(medsweep: Callable[..., Answer], write_params: Callable[..., Path]) -> None:
    root = write_params()
    before = _everything(root)
    code, out, _ = medsweep("check")
    assert code == 0 and "params.yaml is fine" in out
    assert {each for each in _everything(root) - before if not each.startswith(".medsweep/")} == set()
    assert not (root / "reports").exists() and not (root / "data").exists()


def test_check_answers_programs(medsweep: Callable[..., Answer], write_params: Callable[..., Path]) -> None:
    write_params()
    code, out, _ = medsweep("check", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["listed"], found["prepared"], found["patients"], found["page"]) == (24, 24, 12, None)
    assert [each["name"] for each in found["splits"]] == ["train", "val", "test"]


def test_commands_work_from_a_folder_below(
    medsweep: Callable[..., Answer], write_params: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_params(kind="folder")
    folders(root, 10)
    below = root / "data" / "raw" / "benign"
    monkeypatch.chdir(below)
    code, out, err = medsweep("prepare")
    assert code == 0, err
    assert (root / "data" / "prepared" / "train" / "images.npy").is_file()
    assert {path.suffix for path in below.iterdir()} == {".png"}
    assert "reports/data_quality.html" in out


# -- stages out of order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("augment", "data/prepared/train/split.json: does not exist. The stage 'prepare' writes it"),
        ("train", "data/prepared/train/split.json: does not exist. The stage 'prepare' writes it"),
        ("evaluate", "models/trained.json: does not exist. The stage 'train' writes it"),
        ("study", "models/run_log.jsonl: tells of no finished search."),
    ],
)
def test_a_stage_whose_input_is_missing_names_the_stage_that_makes_it(
    command: str, said: str, medsweep: Callable[..., Answer], write_params: Callable[..., Path]
) -> None:
    write_params()
    text = refused(medsweep(command))
    assert said in text and "dvc repro" in text


# -- how it ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "code"), [(StoreError, 2), (SearchError, 3)])
def test_an_error_ends_with_its_own_code(
    kind: Any, code: int, medsweep: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise kind("is [bold]away[/bold].", where="a\nb")

    monkeypatch.setattr(cli, "_open", fail)
    found, _, err = medsweep("history")
    assert (found, err) == (code, "error: a b: is [bold]away[/bold].\n")


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch, medsweep: Callable[..., Answer]) -> None:
    monkeypatch.setattr(cli, "_open", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        medsweep("history")


def test_ctrl_c_ends_with_one_line(write_params: Callable[..., Path]) -> None:
    root = write_params(at("prepare.source.patients", 100_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "medsweep", "prepare"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background, it is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        while not (root / ".medsweep" / "work").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err == "interrupted. What is finished is kept: run the same command again to go on.\n"
    assert not (root / "data" / "prepared").exists()


def test_a_run_id_in_the_environment_is_left_behind(
    medsweep: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    medsweep("--help")
    assert "MLFLOW_RUN_ID" not in os.environ
