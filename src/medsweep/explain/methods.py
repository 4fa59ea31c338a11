"""TABLE: methods of explanation, and the one way to apply them to a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.errors import unknown_name
from medsweep.explain.grad_cam import grad_cam
from medsweep.explain.grad_cam_plus_plus import grad_cam_plus_plus
from medsweep.explain.integrated_gradients import integrated_gradients
from medsweep.explain.method import Method, Settings
from medsweep.explain.network import Network
from medsweep.explain.occlusion import occlusion
from medsweep.explain.smooth_grad import smooth_grad

Floats = NDArray[np.float32]

METHODS: dict[str, Method] = {
    "grad_cam": Method(
        grad_cam,
        "Grad-CAM",
        False,
        "The last convolution's feature maps, weighted by how much their mean moves the class.",
        "Selvaraju et al., ICCV 2017",
    ),
    "grad_cam_plus_plus": Method(
        grad_cam_plus_plus,
        "Grad-CAM++",
        False,
        "As Grad-CAM, with weights that count the places that speak for the class, so that several are shown alike.",
        "Chattopadhay et al., WACV 2018",
    ),
    "integrated_gradients": Method(
        integrated_gradients,
        "Integrated gradients",
        True,
        "Each pixel's share of the log-odds, by the gradients on the way from mean grey to the image.",
        "Sundararajan et al., ICML 2017",
    ),
    "occlusion": Method(
        occlusion,
        "Occlusion",
        True,
        "By how much the log-odds fall where a patch is covered with mean grey.",
        "Zeiler & Fergus, ECCV 2014",
    ),
    "smooth_grad": Method(
        smooth_grad,
        "SmoothGrad",
        False,
        "How strongly a pixel would move the log-odds: the size of the gradients, averaged over noise.",
        "Smilkov et al., 2017 (arXiv:1706.03825)",
    ),
}


def explain(
    network: Network, method: str, images: NDArray[Any], classes: NDArray[np.int64], settings: Settings
) -> Floats:
    """Where a model saw what speaks for a class.

    An ensemble's logits are the sum of its members' shares: so are its maps, and a member that adds little to the
    log-odds adds little to them. What speaks against the class is cut off afterwards, where a method shows no sign.

    Args:
        network: the model.
        method: a row of `METHODS`.
        images: (n, H, W, C) raw pixels.
        classes: (n,) the class of each image to be explained.
        settings: of the methods.

    Returns:
        (n, H, W) float32; larger speaks for the class, below 0 against it (signed methods alone).

    Raises:
        ParamsError: an unknown method.
    """
    row = METHODS.get(method)
    if row is None:
        raise unknown_name("method", method, list(METHODS), where="evaluate.explanations.methods")
    classes = np.asarray(classes, dtype=np.int64)
    maps = [row.explain(each, each.enter(images), classes, settings) for each in network.members]
    total = np.sum(maps, axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(total if row.signed else np.maximum(total, 0.0), dtype=np.float32)


def scaled(maps: Floats) -> Floats:
    """Each map divided by its largest absolute value; one that is 0 everywhere stays so."""
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0))
