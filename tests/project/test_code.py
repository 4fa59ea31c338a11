"""A project records the medsweep that its results come from, and takes up another only when it is told to."""

from __future__ import annotations

import pytest

from medsweep.errors import MedsweepError
from medsweep.layout import Layout
from medsweep.params import load_yaml
from medsweep.project import template
from medsweep.project.code import check_code, code_text, installed
from medsweep.project.upgrade import upgrade

SOURCE = {"kind": "folder", "path": "data/raw/images"}


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "params.yaml").write_text(template.params_text("mine", SOURCE, {}))
    (tmp_path / "dvc.yaml").write_text(template.dvc_text())
    (tmp_path / "code.yaml").write_text(code_text(installed()))
    return Layout(tmp_path, tmp_path)


def changed(layout, **values):
    (layout.root / "code.yaml").write_text(code_text({**installed(), **values}))


def test_the_recorded_code_may_run(layout):
    for stage in template.code_of_stages():
        check_code(layout, stage)
    assert set(load_yaml(layout.root / "code.yaml")) == {"version", "prepare", "augment", "train", "evaluate"}


def test_other_code_may_not_and_the_message_says_what_to_do(layout):
    changed(layout, version="0.0.9", train="0" * 64)
    check_code(layout, "prepare")  # its code is the same
    with pytest.raises(MedsweepError, match=r"'train' is run by medsweep 0\.0\.9.*medsweep upgrade"):
        check_code(layout, "train")


def test_a_repository_with_a_source_tree_has_no_record(layout):
    (layout.root / "code.yaml").unlink()
    check_code(layout, "train")
    with pytest.raises(MedsweepError, match=r"code\.yaml"):
        upgrade(layout)


def test_an_upgrade_records_the_code_and_adds_the_keys_that_are_missing(layout):
    changed(layout, version="0.0.9", train="0" * 64)
    text = layout.params.read_text()
    layout.params.write_text("".join(line for line in text.splitlines(keepends=True) if "calibration_bins" not in line))
    done = upgrade(layout)
    assert (done.before, done.stages, done.keys) == ("0.0.9", ("train",), ("evaluate.calibration_bins",))
    assert load_yaml(layout.root / "code.yaml") == installed()
    check_code(layout, "train")
    again = upgrade(layout)
    assert (again.stages, again.keys, again.parts) == ((), (), ())


def test_what_dvc_yaml_lacks_is_added(layout):
    path = layout.root / "dvc.yaml"
    whole = load_yaml(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "trials.csv" not in line and "roc" not in line))
    done = upgrade(layout)
    assert "train.outs: models/trials.csv" in done.parts and "plots: reports/plots/roc" in done.parts
    found = load_yaml(path)
    assert sorted(found["stages"]["train"]["outs"]) == sorted(whole["stages"]["train"]["outs"])
    assert len(found["plots"]) == len(whole["plots"]) and upgrade(layout).parts == ()
