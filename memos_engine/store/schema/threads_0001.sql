-- Chat logs and versioned blobs of frameworks, by owner and thread.
-- Times are microseconds since 1970 UTC.

CREATE TABLE threads (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,                      -- the principal; no other one can see or change it
    name TEXT NOT NULL,
    last INTEGER NOT NULL DEFAULT 0,          -- position given out last: never reused
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (owner, name)
);

CREATE TABLE entries (
    thread INTEGER NOT NULL REFERENCES threads (n) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    id TEXT,                                  -- the caller's own
    value TEXT NOT NULL,                      -- JSON object
    at INTEGER NOT NULL,
    PRIMARY KEY (thread, position)
) WITHOUT ROWID;
CREATE UNIQUE INDEX entries_id ON entries (thread, id) WHERE id IS NOT NULL;

CREATE TABLE blobs (
    n INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL REFERENCES threads (n) ON DELETE CASCADE,
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (thread, space, key, version)
);
