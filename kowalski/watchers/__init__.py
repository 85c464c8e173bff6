"""Watchers: services that look elsewhere, on a schedule and politely, for what the archive should have."""
