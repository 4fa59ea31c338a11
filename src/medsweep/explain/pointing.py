"""How well maps point at a known region: for synthetic images, whose lesion masks are known."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


TOLERANCE = 0.03
"""How far beside a mask still hits, as a share of the longer side: the 15 pixels of Zhang et al., whose images are some
500 wide."""


def hits(maps: Floats, masks: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) the pointing game (Zhang et al., Top-Down Neural Attention by Excitation Backprop, 2018): whether a map's
    highest value lies in the mask, or within `TOLERANCE` of it.

    A map without any positive value misses.

    Args:
        maps: (n, H, W).
        masks: (n, H, W), not 0 inside.
    """
    flat = maps.reshape(len(maps), -1)
    rows, columns = np.unravel_index(flat.argmax(axis=1), maps.shape[1:])
    inside = near(masks)[np.arange(len(maps)), rows, columns]
    return np.asarray(inside & (flat.max(axis=1) > 0))


def near(masks: NDArray[Any]) -> NDArray[np.bool_]:
    """(n, H, W) what hits: the masks, grown by the tolerance."""
    reach = TOLERANCE * max(masks.shape[1:])
    away = [cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for mask in masks]
    found = [distance <= reach if mask.any() else mask > 0 for distance, mask in zip(away, masks, strict=True)]
    return np.asarray(found, dtype=np.bool_).reshape(masks.shape)


def energy_inside(maps: Floats, masks: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) the share of a map's positive values that lies in the mask: the energy-based pointing game (Wang et al.,
    Score-CAM, 2020), 0 to 1; 0 where there is none. By chance it is the mask's share of the image."""
    positive = np.maximum(maps, 0.0).astype(np.float64)
    total = positive.sum(axis=(1, 2))
    inside = (positive * (np.asarray(masks) > 0)).sum(axis=(1, 2))
    return np.asarray(np.divide(inside, total, out=np.zeros(len(maps)), where=total > 0))


def overlap(maps: Floats, masks: NDArray[Any]) -> NDArray[np.float64]:
    """(n,) IoU of the mask with as many of the highest pixels as the mask has, 0 to 1.

    With the mask's own size there is no threshold to choose (Arras et al., CLEVR-XAI, 2022, count this way too).
    """
    found = np.zeros(len(maps))
    for index, (each, mask) in enumerate(zip(maps, np.asarray(masks) > 0, strict=True)):
        size = int(mask.sum())
        chosen = np.zeros(mask.size, dtype=np.bool_)
        chosen[np.argsort(-each.ravel(), kind="stable")[:size]] = True
        both = int((chosen & mask.ravel()).sum())
        found[index] = both / (2 * size - both) if size else 0.0
    return found
