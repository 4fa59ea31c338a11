"""Labels that a simple model disagrees with: a list to look through, never a verdict.

Confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021): a model predicts every image from patients that it was
not fitted on. Where it is at least as sure of another class as it is, on average, of the images that carry that class,
the label is suspicious. Of what such a list holds, about half is really wrong: the rest are difficult images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsweep.imaging.fingerprint import SIDE
from medsweep.prepare.checks import prediction
from medsweep.prepare.checks.finding import Examined, Finding, counted

_SMALL = 16
_MOST_FITTED = 10_000
_BLOCK = 2048
_LISTED = 200
_FEWEST = 40


def label_noise(examined: Examined) -> list[Finding]:
    """Images whose label a cross-validated model finds wrong, the most suspicious first."""
    table = examined.table
    wanted = prediction.targets(table, examined.class_names)
    if len(table) < _FEWEST or not wanted:
        return [Finding("label_noise", "Too few images to look for wrong labels.", 0, alarm=False)]
    given, probabilities = _predicted(examined, wanted)
    measured = float(
        np.mean(
            [
                prediction.auroc(probabilities[:, index], given[:, index])
                for index in range(given.shape[1])
                if 0 < given[:, index].sum() < len(given)
            ]
        )
    )
    certainty, suspicious, order = _ranked(given, probabilities, several=table.labels.ndim == 2)
    order = order[suspicious[order]]
    sure = order[certainty[order] >= examined.settings.label_noise_certainty]
    figures = {
        "auroc_of_the_model": round(measured, 4),
        "suspicious": len(order),
        "very_suspicious": len(sure),
        "share": round(len(order) / len(table), 4),
    }
    listed = order[:_LISTED]
    details = tuple(
        f"{_names(examined, row)}; the model is {certainty[row]:.0%} sure of another label" for row in listed.tolist()
    )
    model = f"a simple model (AUROC {measured:.2f} on patients it was not fitted on)"
    reliable = measured >= examined.settings.label_noise_auroc
    if not len(sure) or not reliable:
        message = (
            f"{counted(len(order), 'label')} of {len(table)} {'is' if len(order) == 1 else 'are'} not what {model} "
            f"expects{'' if reliable else ': too weak to tell wrong labels from difficult images'}."
        )
        return [Finding("label_noise", message, 0, listed, alarm=False, figures=figures, details=details)]
    verb = "looks" if len(sure) == 1 else "look"
    message = (
        f"{counted(len(sure), 'label')} of {len(table)} {verb} wrong to {model}, which is at least "
        f"{examined.settings.label_noise_certainty:.0%} sure of another; {len(order)} are suspicious in all. Look at "
        "them: about half of such labels are right."
    )
    return [Finding("label_noise", message, len(sure), listed, figures=figures, details=details)]


def _names(examined: Examined, row: int) -> str:
    label = examined.table.labels[row]
    if examined.table.labels.ndim == 1:
        return f"labelled {examined.class_names[int(label)]}"
    told = [name for name, value in zip(examined.class_names, label.tolist(), strict=True) if value]
    return f"labelled {', '.join(told) or 'with nothing'}"


def _ranked(
    given: NDArray[np.bool_], probabilities: NDArray[np.float64], *, several: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """How sure the model is of another label, which labels are suspicious, and the images in the order of suspicion.

    Args:
        given: (N, K) which labels each image carries; where classes exclude each other, all K of them.
        probabilities: (N, K) out of fold.
        several: whether an image may carry several labels.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        usual = (probabilities * given).sum(axis=0) / given.sum(axis=0)
        usual_absent = ((1 - probabilities) * ~given).sum(axis=0) / (~given).sum(axis=0)
    if several:
        against = np.where(given, 1 - probabilities, probabilities)
        sure = np.where(given, 1 - probabilities >= usual_absent, probabilities >= usual) & (against > 0.5)
        certainty = np.where(sure, against, 0.0).max(axis=1)
        suspicious = sure.any(axis=1)
        order = np.argsort(-against.max(axis=1), kind="stable")
        return certainty, suspicious, order
    other = np.where(given, -1.0, probabilities)
    of_given = (probabilities * given).sum(axis=1)
    suspicious = ((other >= usual) & (other > of_given[:, None])).any(axis=1)
    order = np.argsort(of_given - other.max(axis=1), kind="stable")
    return 1 - of_given, suspicious, order


def _predicted(
    examined: Examined, wanted: dict[str, NDArray[np.bool_]]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(N, K) the labels given, and their probabilities by logistic regression on other folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    table = examined.table
    folds, _ = prediction.folds_of(table)
    several = table.labels.ndim == 2
    fitted = np.zeros(len(table), dtype=np.bool_)
    fitted[prediction.sample(table, _MOST_FITTED)] = True
    features = _features(examined, np.flatnonzero(fitted))
    place = np.cumsum(fitted) - 1
    columns = list(wanted.values()) if several else [table.labels == k for k in range(len(examined.class_names))]
    given = np.column_stack(columns)
    probabilities = np.tile(given.mean(axis=0), (len(table), 1))
    for fold in range(prediction.FOLDS):
        training = np.flatnonzero(fitted & (folds != fold))
        tested = np.flatnonzero(folds == fold)
        models = []
        for labels in [given[training, k] for k in range(given.shape[1])] if several else [table.labels[training]]:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
            if len(np.unique(labels)) > 1:
                with threadpool_limits(1):
                    models.append(model.fit(features[place[training]], labels))
            else:
                models.append(None)
        for start in range(0, len(tested), _BLOCK):
            rows = tested[start : start + _BLOCK]
            block = _features(examined, rows)
            for k, model in enumerate(models):
                if model is None:
                    continue
                said = model.predict_proba(block)
                if several:
                    probabilities[rows, k] = said[:, 1]
                else:
                    probabilities[rows] = 0.0
                    probabilities[np.ix_(rows, model.classes_)] = said
    return given, probabilities


def _features(examined: Examined, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, 256 + 11) the thumbnail at 16×16, and the numbers that describe the prepared image."""
    table = examined.table
    small = np.empty((len(rows), _SMALL, _SMALL), dtype=np.float32)
    start = 0
    for block in examined.thumbnails.blocks(table.rows[rows]):
        means = block.reshape(len(block), _SMALL, SIDE // _SMALL, _SMALL, SIDE // _SMALL)
        small[start : start + len(block)] = means.mean(axis=(2, 4), dtype=np.float32)
        start += len(block)
    return np.concatenate([small.reshape(len(rows), -1), table.traits[rows]], axis=1)
