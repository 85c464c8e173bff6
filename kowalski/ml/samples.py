"""Made-up alerts on which models are tried: to check a conversion, or that a model runs at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "features", "triplets"]

Floats = NDArray[np.float32]

SEED = 20181129


def triplets(count: int) -> Floats:
    """Star-like triplets: (count, 63, 63, 3) float32, each stamp of unit norm.

    Every stamp is noise with a point source of random brightness and width near its centre; the template's differs
    from the science stamp's, the difference is what is left.
    """
    random = np.random.default_rng(SEED)
    y, x = np.mgrid[-31:32, -31:32]
    width = random.uniform(0.8, 3.0, (count, 1, 1))
    star = np.exp(-(x**2 + y**2) / (2.0 * width**2))
    science, template = (
        random.uniform(0.0, 50.0, (count, 1, 1)) * star + random.normal(size=(count, 63, 63)) for _ in range(2)
    )
    stacked = np.stack([science, template, science - template], axis=-1)
    normed: Floats = (stacked / np.linalg.norm(stacked, axis=(1, 2), keepdims=True)).astype(np.float32)
    return normed


def features(count: int, number: int) -> Floats:
    """Numbers of the sizes that magnitudes, angles and counts have: (count, number) float32."""
    random = np.random.default_rng(SEED)
    scale = 10.0 ** random.uniform(-1.0, 2.0, (count, number))
    return (scale * random.normal(size=(count, number))).astype(np.float32)
