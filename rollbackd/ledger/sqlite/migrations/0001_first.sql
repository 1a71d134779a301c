-- Times are Unix seconds. Blobs: `event`, `decision` and `evidence` are MessagePack (JSON has no infinity), `message` is JSON.
-- AUTOINCREMENT where a number must never be given twice, even after its row was pruned.

CREATE TABLE inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    event BLOB NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX inbox_received_at ON inbox (received_at);

CREATE TABLE snapshot (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at REAL NOT NULL,
    inbox_seq INTEGER NOT NULL,
    format INTEGER NOT NULL,
    state BLOB NOT NULL
);

CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    t REAL NOT NULL,
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    action TEXT NOT NULL,
    rule TEXT NOT NULL,
    reason TEXT NOT NULL,
    config_sha256 TEXT NOT NULL,
    config_commit TEXT,
    mode TEXT NOT NULL,
    decision BLOB NOT NULL
);
CREATE INDEX decisions_t ON decisions (t);
CREATE INDEX decisions_service ON decisions (service, t);

CREATE TABLE deployments (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    previous TEXT,
    deployed_at REAL NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    changed_at REAL NOT NULL,
    is_rollback INTEGER NOT NULL,
    evidence BLOB NOT NULL
);
CREATE INDEX deployments_deployed_at ON deployments (deployed_at);
CREATE INDEX deployments_service ON deployments (service, deployed_at);

CREATE TABLE releases (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    standing TEXT NOT NULL,
    first_seen REAL NOT NULL,
    changed_at REAL NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (service, version)
);

CREATE TABLE rollbacks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    to_version TEXT NOT NULL,
    deployed_at REAL NOT NULL,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    decision_id TEXT,
    created_at REAL NOT NULL,
    state TEXT NOT NULL,
    updated_at REAL NOT NULL
);
CREATE INDEX rollbacks_service ON rollbacks (service, seq);
CREATE INDEX rollbacks_state ON rollbacks (state, updated_at);

CREATE TABLE steps (
    rollback_id TEXT NOT NULL REFERENCES rollbacks (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    at REAL NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (rollback_id, seq)
) WITHOUT ROWID;

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);

-- `service` is empty for a pause of everything.
CREATE TABLE pauses (
    service TEXT NOT NULL PRIMARY KEY,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    at REAL NOT NULL
);

-- `state` is pending, delivered or given_up.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    notifier TEXT NOT NULL,
    key TEXT NOT NULL,
    t REAL NOT NULL,
    message BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'pending',
    error TEXT NOT NULL DEFAULT '',
    UNIQUE (notifier, key)
);
CREATE INDEX outbox_state ON outbox (state, id);
