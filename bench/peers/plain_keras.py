"""What the peers share: the data, the network of the common space in plain Keras, and what a run answers.

Nothing here knows medsweep: the scripts beside this file run in environments without it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

SPACE: dict[str, Any] = json.loads((Path(__file__).parent / "space.json").read_text())


def load(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and validation images, standardized by the training images, and their labels (0 or 1)."""
    with np.load(path) as data:
        train, val = (data[f"{name}_images"].astype(np.float32) for name in ("train", "val"))
        mean, deviation = train.mean(), train.std()
        return (train - mean) / deviation, data["train_labels"], (val - mean) / deviation, data["val_labels"]


def network(shape: tuple[int, ...], chosen: dict[str, Any]) -> Any:
    """Compiled: two convolutions a stage, global pooling, dropout, one sigmoid."""
    import keras
    from keras import layers

    entry = features = keras.Input(shape)
    for stage in range(chosen["depth"]):
        if stage:
            features = (layers.MaxPooling2D if chosen["pooling"] == "max" else layers.AveragePooling2D)(2)(features)
        for _ in range(2):
            channels = chosen["width"] * 2**stage
            features = layers.Conv2D(channels, 3, padding="same", use_bias=not chosen["batch_norm"])(features)
            if chosen["batch_norm"]:
                features = layers.BatchNormalization(momentum=0.9)(features)
            features = layers.Activation(chosen["activation"])(features)
    whole = layers.GlobalMaxPooling2D if chosen["pooling"] == "max" else layers.GlobalAveragePooling2D
    features = layers.Dropout(chosen["dropout"])(whole()(features))
    model = keras.Model(entry, layers.Dense(1, activation="sigmoid")(features))
    rate = chosen["learning_rate"]
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(rate),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate),
        "nesterov": lambda: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    }[chosen["optimizer"]]()
    model.compile(optimizer, loss="binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")], jit_compile=False)
    return model


def auroc(model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Exact, unlike Keras's metric."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, np.asarray(model.predict(images, batch_size=256, verbose=0)).ravel()))


def answer(path: Path, quality: float, trials: int) -> None:
    """What the driver reads: the best validation AUROC, and all CPU seconds of this process until now."""
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    path.write_text(json.dumps({"quality": quality, "cpu_seconds": seconds, "trials": trials}))
