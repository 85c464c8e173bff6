"""Catalogs into MongoDB."""
