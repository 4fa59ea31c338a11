"""KerasTuner's Hyperband on the common space. Called by bench/against.py: DATA ANSWER SEED MAX_EPOCHS."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import keras
import keras_tuner
from plain_keras import SPACE, answer, auroc, load, network


def main() -> None:
    data, target, seed, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    images, labels, val_images, val_labels = load(data)
    keras.utils.set_random_seed(seed)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        chosen = {name: hp.Choice(name, SPACE[name]) for name in ("depth", "width", "dropout", "activation", "pooling")}
        chosen["batch_norm"] = hp.Boolean("batch_norm")
        chosen["optimizer"] = hp.Choice("optimizer", list(SPACE["optimizer"]))
        for name, (low, high) in SPACE["optimizer"].items():
            with hp.conditional_scope("optimizer", [name]):
                rate = hp.Float(f"{name}_rate", low, high, sampling="log")
                if chosen["optimizer"] == name:
                    chosen["learning_rate"] = rate
        return network(images.shape[1:], chosen)

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.Hyperband(
            build,
            objective=keras_tuner.Objective("val_auc", "max"),
            max_epochs=epochs,
            factor=3,
            seed=seed,
            directory=folder,
            project_name="search",
        )
        tuner.search(
            images,
            labels,
            validation_data=(val_images, val_labels),
            batch_size=SPACE["batch_size"],
            verbose=0,
        )
        best = tuner.get_best_models(1)[0]
        answer(target, auroc(best, val_images, val_labels), len(tuner.oracle.trials))


if __name__ == "__main__":
    main()
