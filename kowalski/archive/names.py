"""Names of the collections in the system database; those of the data database belong to surveys and catalogs."""

USERS = "users"
FILTERS = "filters"
FILTER_STATISTICS = "filter_statistics"
LOGINS = "logins"
COUNTS = "counts"
ACTIVITY = "activity"
AUDIT = "audit"
OUTBOX = "outbox"
"""Of SkyPortal; each further outlet has one of its own."""
OUTBOX_KAFKA = "outbox_kafka"
OUTBOXES = {"skyportal": OUTBOX, "kafka": OUTBOX_KAFKA}
"""Outlet -> its outbox."""
DEAD_LETTERS = "dead_letters"
REPORTS = "reports"
FIGURES = "figures"
SCHEMAS = "schemas"
KNOWN_OBJECTS = "known_objects"
LEASES = "leases"
REPROCESSING = "reprocessing"
LOADS = "loads"
"""How far the loading of catalogs has got."""
MARKS = "marks"
"""How far work has got that goes on now and then."""
FETCHED_FILES = "fetched_files"

SYSTEM = frozenset(
    {
        USERS,
        FILTERS,
        FILTER_STATISTICS,
        LOGINS,
        COUNTS,
        ACTIVITY,
        AUDIT,
        *OUTBOXES.values(),
        DEAD_LETTERS,
        REPORTS,
        FIGURES,
        SCHEMAS,
        KNOWN_OBJECTS,
        LEASES,
        REPROCESSING,
        LOADS,
        MARKS,
        FETCHED_FILES,
    }
)
