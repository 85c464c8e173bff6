"""Changes to what is stored, from version to version: `registry` lists them, each is a module."""
