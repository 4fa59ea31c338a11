"""The schema of params.yaml: every knob, its type and its range. Extra keys are refused and there are no defaults."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from medsweep.errors import ParamsError

Scalar = bool | int | float | str
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[int, Field(ge=1)]
Auroc = Annotated[float, Field(gt=0.5, le=1.0)]


def _off_is_a_word(value: Any) -> Any:
    # YAML 1.1 readers and writers take an unquoted `off` for False.
    return "off" if value is False else value


Severity = Annotated[Literal["error", "warn", "off"], BeforeValidator(_off_is_a_word)]


class Section(BaseModel):
    """A part of params.yaml: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Dask(Section):
    """An existing Dask cluster, and where images are left for workers that do not see the project's folders."""

    scheduler_address: str | None
    data_url: str | None


class Runtime(Section):
    """How the work is done; nothing here may change a result."""

    workers: Positive
    executor: Literal["local", "dask"]
    dask: Dask


class Source(BaseModel):
    """Where the images come from. The keys beyond these two belong to the kind of source, which checks them."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    kind: str
    path: str

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that belong to the kind of source."""
        return dict(self.model_extra or {})


# Keys of `prepare.source` that name files and folders.
_PLACES = ("path", "file", "images", "labels")
_RAW = ("data", "raw")


def without_names(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source's keys as logs, reports and MLflow may have them: a file or folder may be named after a person, so of
    each only that it lies in data/raw is said. `data/raw/images` becomes `data/raw/…`, any other place `…`."""
    return {
        key: _shown_place(value) if key in _PLACES and isinstance(value, str) else value
        for key, value in source.items()
    }


def _shown_place(name: str) -> str:
    parts = PurePosixPath(name).parts
    if parts[:2] != _RAW or ".." in parts:
        return "…"
    return "data/raw" if len(parts) == 2 else "data/raw/…"


class Image(Section):
    """The prepared arrays' size; `fit` says what gives way when the aspect ratio differs."""

    height: Annotated[int, Field(ge=16, le=512)]
    width: Annotated[int, Field(ge=16, le=512)]
    channels: Literal[1, 3]
    fit: Literal["pad", "crop", "stretch"]


class Limits(Section):
    """What one file may ask for; a file that asks for more is refused with a reason.

    All but `seconds` are checked from headers before anything is decoded. `memory_mb` also bounds what a reading
    process may take besides what it needs at its start (where the system can bound it: not on Windows).
    """

    megapixels: Annotated[float, Field(gt=0.0, le=170.0)]
    file_mb: Annotated[int, Field(ge=1, le=8192)]
    memory_mb: Annotated[int, Field(ge=64, le=65536)]
    seconds: Annotated[float, Field(ge=1.0, le=3600.0)]

    @property
    def pixels(self) -> int:
        """The most pixels of an image (of a frame)."""
        return int(self.megapixels * 1_000_000)

    @property
    def file_bytes(self) -> int:
        return self.file_mb << 20

    @property
    def memory_bytes(self) -> int:
        return self.memory_mb << 20


class GivenWindow(Section):
    """A window in modality units (Hounsfield units in CT)."""

    center: float
    width: Annotated[float, Field(gt=0.0)]


Window = Annotated[
    Annotated[Literal["file", "full_range", "min_max", "lung", "bone", "soft_tissue", "brain"], Tag("<name>")]
    | Annotated[GivenWindow, Tag("<window>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<window>"),
]


class Clahe(Section):
    """Contrast-limited adaptive histogram equalisation: clip limit, and tiles along each side."""

    clip_limit: Annotated[float, Field(gt=0.0)]
    tiles: Annotated[int, Field(ge=1, le=64)]


class Intensity(Section):
    """How stored values become intensities.

    `window` is for DICOM files alone and comes first: the file's own VOI LUT or window, a preset, or one in modality
    units.
    `full_range` divides by the true bit depth's largest value; `percentile_clip` spreads the given percentiles of
    each image over the full range; `clahe` equalises after the full-range scaling.
    """

    window: Window
    method: Literal["full_range", "percentile_clip", "clahe"]
    percentiles: tuple[float, float]
    clahe: Clahe
    bits: Literal[8, 16]

    @model_validator(mode="before")
    @classmethod
    def _list_is_a_pair(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("percentiles"), list):
            return {**value, "percentiles": tuple(value["percentiles"])}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Intensity:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("percentiles must be two rising numbers from 0 to 100")
        return self


class Split(Section):
    """The shares carved out where the source gives no split."""

    val: Annotated[float, Field(gt=0.0, lt=1.0)]
    test: Annotated[float, Field(gt=0.0, lt=1.0)]
    seed: Seed

    @model_validator(mode="after")
    def _leaves_training(self) -> Split:
        if self.val + self.test >= 0.9:
            raise ValueError("val and test together must leave more than a tenth for training")
        return self


class Checks(Section):
    """What to do when a check of the data finds something."""

    patient_overlap: Severity
    exact_duplicates: Severity
    validation_duplicates: Severity
    near_duplicates: Severity
    near_duplicate_similarity: Annotated[float, Field(gt=0.5, le=1.0)]
    label_conflicts: Severity
    missing_class: Severity
    unreadable: Severity
    constant_images: Severity
    unknown_labels: Severity
    few_images: Severity
    shortcuts: Severity
    shortcut_auroc: Auroc
    shortcut_picture_auroc: Auroc
    shortcuts_accepted: list[str]
    label_noise: Severity
    label_noise_certainty: Annotated[float, Field(gt=0.5, lt=1.0)]
    label_noise_auroc: Auroc
    shift: Severity
    shift_auroc: Auroc
    shift_columns: list[str]
    identifying_tags: Severity
    burned_in_text: Severity
    min_images_per_class: Positive


class Prepare(Section):
    """Stage 1."""

    source: Source
    image: Image
    intensity: Intensity
    limits: Limits
    split: Split
    checks: Checks


class Augment(Section):
    """Stage 2. The transforms' settings are checked against their table in `imaging.transforms`."""

    seed: Seed
    views: Annotated[int, Field(ge=1, le=64)]
    render_limit_mb: Annotated[int, Field(ge=0)]
    policies: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], dict[str, dict[str, Any]]]

    @model_validator(mode="after")
    def _none_is_taken(self) -> Augment:
        if "none" in self.policies:
            raise ValueError("'none' is the name for no augmentation; call the policy something else")
        return self


class Range(Section):
    """A range to search: whole numbers when both ends are whole, evenly on a logarithmic scale when `log` is true."""

    low: int | float
    high: int | float
    log: bool

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range must lie above 0")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


def _form_of_setting(value: Any) -> str:
    if isinstance(value, Range | Mapping):
        return "<range>"
    return "<choices>" if isinstance(value, list) else "<value>"


Choices = Annotated[list[Scalar], Field(min_length=1)]
Setting = Annotated[
    Annotated[Range, Tag("<range>")] | Annotated[Choices, Tag("<choices>")] | Annotated[Scalar, Tag("<value>")],
    Discriminator(_form_of_setting),
]
Variants = Annotated[dict[str, dict[str, Setting]], Field(min_length=1)]


class Space(Section):
    """What a trial may be. A named part (an optimizer, say) has a mapping of its own settings.

    Each setting is one value (fixed), a list (choices) or {low, high, log} (a range).
    """

    optimizer: Variants
    loss: Variants
    backbone: Variants
    schedule: Variants
    activation: Choices
    pooling: Choices
    batch_size: Setting
    weight_decay: Setting
    class_weights: Annotated[list[Literal["none", "balanced"]], Field(min_length=1)]
    standardize: Choices
    policy: Choices
    views: Setting


class CrossValidation(Section):
    """Folds of patients over training and validation, dealt anew for each repeat."""

    folds: Annotated[int, Field(ge=2, le=20)]
    repeats: Annotated[int, Field(ge=1, le=20)]


class Search(Section):
    """How the space is searched.

    A generation of trials is asked at once; at each rung (min_epochs, then reduction_factor times as many, up to
    max_epochs) the better 1/reduction_factor goes on. The search ends after `trials`, after the generation in which
    the trials' CPU time reached `max_minutes`, or after `patience` trials without an improvement.
    """

    trials: Positive
    max_minutes: Annotated[float, Field(gt=0.0)] | None
    patience: Positive | None
    min_improvement: Annotated[float, Field(ge=0.0)]
    generation: Positive
    presets: list[str]
    objective: Literal["val_auroc", "val_log_loss", "val_average_precision"]
    cost: Literal["none", "parameters", "multiply_adds", "latency_ms"]
    validation: Literal["holdout", "cross_validation", "auto"]
    cross_validation: CrossValidation
    choose: Literal["best", "one_standard_error"]
    resamples: Annotated[int, Field(ge=50, le=10_000)]
    min_epochs: Positive
    max_epochs: Positive
    reduction_factor: Annotated[int, Field(ge=2, le=10)]
    startup_trials: Positive
    keep_checkpoints: Positive

    @model_validator(mode="after")
    def _epochs_rise(self) -> Search:
        if self.min_epochs > self.max_epochs:
            raise ValueError("min_epochs must not exceed max_epochs")
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials are compared, rising; the last one is max_epochs."""
        found = []
        epoch = self.min_epochs
        while epoch < self.max_epochs:
            found.append(epoch)
            epoch *= self.reduction_factor
        return (*found, self.max_epochs)


class OperatingPoints(Section):
    """Further ways to decide, each fitted on validation: what an evaluation then shows on the test split."""

    youden: bool
    sensitivity: list[Rate]
    specificity: list[Rate]
    cost_ratio: list[Annotated[float, Field(gt=0.0, le=1e6)]]


class Final(Section):
    """What becomes of the search's trials: the model."""

    kind: Literal["single", "ensemble", "auto"]
    members: Annotated[int, Field(ge=1, le=20)]
    resamples: Annotated[int, Field(ge=20, le=2000)]
    seeds: Annotated[int, Field(ge=1, le=20)]
    refit: Literal["auto", "always"]


class WarmStart(Section):
    """A trained model whose weights networks begin with; the SHA-256 makes another file another parameter."""

    path: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Train(Section):
    """Stage 3."""

    seed: Seed
    calibration: Literal["temperature", "none"]
    threshold: Literal["youden", "accuracy", "f1", "half"]
    operating_points: OperatingPoints
    search: Search
    final: Final
    warm_start: WarmStart | None
    space: Space


class Bootstrap(Section):
    """Intervals by resampling patients: bias-corrected and accelerated, or the resamples' own percentiles."""

    method: Literal["bca", "percentile"]
    samples: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    seed: Seed


class Subgroups(Section):
    """Which subgroups of the test images are looked at.

    `bands` cuts a column of numbers at the given rising values; one that it does not name is cut at its quartiles.
    """

    columns: Literal["all"] | list[str]
    min_patients: Positive
    bands: dict[str, Annotated[list[float], Field(min_length=1)]]

    @model_validator(mode="after")
    def _rising(self) -> Subgroups:
        for name, cuts in self.bands.items():
            if any(b <= a for a, b in pairwise(cuts)):
                raise ValueError(f"the bands of '{name}' must be rising numbers")
        return self


class Power(Section):
    """What is asked of a test set of this size; `correlation` is that of two models' figures on the same images."""

    power: Annotated[float, Field(gt=0.5, lt=1.0)]
    correlation: Annotated[float, Field(ge=0.0, lt=1.0)]
    difference: Annotated[float, Field(gt=0.0, lt=1.0)]


ExplanationMethod = Literal["grad_cam", "grad_cam_plus_plus", "integrated_gradients", "occlusion", "smooth_grad"]


class Explanations(Section):
    """The part `explanations`: which methods, on how many images, and how closely they look."""

    methods: Annotated[list[ExplanationMethod], Field(min_length=1)]
    cases: Annotated[int, Field(ge=1, le=20)]
    images: Annotated[int, Field(ge=2, le=1000)]
    draws: Annotated[int, Field(ge=1, le=20)]
    curve_steps: Annotated[int, Field(ge=4, le=256)]
    steps: Annotated[int, Field(ge=4, le=1000)]
    samples: Annotated[int, Field(ge=2, le=1000)]
    noise: Annotated[float, Field(gt=0.0, le=1.0)]
    patch: Annotated[float, Field(gt=0.0, le=0.5)]
    seed: Seed

    @model_validator(mode="after")
    def _named_once(self) -> Explanations:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("methods must name each method once")
        return self


class DecisionCurve(Section):
    """The threshold probabilities between which net benefit is looked at."""

    low: Annotated[float, Field(ge=0.01, le=0.99)]
    high: Annotated[float, Field(ge=0.01, le=0.99)]

    @model_validator(mode="after")
    def _ordered(self) -> DecisionCurve:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        return self


class Conformal(Section):
    """Prediction sets: the share of images whose set shall hold the true class."""

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)]


class Abstention(Section):
    """The shares of validation images that are answered, each a cut that is then tried on the test split."""

    coverages: Annotated[list[Rate], Field(min_length=1)]


class DrawnImages(Section):
    """How many test images a part works on that shows each one many times, and which."""

    images: Annotated[int, Field(ge=10, le=1_000_000)]
    seed: Seed


class Evaluate(Section):
    """Stage 4."""

    bootstrap: Bootstrap
    subgroups: Subgroups
    power: Power
    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    worst_mistakes: Annotated[int, Field(ge=0, le=200)]
    parts: list[str]
    explanations: Explanations
    decision_curve: DecisionCurve
    conformal: Conformal
    abstention: Abstention
    robustness: DrawnImages
    out_of_distribution: DrawnImages


class Params(Section):
    """The whole of params.yaml."""

    experiment: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")]
    runtime: Runtime
    prepare: Prepare
    augment: Augment
    train: Train
    evaluate: Evaluate

    @model_validator(mode="after")
    def _views_exist(self) -> Params:
        known = {"none", *self.augment.policies}
        unknown = [str(name) for name in self.train.space.policy if name not in known]
        if unknown:
            raise ValueError(
                f"train.space.policy names '{unknown[0]}', which augment.policies lacks; "
                f"choose from: {', '.join(sorted(known))}"
            )
        return self


def load(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: the file is missing, is no YAML, or a key is unknown, missing, or of the wrong type or range;
            the message names the key's dotted path.
    """
    return parse(load_yaml(path), where=path.name)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, read by YAML 1.2 as DVC reads it (so 1e-5 is a number)."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with path.open(encoding="utf-8") as stream:
            found = YAML(typ="safe", pure=True).load(stream)
    except FileNotFoundError:
        raise ParamsError("does not exist.", where=path.name, fix="Every project has one at its root.") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"is not valid YAML: {' '.join(str(error).split())}.", where=path.name) from None
    if not isinstance(found, dict):
        raise ParamsError("must be a mapping of keys to values.", where=path.name)
    return found


def parse(found: Mapping[str, Any], *, where: str) -> Params:
    """Check a mapping as `load` does."""
    try:
        return Params.model_validate(dict(found))
    except ValidationError as error:
        raise explain(error, where=where) from None


def explain(error: ValidationError, *, where: str, prefix: str = "") -> ParamsError:
    """One line for what pydantic found, naming each key by its dotted path (at most three of them)."""
    lines = []
    for each in error.errors(include_url=False):
        # Pydantic adds the names of union members to the path; they are no keys of the file.
        steps = [str(step) for step in each["loc"] if not _is_union_member(step)]
        path = ".".join([prefix, *steps] if prefix else steps)
        line = {
            "extra_forbidden": f"{path}: unknown key",
            "missing": f"{path}: is missing",
        }.get(each["type"], f"{path + ': ' if path else ''}{_plain(each)}")
        if line not in lines:
            lines.append(line)
    more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
    return ParamsError(f"{'; '.join(lines[:3])}{more}.", where=where)


def _is_union_member(step: int | str) -> bool:
    return isinstance(step, str) and (step.startswith("<") or "[" in step or step in {"bool", "int", "float", "str"})


def _plain(each: Any) -> str:
    message = str(each["msg"]).removeprefix("Value error, ")
    given = each.get("input")
    shown = f", not {given!r}" if isinstance(given, bool | int | float | str) else ""
    return f"{message[:1].lower()}{message[1:]}{shown}"


def dotted(section: BaseModel | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A section's values by their dotted names; lists stay values."""
    values: Mapping[str, Any] = section.model_dump() if isinstance(section, BaseModel) else section
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            found.update(dotted(value, name))
        else:
            found[name] = value
    return found
