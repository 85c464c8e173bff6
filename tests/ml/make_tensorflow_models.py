"""Makes small models with TensorFlow in the folder that is named; run by a test in a process of its own."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import tensorflow as tf
import tf_keras
from tf_keras import layers


def make(seed: int = 1) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(seed)
    features, images = layers.Input((2,), name="features"), layers.Input((63, 63, 3), name="triplets")
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, strides=4, activation="relu")(images))
    mixed = layers.Concatenate()([layers.Dense(3, activation="relu")(features), seen])
    return tf_keras.Model([features, images], layers.Dense(1, activation="sigmoid", name="score")(mixed))


def main(folder: Path) -> None:
    make(1).save(folder / "keras.v1.h5")
    tf.saved_model.save(make(2), str(folder / "folder.v1"))
    with tarfile.open(folder / "tarred.v1.tar.gz", "w:gz") as tar:
        tar.add(folder / "folder.v1", "best_model")
    two = layers.Input((2,), name="features")
    tf.saved_model.save(
        tf_keras.Model(two, {"a": layers.Dense(1)(two), "b": layers.Dense(1)(two)}), str(folder / "twofold.v1")
    )
    # ends the process that loads it: one started with ``python -m``, as conversions are and this script is not
    fatal = layers.Lambda(lambda x: __import__("os")._exit(9) if __import__("__main__").__spec__ else x)
    single = layers.Input((2,), name="features")
    tf_keras.Model(single, layers.Dense(1)(fatal(single))).save(folder / "fatal.v1.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
