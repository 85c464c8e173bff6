"""Julian dates (UTC) and the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

UNIX_EPOCH = 2_440_587.5
"""Julian date of 1970-01-01T00:00."""


def jd_of(moment: datetime) -> float:
    """Give the Julian date of a moment (of UTC if it names no zone)."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return UNIX_EPOCH + aware.timestamp() / 86400.0


def jd_of_midnight(night: date) -> float:
    """Give the Julian date at which a date (UTC) begins."""
    return jd_of(datetime(night.year, night.month, night.day, tzinfo=UTC))


def moment_of(jd: float) -> datetime:
    """Give the moment (UTC) of a Julian date, to the nearest millisecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round((jd - UNIX_EPOCH) * 86_400_000.0))
