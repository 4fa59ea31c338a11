"""One trial: the same weights from any worker, with any interruption; and reasons instead of exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsweep.artifacts.augmented import AugmentedViews
from medsweep.artifacts.prepared import PreparedSplit
from medsweep.artifacts.trial import Named, TrialConfig
from medsweep.errors import ArtifactError, SearchError
from medsweep.imaging.views import ViewRenderer
from medsweep.params import Params
from medsweep.train import network as module
from medsweep.train.examples import TrainingData
from medsweep.train.executor import Workers, local_workers
from medsweep.train.fit import FitAnswer, FitTask, finished_network, fit, prepare_worker
from medsweep.train.network import class_weights

PLAIN = {"depth": 1, "width": 3, "batch_norm": True, "dropout": 0.3}
EPOCHS = 4


def trial(number: int = 0, **changed: Any) -> TrialConfig:
    settings: dict[str, Any] = {
        "optimizer": Named("adam", {"learning_rate": 0.01}),
        "loss": Named("categorical_crossentropy", {"label_smoothing": 0.1}),
        "backbone": Named("plain", PLAIN),
        "schedule": Named("cosine", {"floor": 0.02}),
        "activation": "relu",
        "pooling": "average",
        "batch_size": 5,
        "weight_decay": 0.01,
        "class_weights": "balanced",
        "standardize": "dataset",
        "policy": "shift",
        "views": 2,
    }
    return TrialConfig(number=number, seed=100 + number, **(settings | changed))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit")


@pytest.fixture(scope="module")
def data(root: Path, small_params: Callable[..., Params], write_data: Callable[..., PreparedSplit]) -> TrainingData:
    train = write_data(root, small_params(), n=24)
    inside = root / "data"
    return TrainingData(inside / "prepared" / "train", inside / "prepared" / "val", inside / "augmented", train.digest)


def task(
    config: TrialConfig,
    data: TrainingData,
    folder: Path,
    *,
    until: int = EPOCHS,
    start: Path | None = None,
    name: str = "end",
) -> FitTask:
    return FitTask(config, data, EPOCHS, until, start, folder / f"{name}-{config.number}.npz", measure=False)


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as saved:
        return {name: saved[name] for name in saved.files}


def assert_same_state(first: Path, second: Path) -> None:
    a, b = arrays(first), arrays(second)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


# -- in worker processes, as a search uses them ------------------------------------------------------------------------

CONTINUED = [
    trial(0),
    trial(1, optimizer=Named("averaged_sgd", {"learning_rate": 0.05, "average_from": 0.25})),
    trial(2, optimizer=Named("gradient_descent", {"learning_rate": 0.2}), policy="none", views=0),
]


@pytest.fixture(scope="module")
def warm() -> Iterator[Workers]:
    with local_workers(1, prepare_worker) as workers:
        yield workers


@pytest.fixture(scope="module")
def other() -> Iterator[Workers]:
    with local_workers(1, prepare_worker) as workers:
        yield workers


def answered(workers: Workers, *tasks: FitTask) -> list[FitAnswer]:
    """In the order of the tasks, one after the other in one process."""
    found = [workers.run(fit, each) for each in tasks]
    assert all(isinstance(each, FitAnswer) and each.error is None for each in found), found
    return found  # type: ignore[return-value]


def test_epochs_in_two_processes_equal_those_in_one_bit_by_bit(
    warm: Workers, other: Workers, data: TrainingData, tmp_path: Path
) -> None:
    """Dropout, batch normalization, views, Adam's moments, Polyak's mean and the schedule all go on where they were."""
    whole = answered(warm, *(task(each, data, tmp_path, name="whole") for each in CONTINUED))
    first = answered(warm, *(task(each, data, tmp_path, until=2, name="half") for each in CONTINUED))
    halves = {each.number: tmp_path / f"half-{each.number}.npz" for each in CONTINUED}
    rest = answered(other, *(task(each, data, tmp_path, start=halves[each.number], name="rest") for each in CONTINUED))
    # And in the process that still has the network, after others and from the start again.
    again = answered(warm, *(task(each, data, tmp_path, start=halves[each.number], name="again") for each in CONTINUED))
    fresh = answered(other, *(task(each, data, tmp_path, name="fresh") for each in CONTINUED))
    for index, config in enumerate(CONTINUED):
        number = config.number
        assert [each.number for each in whole[index].epochs] == [1, 2, 3, 4]
        assert whole[index].epochs == first[index].epochs + rest[index].epochs
        assert whole[index].epochs == first[index].epochs + again[index].epochs == fresh[index].epochs
        for name in ("rest", "again", "fresh"):
            assert_same_state(tmp_path / f"whole-{number}.npz", tmp_path / f"{name}-{number}.npz")
        weights = arrays(tmp_path / f"whole-{number}.npz")
        assert any(not np.array_equal(weights[k], v) for k, v in arrays(halves[number]).items())


# -- in this process ---------------------------------------------------------------------------------------------------


def test_seeds_make_trials_differ(data: TrainingData, tmp_path: Path) -> None:
    config = trial(3, optimizer=Named("sgd", {"learning_rate": 0.05}))
    first, second, same = (
        fit(task(each, data, tmp_path, until=1)) for each in (config, replace(config, seed=999), config)
    )
    assert first.epochs == same.epochs != second.epochs


def test_full_batch_is_one_step_along_the_mean_gradient(data: TrainingData, tmp_path: Path) -> None:
    """Without batch normalization; five batches, the last one smaller, with class weights and weight decay."""
    import tensorflow as tf

    rate, decay = 0.5, 0.01
    config = trial(
        4,
        optimizer=Named("gradient_descent", {"learning_rate": rate}),
        schedule=Named("constant"),
        weight_decay=decay,
        backbone=Named("plain", PLAIN | {"batch_norm": False, "dropout": 0.0}),
        policy="none",
        views=0,
    )
    train = PreparedSplit.load(data.train)
    model = module.build_trial_network(config, train)
    targets = np.eye(3, dtype=np.float32)[train.labels]
    weights = class_weights(targets, "balanced", "multiclass")
    smooth = targets * 0.9 + 0.1 / 3
    with tf.GradientTape() as tape:
        found = model(tf.cast(train.images, tf.float32), training=True)
        loss = tf.reduce_mean(-tf.reduce_sum(smooth * tf.math.log(found), axis=1) * weights)
    gradients = tape.gradient(loss, model.trainable_variables)
    expected = [
        (1 - rate * decay) * variable.numpy() - rate * gradient.numpy()
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
    ]
    answer = fit(task(config, data, tmp_path, until=1))
    assert answer.error is None
    assert answer.epochs[0].loss == pytest.approx(float(loss), rel=1e-5)
    state = arrays(tmp_path / "end-4.npz")
    for index, wanted in enumerate(expected):
        np.testing.assert_allclose(state[f"v{index:04d}"], wanted, atol=1e-5)


def test_each_epoch_shows_each_image_once_as_itself_or_as_one_of_its_views(data: TrainingData, tmp_path: Path) -> None:
    config = trial(5, views=2, batch_size=7)
    train = PreparedSplit.load(data.train)
    views = AugmentedViews.load(data.augmented / "shift")
    renderer = ViewRenderer(views, train.images, train.value_range)
    rendered = renderer.rows(np.arange(2 * len(train)))
    seen = np.zeros((3, len(train)), dtype=int)
    orders = []
    with finished_network(task(config, data, tmp_path)) as network:
        for epoch in (1, 2, 3):
            shown = []
            for images, rows, step in network._batches(epoch):
                assert images.shape[:2] == rows.shape and images.dtype == np.uint8
                assert step == len(shown) // 7
                shown += rows.ravel().tolist()
                for image, row in zip(images.reshape(-1, 16, 16, 1), rows.ravel(), strict=True):
                    choices = [rendered[row], rendered[len(train) + row], train.images[row]]
                    matches = [index for index, each in enumerate(choices) if np.array_equal(image, each)]
                    assert matches, "an image was shown that is none of its views"
                    seen[matches[0], row] += 1
            assert sorted(shown) == list(range(len(train)))
            orders.append(shown)
        again = [rows.ravel().tolist() for _, rows, _ in network._batches(2)]
    assert orders[0] != orders[1] != orders[2]
    assert [row for rows in again for row in rows] == orders[1]
    # In three epochs each image was shown as itself and as both its views.
    assert (seen == 1).all()


def test_a_trial_without_a_policy_sees_the_training_images(data: TrainingData, tmp_path: Path) -> None:
    train = PreparedSplit.load(data.train)
    with finished_network(task(trial(6, policy="none", views=0), data, tmp_path)) as network:
        for images, rows, _ in network._batches(1):
            np.testing.assert_array_equal(images, train.images[rows])


def test_a_loss_that_is_not_finite_is_an_answer(data: TrainingData, tmp_path: Path) -> None:
    config = trial(
        7,
        optimizer=Named("sgd", {"learning_rate": 100.0}),
        loss=Named("mean_squared_error"),
        weight_decay=9.0,
        backbone=Named("plain", PLAIN | {"batch_norm": False}),
        schedule=Named("constant"),
    )
    answers = [fit(task(config, data, tmp_path)) for _ in range(2)]
    assert answers[0].error is not None and "not finite in epoch" in answers[0].error
    assert answers[0].error == answers[1].error and answers[0].epochs == answers[1].epochs
    assert not (tmp_path / "end-7.npz").exists()


def test_a_trial_that_raises_is_an_answer_that_names_no_place_or_number_of_this_worker(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> None:
        raise RuntimeError(
            f"Graph execution error:\n at <object 0x7f12ab> {tmp_path}/x.py {{{{node while/body/_12}}}} "
            "[Op:__inference_steps_431]"
        )

    module.forget_networks()
    monkeypatch.setattr(module, "build_trial_network", build)
    answer = fit(task(trial(8), data, tmp_path))
    assert answer.error == "RuntimeError: Graph execution error: at <object …> x.py"
    assert answer.epochs == ()


def test_out_of_memory_is_an_answer(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    for number, error in (
        (9, MemoryError()),
        (10, tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")),
    ):

        def build(*_: Any, error: Exception = error) -> None:
            raise error

        module.forget_networks()
        monkeypatch.setattr(module, "build_trial_network", build)
        assert fit(task(trial(number), data, tmp_path)).error == "out of memory"


def test_what_the_machine_lacks_ends_the_search_and_is_no_fact_about_the_trial(
    data: TrainingData, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    config = trial(11, backbone=Named("tutorial", {"dropout": 0.0}), policy="none", views=0)
    with pytest.raises(SearchError, match="cannot be read or written"):
        fit(task(config, data, tmp_path / "file", until=1))
    gone = replace(data, train=tmp_path / "gone", digest="another")
    with pytest.raises(ArtifactError, match="does not exist"):
        fit(task(config, gone, tmp_path))


def test_class_weights_have_mean_one_and_balance_classes() -> None:
    targets = np.eye(3, dtype=np.float32)[[0] * 6 + [1] * 3 + [2]]
    np.testing.assert_array_equal(class_weights(targets, "none", "multiclass"), np.ones(10))
    weights = class_weights(targets, "balanced", "multiclass")
    assert weights.dtype == np.float32 and weights.mean() == pytest.approx(1)
    totals = [weights[targets[:, k] == 1].sum() for k in range(3)]
    np.testing.assert_allclose(totals, totals[0], rtol=1e-6)


def test_class_weights_of_labels_look_at_both_sides() -> None:
    """Also where every image happens to have exactly one label."""
    targets = np.array([[1, 0]] * 1 + [[0, 1]] * 3, np.float32)
    weights = class_weights(targets, "balanced", "multilabel")
    by_hand = np.array([0.5 / 0.25, *[0.5 / 0.75] * 3])
    np.testing.assert_allclose(weights, by_hand / by_hand.mean(), rtol=1e-6)
    never = class_weights(np.array([[0, 1], [0, 0]], np.float32), "balanced", "multilabel")
    assert np.isfinite(never).all()
