"""Kowalski: a multi-survey data archive and alert broker for time-domain astronomy."""

__version__ = "4.0.0"
