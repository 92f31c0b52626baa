-- Who and what there is under one root, and what is to be done. Never holds memory text.
-- Times are microseconds since 1970 UTC.

CREATE TABLE principals (name TEXT PRIMARY KEY, created_at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE cubes (
    id TEXT PRIMARY KEY,                      -- UUIDv7, the name of its folder
    owner TEXT NOT NULL REFERENCES principals (name),
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (owner, name)
) WITHOUT ROWID;

-- The owner has every right and no row here; `write` implies `read`.
CREATE TABLE grants (
    cube TEXT NOT NULL REFERENCES cubes (id) ON DELETE CASCADE,
    principal TEXT NOT NULL REFERENCES principals (name),
    rights TEXT NOT NULL CHECK (rights IN ('read', 'write')),
    PRIMARY KEY (cube, principal)
) WITHOUT ROWID;
CREATE INDEX grants_principal ON grants (principal);

-- Cubes that were removed: what is left of their folders belongs to nobody.
CREATE TABLE cube_tombstones (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cube TEXT NOT NULL,                       -- no foreign key: a job may outlive its cube, and then finds nothing
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,                    -- JSON object
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL,
    lease_until INTEGER,                      -- NULL unless running
    worker TEXT,                              -- NULL unless running
    state TEXT NOT NULL DEFAULT 'waiting',
    last_error TEXT,
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX jobs_waiting ON jobs (cube, kind, key) WHERE state = 'waiting';
CREATE INDEX jobs_ended ON jobs (cube, kind, key) WHERE state IN ('done', 'dead');
CREATE INDEX jobs_open ON jobs (state) WHERE state IN ('waiting', 'running');
