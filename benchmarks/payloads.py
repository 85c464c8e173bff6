#!/usr/bin/env python3
"""What the payloads for SkyPortal cost, in CPU-ms: an object's photometry and a thumbnail.

Measured on clones of real alerts where ``KOWALSKI_SAMPLE_DATA`` and ``KOWALSKI_BENCH`` are set, else on simulated ones.
Each stamp is also drawn by Matplotlib, and the ratio of the medians is printed.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from astropy.visualization import AsymmetricPercentileInterval, ImageNormalize, LogStretch
from matplotlib.figure import Figure

from benchmarks import workload
from kowalski.broker.avro import Decoder
from kowalski.science import stamps, thumbnails
from kowalski.science.photometry import alert_photometry, forced_photometry
from kowalski.skyportal.payloads import PhotometryPut
from kowalski.surveys import get
from kowalski.surveys.base import Alert

ROUNDS = 5


def alerts(n: int) -> list[Alert]:
    """Make ``n`` alerts with their histories and stamps."""
    survey, decoder = get("ZTF"), Decoder()
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(workload.make_alerts(get("ZTF"), Path(folder), n).rglob("*.avro"))
        return [survey.shape(record) for path in paths for record in decoder.records(path.read_bytes())]


def median(action: Callable[[Any], object], inputs: list[Any]) -> float:
    """Give the median CPU-ms of an action over inputs, each the best of `ROUNDS`."""

    def once(value: Any) -> float:
        start = time.process_time()
        action(value)
        return 1000.0 * (time.process_time() - start)

    return statistics.median(min(once(value) for _ in range(ROUNDS)) for value in inputs)


def photometry(alert: Alert) -> list[PhotometryPut]:
    """Make all payloads of an object's photometry, stream by stream."""
    survey = get("ZTF")
    rows = [alert.document["candidate"], *alert.histories["prv_candidates"]]
    curves = [alert_photometry(rows, survey.bands), forced_photometry(alert.histories["fp_hists"], survey.bands)]
    return [
        PhotometryPut.of(part, obj_id=alert.object_id, stream_id=program, instrument_id=1)
        for curve in curves
        for program, part in curve.by_program().items()
    ]


def matplotlib(image: Any) -> bytes:
    """Draw a stamp as Matplotlib does."""
    stretched = ImageNormalize(image, stretch=LogStretch())(image)
    low, high = AsymmetricPercentileInterval(1, 100).get_limits(stretched)
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.imshow(stretched, cmap="bone", origin="lower", vmin=low, vmax=high)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=42, format="png")
    return buffer.getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40, help="alerts (default: 40)")
    found = alerts(parser.parse_args().n)
    images = [
        np.asarray(stamps.read(alert.stamps.science), dtype=np.float64) for alert in found if alert.stamps.science
    ]
    rows = statistics.median(len(alert.histories["prv_candidates"]) + 1 for alert in found)
    print(f"photometry of an object ({rows:g} rows): {median(photometry, found):.2f} CPU-ms")
    ours, theirs = median(thumbnails.render, images), median(matplotlib, images)
    print(f"thumbnail: {ours:.2f} CPU-ms, {theirs / ours:.0f} times cheaper than by Matplotlib ({theirs:.1f} CPU-ms)")


if __name__ == "__main__":
    main()
