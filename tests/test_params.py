from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from medsweep import params
from medsweep.errors import ParamsError
from medsweep.params import Params, Range, dotted, load, load_yaml, parse

_DELETE = object()

# Every section of params.yaml that is closed to unknown keys, the smallest at the end.
SECTIONS = [
    "",
    "runtime",
    "prepare",
    "prepare.image",
    "prepare.intensity",
    "prepare.intensity.clahe",
    "prepare.split",
    "prepare.checks",
    "augment",
    "train",
    "train.search",
    "train.space",
    "evaluate",
    "evaluate.bootstrap",
]


def changed(mapping: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the mapping with another value at a dotted path."""
    found = copy.deepcopy(mapping)
    inner = found
    *steps, last = path.split(".")
    for step in steps:
        inner = inner[step]
    if value is _DELETE:
        del inner[last]
    else:
        inner[last] = value
    return found


def refusal(mapping: dict[str, Any]) -> str:
    with pytest.raises(ParamsError) as raised:
        parse(mapping, where="params.yaml")
    text = str(raised.value)
    assert "\n" not in text and text.startswith("params.yaml: ")
    return text.removeprefix("params.yaml: ")


def section_at(mapping: dict[str, Any], path: str) -> dict[str, Any]:
    for step in path.split(".") if path else []:
        mapping = mapping[step]
    return mapping


def test_the_repositorys_own_params_are_accepted(default_params: dict[str, Any]) -> None:
    found = parse(default_params, where="params.yaml")
    assert found.train.search.rungs[0] == found.train.search.min_epochs
    assert found.train.search.rungs[-1] == found.train.search.max_epochs


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_is_refused_everywhere(section: str, default_params: dict[str, Any]) -> None:
    path = f"{section}.wrokers".lstrip(".")
    assert refusal(changed(default_params, path, 1)) == f"{path}: unknown key."


@pytest.mark.parametrize("section", SECTIONS)
def test_no_key_may_be_missing(section: str, default_params: dict[str, Any]) -> None:
    for key in section_at(default_params, section):
        path = f"{section}.{key}".lstrip(".")
        assert refusal(changed(default_params, path, _DELETE)) == f"{path}: is missing."


def test_no_field_has_a_default() -> None:
    found = [each for each in vars(params).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    sections = [each for each in found if each is not BaseModel]
    assert len(sections) >= 15
    for section in sections:
        assert all(field.is_required() for field in section.model_fields.values()), section


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("experiment", 7, "should be a valid string"),
        ("runtime.workers", "2", "should be a valid integer, not '2'"),
        ("runtime.workers", True, "should be a valid integer"),
        ("prepare.image.height", 28.5, "integer"),
        ("prepare.image.channels", "1", "should be 1 or 3"),
        ("prepare.source.path", None, "should be a valid string"),
        ("prepare.intensity.percentiles", [1.0], "percentiles"),
        ("prepare.intensity.clahe", 3, "clahe"),
        ("prepare.checks.few_images", True, "should be 'error', 'warn' or 'off'"),
        ("augment.policies", [], "should be a valid dictionary"),
        ("augment.policies.geometric", "rotate", "should be a valid dictionary"),
        ("train.search.trials", "many", "not 'many'"),
        ("train.search.trials", 5.0, "integer"),
        ("train.space.activation", "relu", "should be a valid list, not 'relu'"),
        ("train.space.optimizer", ["adam"], "should be a valid dictionary"),
        ("train.space.optimizer.adam", 0.1, "should be a valid dictionary"),
        ("train.space.batch_size", None, "batch_size"),
        ("evaluate", None, "evaluate"),
        ("evaluate.bootstrap.confidence", "0.95", "should be a valid number"),
    ],
)
def test_a_wrong_type_is_named_by_its_path(path: str, value: Any, said: str, default_params: dict[str, Any]) -> None:
    text = refusal(changed(default_params, path, value))
    assert text.startswith(path) and said in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("experiment", ""),
        ("experiment", "../up"),
        ("experiment", "a/b"),
        ("experiment", "a:b"),
        ("experiment", ".hidden"),
        ("experiment", "x" * 101),
        ("runtime.workers", 0),
        ("runtime.executor", "slurm"),
        ("prepare.image.height", 15),
        ("prepare.image.width", 513),
        ("prepare.image.channels", 2),
        ("prepare.image.fit", "zoom"),
        ("prepare.intensity.method", "magic"),
        ("prepare.intensity.bits", 12),
        ("prepare.intensity.clahe.clip_limit", 0.0),
        ("prepare.split.val", 0.0),
        ("prepare.split.test", 1.0),
        ("prepare.split.seed", -1),
        ("prepare.split.seed", 2**32),
        ("prepare.checks.unreadable", "ignore"),
        ("prepare.checks.min_images_per_class", 0),
        ("augment.views", 0),
        ("augment.views", 65),
        ("augment.render_limit_mb", -1),
        ("train.threshold", "best"),
        ("train.search.trials", 0),
        ("train.search.objective", "val_loss"),
        ("train.search.reduction_factor", 1),
        ("train.space.class_weights", []),
        ("train.space.policy", []),
        ("train.space.loss", {}),
        ("evaluate.bootstrap.samples", 99),
        ("evaluate.bootstrap.confidence", 1.0),
        ("evaluate.calibration_bins", 1),
        ("evaluate.worst_mistakes", -1),
    ],
)
def test_a_value_out_of_range_is_named_by_its_path(path: str, value: Any, default_params: dict[str, Any]) -> None:
    assert refusal(changed(default_params, path, value)).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("prepare.intensity.percentiles", [99.0, 1.0], "rising"),
        ("prepare.intensity.percentiles", [-1, 100], "rising"),
        ("prepare.split", {"val": 0.5, "test": 0.4, "seed": 7}, "more than a tenth"),
        ("augment.policies", {"none": {}}, "call the policy something else"),
        ("train.search.min_epochs", 1000, "must not exceed max_epochs"),
        ("train.space.weight_decay", {"low": 0.1, "high": 0.1, "log": False}, "low must be less than high"),
        ("train.space.weight_decay", {"low": 0, "high": 0.1, "log": True}, "above 0"),
        ("train.space.weight_decay", {"low": 0.1, "high": 0.2}, "log: is missing"),
        ("train.space.weight_decay", {"low": 0.1, "high": 0.2, "log": False, "step": 1}, "step: unknown key"),
        ("train.space.batch_size", [], "batch_size"),
        ("train.space.optimizer.adam.learning_rate", {"low": 1, "high": 0.5, "log": False}, "learning_rate"),
        ("train.space.policy", ["none", "geometrik"], "'geometrik', which augment.policies lacks; choose from: "),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    path: str, value: Any, said: str, default_params: dict[str, Any]
) -> None:
    text = refusal(changed(default_params, path, value))
    assert said in text
    # What holds between keys is told with the path of what holds them.
    assert path.rpartition(".")[0] in text


@pytest.mark.parametrize("name", ["demo", "Breast US 2026", "a.b-c_d", "7", "x" * 100])
def test_names_of_experiments(name: str, default_params: dict[str, Any]) -> None:
    assert parse(changed(default_params, "experiment", name), where="params.yaml").experiment == name


def test_many_mistakes_are_one_line(default_params: dict[str, Any]) -> None:
    mapping = default_params
    for name in ("a", "b", "c", "d", "e"):
        mapping = changed(mapping, f"train.{name}", 1)
    assert refusal(mapping) == "train.a: unknown key; train.b: unknown key; train.c: unknown key (and 2 more)."


def test_the_sources_own_keys_pass_through(default_params: dict[str, Any]) -> None:
    mapping = changed(default_params, "prepare.source.label_column", "finding")
    assert parse(mapping, where="params.yaml").prepare.source.settings["label_column"] == "finding"


def test_ranges_know_whether_they_are_whole() -> None:
    assert Range(low=1, high=4, log=False).whole
    assert not Range(low=1, high=4.0, log=False).whole


def test_the_rungs_rise_to_the_last_epoch(default_params: dict[str, Any]) -> None:
    def rungs(low: int, high: int, factor: int) -> tuple[int, ...]:
        search = {"min_epochs": low, "max_epochs": high, "reduction_factor": factor}
        mapping = changed(default_params, "train.search", default_params["train"]["search"] | search)
        return parse(mapping, where="params.yaml").train.search.rungs

    assert rungs(3, 12, 2) == (3, 6, 12)
    assert rungs(1, 10, 3) == (1, 3, 9, 10)
    assert rungs(5, 5, 2) == (5,)


def test_params_cannot_be_changed(default_params: dict[str, Any]) -> None:
    found = parse(default_params, where="params.yaml")
    with pytest.raises(ValidationError):
        found.train.search.trials = 99  # type: ignore[misc]


# -- the file ----------------------------------------------------------------------------------------------------------


def write(path: Path, mapping: dict[str, Any]) -> Path:
    from ruamel.yaml import YAML

    with path.open("w") as stream:
        YAML().dump(mapping, stream)
    return path


def test_off_and_small_numbers_mean_what_they_say(default_params: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "params.yaml", default_params)
    text = path.read_text()
    for old, new in (("few_images: warn", "few_images: off"), ("constant_images: warn", "constant_images: False")):
        assert old in text
        text = text.replace(old, new)
    text = text.replace("weight_decay:", "weight_decay: 1e-5\n    ignored:")
    start = text.index("    ignored:")
    # Cut the old value off, however it is laid out.
    end = text.index("    class_weights:", start)
    path.write_text(text[:start] + text[end:])
    found = load(path)
    assert found.prepare.checks.few_images == found.prepare.checks.constant_images == "off"
    assert found.train.space.weight_decay == 1e-5 and isinstance(found.train.space.weight_decay, float)


def test_the_order_of_keys_says_nothing(default_params: dict[str, Any], tmp_path: Path) -> None:
    def backwards(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: backwards(value[key]) for key in reversed(value)}
        return value

    turned = backwards(default_params)
    assert list(turned) != list(default_params)
    there, back = write(tmp_path / "a.yaml", default_params), write(tmp_path / "b.yaml", turned)
    assert load(there) == load(back)
    assert dotted(load(there)) == dotted(load(back))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"a: 1\na: 2\n", "duplicate key"),
        (b"- 1\n", "must be a mapping"),
        (b"", "must be a mapping"),
        (b"\xff\xfe\xfa", "is not valid YAML"),
        (b"a: !!python/object:os.system x\n", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=said) as raised:
        load_yaml(path)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("params.yaml: ")


def test_keys_that_are_no_words_are_refused(default_params: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "params.yaml", default_params)
    path.write_text(path.read_text() + "7: seven\n")
    with pytest.raises(ParamsError, match="7: "):
        load(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"params\.yaml: does not exist"):
        load(tmp_path / "params.yaml")


def test_dotted_names_are_the_paths_in_the_file(default_params: dict[str, Any]) -> None:
    found = dotted(parse(default_params, where="params.yaml"))
    assert found["train.search.trials"] == default_params["train"]["search"]["trials"]
    assert found["train.space.activation"] == default_params["train"]["space"]["activation"]
    assert isinstance(parse(default_params, where="params.yaml"), Params)
    assert dotted({"a": {"b": {"c": 1}}, "d": [1, {"e": 2}]}) == {"a.b.c": 1, "d": [1, {"e": 2}]}
