"""Names of the collections in the system database; those of the data database belong to surveys and catalogs."""

USERS = "users"
FILTERS = "filters"
FILTER_STATISTICS = "filter_statistics"
LOGINS = "logins"
OUTBOX = "outbox"
DEAD_LETTERS = "dead_letters"
REPORTS = "reports"

SYSTEM = frozenset({USERS, FILTERS, FILTER_STATISTICS, LOGINS, OUTBOX, DEAD_LETTERS, REPORTS})
