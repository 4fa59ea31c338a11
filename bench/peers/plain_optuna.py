"""Optuna around Keras as Optuna's own example writes it. Called by bench/against.py: DATA ANSWER SEED MAX_EPOCHS.

One trial after another, each trained to its end on arrays in memory, TPE, no pruning; 20 trials.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import optuna
from plain_keras import SPACE, answer, auroc, load, network

TRIALS = 20


def main() -> None:
    data, target, seed, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    images, labels, val_images, val_labels = load(data)
    keras.utils.set_random_seed(seed)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        chosen = {
            name: trial.suggest_categorical(name, SPACE[name])
            for name in ("depth", "width", "dropout", "activation", "pooling", "batch_norm")
        }
        chosen["optimizer"] = trial.suggest_categorical("optimizer", list(SPACE["optimizer"]))
        low, high = SPACE["optimizer"][chosen["optimizer"]]
        chosen["learning_rate"] = trial.suggest_float(f"{chosen['optimizer']}_rate", low, high, log=True)
        model = network(images.shape[1:], chosen)
        model.fit(
            images,
            labels,
            validation_data=(val_images, val_labels),
            shuffle=True,
            batch_size=SPACE["batch_size"],
            epochs=epochs,
            verbose=0,
        )
        return auroc(model, val_images, val_labels)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=TRIALS)
    answer(target, study.best_value, TRIALS)


if __name__ == "__main__":
    main()
