"""The archive's contents as files: backups of our own, archives of mongodump, and both of them back into MongoDB."""
