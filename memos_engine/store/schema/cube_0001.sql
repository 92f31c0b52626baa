-- The truth of one cube. Everything outside this file can be rebuilt from it.
-- Times are microseconds since 1970 UTC; NULL means unknown or unlimited, as in items.py.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE items (
    n INTEGER PRIMARY KEY AUTOINCREMENT,      -- never reused: projections refer to it
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    tier TEXT NOT NULL,
    text TEXT NOT NULL,
    namespace TEXT NOT NULL DEFAULT '',       -- labels, each followed by U+001F (see store/rows.py)
    key TEXT,
    value TEXT,                               -- JSON object
    role TEXT,
    speaker TEXT,
    thread TEXT NOT NULL DEFAULT '',
    session TEXT,
    author TEXT NOT NULL DEFAULT '',
    message_id TEXT,                          -- the caller's id of the turn
    message_key TEXT,                         -- what makes a turn the same turn within its thread
    event_at INTEGER,
    valid_from INTEGER,
    valid_to INTEGER,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    confidence REAL NOT NULL DEFAULT 1,
    priority REAL NOT NULL DEFAULT 0,
    tags TEXT,                                -- JSON array
    sources TEXT,                             -- JSON array; NULL for an episode: its own turn
    visibility TEXT NOT NULL DEFAULT 'cube',
    origin TEXT NOT NULL,
    ttl INTEGER,                              -- microseconds by which a read may put off the end of an entry
    indexed INTEGER NOT NULL                  -- 1: the item stands in words and vectors; an entry perhaps in words only
);
CREATE UNIQUE INDEX items_message ON items (thread, message_key) WHERE message_key IS NOT NULL;
CREATE UNIQUE INDEX items_key ON items (namespace, key) WHERE key IS NOT NULL;
CREATE INDEX items_thread ON items (thread, n, speaker, role, event_at, indexed) WHERE kind = 'episode'; -- covers store/turns.py
CREATE INDEX items_by_key ON items (key COLLATE NOCASE) WHERE key IS NOT NULL;
CREATE INDEX items_event ON items (event_at) WHERE event_at IS NOT NULL;
CREATE INDEX items_expiry ON items (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX items_hidden ON items (visibility) WHERE visibility <> 'cube';
CREATE UNIQUE INDEX items_concept ON items (text) WHERE kind = 'concept';
CREATE INDEX items_kind ON items (kind, n) WHERE kind <> 'episode';

-- Old states of items: the current one is in `items`, so a plain add writes nothing here.
CREATE TABLE versions (
    item INTEGER NOT NULL REFERENCES items (n) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    until INTEGER NOT NULL,                   -- when the next version replaced it
    state TEXT NOT NULL,                      -- JSON of the changed columns as they were
    PRIMARY KEY (item, version)
) WITHOUT ROWID;

-- `weight` 1 unless said; both ends vanish with their items.
CREATE TABLE edges (
    source INTEGER NOT NULL REFERENCES items (n) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    target INTEGER NOT NULL REFERENCES items (n) ON DELETE CASCADE,
    weight REAL NOT NULL DEFAULT 1,
    PRIMARY KEY (source, kind, target)
) WITHOUT ROWID;
CREATE INDEX edges_target ON edges (target, kind);

CREATE TABLE changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    item INTEGER NOT NULL,
    op TEXT NOT NULL,
    at INTEGER NOT NULL
);

-- Append-only and hash-chained: hash = SHA-256(previous hash, this row).
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,                     -- JSON: ids and counts, never memory text
    hash BLOB NOT NULL
);

-- What was erased by `forget`. A turn's key is kept as a hash, so that it is not captured again.
CREATE TABLE tombstones (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    turn BLOB                                 -- SHA-256 of (thread, message key)
);
CREATE INDEX tombstones_turn ON tombstones (turn) WHERE turn IS NOT NULL;

-- One row a call that carried an idempotency key.
CREATE TABLE calls (
    key TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    result TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE embedders (
    n INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    dimension INTEGER NOT NULL,
    current INTEGER NOT NULL                  -- 1 for the one that searches use
);

CREATE TABLE vectors (
    v INTEGER PRIMARY KEY AUTOINCREMENT,      -- never reused: Chroma's ids
    item INTEGER NOT NULL REFERENCES items (n) ON DELETE CASCADE,
    name TEXT NOT NULL,
    embedder INTEGER NOT NULL REFERENCES embedders (n),
    data BLOB NOT NULL                        -- float32, little-endian, unit length
);
CREATE INDEX vectors_item ON vectors (item);

-- Vectors that are gone, in order, for projections that still hold them. `erased`: by `forget`.
CREATE TABLE gone_vectors (g INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER NOT NULL, erased INTEGER NOT NULL);

-- Contentless: the words come from `items` by store/words.py. Rank by BM25.
CREATE VIRTUAL TABLE words USING fts5 (
    body, content='', tokenize="porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
);
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, 'row');

-- Passages whose keys and values a model keeps in the folder `kv`, one file a block: this says which there are.
CREATE TABLE blocks (
    b INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,                  -- its file is named so
    model TEXT NOT NULL,                      -- digest of the model's key
    digest TEXT NOT NULL,                     -- SHA-256 of the passage's text
    seal TEXT NOT NULL,                       -- SHA-256 of the file
    tokens INTEGER NOT NULL,
    bytes INTEGER NOT NULL,                   -- of the file
    seconds REAL NOT NULL,                    -- what reading the passage would take
    pinned INTEGER NOT NULL DEFAULT 0,
    hits REAL NOT NULL DEFAULT 0,             -- as of used_at, else made_at; halved every week since
    used_at INTEGER,
    made_at INTEGER NOT NULL
);

CREATE TABLE block_items (
    block INTEGER NOT NULL REFERENCES blocks (b) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    item INTEGER NOT NULL REFERENCES items (n) ON DELETE CASCADE,
    PRIMARY KEY (block, place)
) WITHOUT ROWID;
CREATE INDEX block_items_item ON block_items (item);

-- Blocks that are no more and whose files may still be there.
CREATE TABLE gone_blocks (id TEXT PRIMARY KEY) WITHOUT ROWID;

-- Ids and numbers and why, never memory text; the newest rows only.
CREATE TABLE block_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    op TEXT NOT NULL,
    block TEXT NOT NULL,
    model TEXT NOT NULL,
    reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);

-- How often items stood in a prompt; `uses` as of `at`, halved every week since.
CREATE TABLE item_uses (
    item INTEGER PRIMARY KEY REFERENCES items (n) ON DELETE CASCADE,
    uses REAL NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX item_uses_at ON item_uses (at);
