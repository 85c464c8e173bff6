"""Time scales: what surveys give in atomic time, as the Julian dates (UTC) of the archive."""

from __future__ import annotations

from bisect import bisect_right

MJD_ZERO = 2_400_000.5
"""Julian date at which the Modified Julian Date begins."""

_LEAPS = (
    (41317.0, 10.0), (41499.0, 11.0), (41683.0, 12.0), (42048.0, 13.0), (42413.0, 14.0), (42778.0, 15.0),
    (43144.0, 16.0), (43509.0, 17.0), (43874.0, 18.0), (44239.0, 19.0), (44786.0, 20.0), (45151.0, 21.0),
    (45516.0, 22.0), (46247.0, 23.0), (47161.0, 24.0), (47892.0, 25.0), (48257.0, 26.0), (48804.0, 27.0),
    (49169.0, 28.0), (49534.0, 29.0), (50083.0, 30.0), (50630.0, 31.0), (51179.0, 32.0), (53736.0, 33.0),
    (54832.0, 34.0), (56109.0, 35.0), (57204.0, 36.0), (57754.0, 37.0),
)  # fmt: skip
"""MJD (UTC) from which TAI is so many seconds ahead of UTC (IERS Bulletin C)."""
_STARTS = [mjd + seconds / 86400.0 for mjd, seconds in _LEAPS]
_OFFSETS = [0.0, *(seconds / 86400.0 for _, seconds in _LEAPS)]


def jd_of_tai(mjd: float) -> float:
    """Turn a Modified Julian Date in TAI into a Julian date in UTC; before 1972 the scales are taken as one."""
    return MJD_ZERO + (mjd - _OFFSETS[bisect_right(_STARTS, mjd)])
