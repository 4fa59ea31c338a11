"""AutoKeras with the recipe that MedMNIST published of it: 20 trials of 20 epochs, its own space.

Called by bench/against.py: DATA ANSWER SEED MAX_EPOCHS; the last is not used, the recipe says it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import autokeras
import keras
from plain_keras import answer, auroc, load

TRIALS, EPOCHS = 20, 20


def main() -> None:
    data, target, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    images, labels, val_images, val_labels = load(data)
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        classifier = autokeras.ImageClassifier(max_trials=TRIALS, seed=seed, directory=folder, overwrite=True)
        classifier.fit(images, labels, epochs=EPOCHS, validation_data=(val_images, val_labels), verbose=0)
        answer(target, auroc(classifier.export_model(), val_images, val_labels), TRIALS)


if __name__ == "__main__":
    main()
