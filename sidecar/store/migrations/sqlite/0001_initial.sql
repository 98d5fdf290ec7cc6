-- The first schema. Ids are TEXT (UUIDv7); times are milliseconds since the epoch, in columns that
-- end in _at; other units stand in the name. Seconds appear only in views, where integrations expect them.
-- "encrypted" = v1:<kid>:<base64>, AES-256-GCM, associated data table|column|id (secret_box.h).

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE plans (
    name       TEXT PRIMARY KEY,
    limits     TEXT NOT NULL,              -- rate plan syntax: 60r/m 1000r/h
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE organizations (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    plan           TEXT NOT NULL DEFAULT 'free',
    is_suspended   INTEGER NOT NULL DEFAULT 0 CHECK (is_suspended IN (0, 1)),
    allow_networks TEXT NOT NULL DEFAULT '[]',  -- JSON array of CIDR, or "*"
    generation     INTEGER NOT NULL DEFAULT 1,  -- raised by every change of its subscriptions
    seq            INTEGER NOT NULL DEFAULT 0,  -- of its newest event
    matched_events INTEGER NOT NULL DEFAULT 0,  -- events that have at least one delivery
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    deleted_at     INTEGER
) STRICT;

CREATE TABLE users (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    email           TEXT NOT NULL,
    name            TEXT NOT NULL DEFAULT '',
    role            TEXT NOT NULL DEFAULT 'viewer' CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    password_hash   TEXT NOT NULL DEFAULT '',
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER
) STRICT;
CREATE UNIQUE INDEX users_email ON users (organization_id, email) WHERE deleted_at IS NULL;

CREATE TABLE api_keys (
    id              TEXT PRIMARY KEY,
    key_hash        TEXT NOT NULL UNIQUE,      -- HMAC-SHA-256 under the pepper, hexadecimal
    key_prefix      TEXT NOT NULL,
    user_id         TEXT REFERENCES users (id) ON DELETE SET NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL DEFAULT '',
    scopes          TEXT NOT NULL DEFAULT '[]',  -- JSON array
    allowed_ips     TEXT NOT NULL DEFAULT '[]',  -- JSON array of CIDR
    plan            TEXT NOT NULL DEFAULT '',
    limits          TEXT NOT NULL DEFAULT '',
    last_used_at    INTEGER,
    usage_count     INTEGER NOT NULL DEFAULT 0,
    is_active       INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    expires_at      INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER
) STRICT;
CREATE INDEX api_keys_organization ON api_keys (organization_id, id);

CREATE TABLE event_types (
    name            TEXT NOT NULL,
    organization_id TEXT NOT NULL DEFAULT '',   -- empty: known to all
    display_name    TEXT NOT NULL DEFAULT '',
    description     TEXT NOT NULL DEFAULT '',
    category        TEXT NOT NULL DEFAULT '',
    version         TEXT NOT NULL DEFAULT '1.0',
    deprecated      INTEGER NOT NULL DEFAULT 0 CHECK (deprecated IN (0, 1)),
    payload_schema  TEXT NOT NULL DEFAULT '{}',
    example_payload TEXT,
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (organization_id, name)
) STRICT, WITHOUT ROWID;

-- Hot: one row for each event. The payload is the bytes that came.
CREATE TABLE events (
    id              TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    seq             INTEGER NOT NULL,            -- commit order within the organization; gaps are allowed
    key_id          TEXT NOT NULL,
    type            TEXT NOT NULL,
    source          TEXT NOT NULL,
    payload         TEXT NOT NULL,
    ordering_key    TEXT NOT NULL,
    traceparent     TEXT NOT NULL,
    via             TEXT NOT NULL,
    status          TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered')),
    created_at      INTEGER NOT NULL,            -- at the edge
    updated_at      INTEGER NOT NULL,
    UNIQUE (organization_id, seq)
) STRICT;
-- The inbox: newest first, only what is not acknowledged.
CREATE INDEX events_inbox ON events (organization_id, created_at, seq) WHERE status = 'pending';

CREATE TABLE webhooks (
    id                    TEXT PRIMARY KEY,
    organization_id       TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL DEFAULT '',
    url                   TEXT NOT NULL,
    events                TEXT NOT NULL,                 -- JSON array of patterns
    event_filters         TEXT NOT NULL DEFAULT '{}',    -- JSON object
    headers               TEXT NOT NULL DEFAULT '[]',    -- JSON array of [name, encrypted value]
    content_type          TEXT NOT NULL DEFAULT 'application/json'
                          CHECK (content_type IN ('application/json', 'application/x-www-form-urlencoded')),
    payload_format        TEXT NOT NULL DEFAULT 'envelope',
    ordering              TEXT NOT NULL DEFAULT '',
    timeout_ms            INTEGER NOT NULL,
    max_in_flight         INTEGER NOT NULL,
    retry_count           INTEGER NOT NULL,
    retry_schedule_ms     TEXT NOT NULL DEFAULT '[]',    -- JSON array; wins when it is not empty
    retry_delay_ms        INTEGER NOT NULL DEFAULT 0,
    backoff_multiplier    REAL NOT NULL DEFAULT 1.0,
    is_active             INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    disabled_reason       TEXT NOT NULL DEFAULT '',
    version               INTEGER NOT NULL DEFAULT 1,
    last_triggered_at     INTEGER,
    total_deliveries      INTEGER NOT NULL DEFAULT 0,    -- finished ones, without tests and replays
    failed_deliveries     INTEGER NOT NULL DEFAULT 0,
    response_count        INTEGER NOT NULL DEFAULT 0,    -- attempts that got a response
    response_ms_sum       INTEGER NOT NULL DEFAULT 0,
    last_response_ms      INTEGER,
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL,
    deleted_at            INTEGER
) STRICT;
CREATE INDEX webhooks_organization ON webhooks (organization_id, id) WHERE deleted_at IS NULL;

CREATE TABLE webhook_secrets (
    id         TEXT PRIMARY KEY,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    secret     TEXT NOT NULL,                            -- encrypted
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;
CREATE INDEX webhook_secrets_webhook ON webhook_secrets (webhook_id, created_at);

-- Hot: one row for each event and webhook that wants it.
CREATE TABLE deliveries (
    id              TEXT NOT NULL UNIQUE,
    organization_id TEXT NOT NULL,
    webhook_id      TEXT NOT NULL REFERENCES webhooks (id),
    event_id        TEXT NOT NULL REFERENCES events (id),
    state           TEXT NOT NULL CHECK (state IN
                    ('queued', 'in_flight', 'retrying', 'blocked', 'dead', 'success', 'cancelled')),
    status          TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'success', 'failed', 'cancelled')),
    kind            TEXT NOT NULL DEFAULT 'event' CHECK (kind IN ('event', 'test', 'replay')),
    attempts        INTEGER NOT NULL DEFAULT 0,          -- finished, interrupted ones left out
    due_at          INTEGER NOT NULL,
    generation      INTEGER NOT NULL,                    -- of the subscriptions that matched
    lane            INTEGER NOT NULL,                    -- CRC-32C of the webhook's id, modulo 256
    ordering_key    TEXT NOT NULL DEFAULT '',
    shard           INTEGER NOT NULL,
    stream_ms       INTEGER NOT NULL,
    stream_seq      INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_event ON deliveries (event_id);
-- What waits to be sent, found by webhook, so that a full one is skipped in one step.
CREATE INDEX deliveries_waiting ON deliveries (webhook_id, due_at) WHERE state IN ('queued', 'retrying');
CREATE INDEX deliveries_in_flight ON deliveries (webhook_id) WHERE state = 'in_flight';

CREATE TABLE attempts (
    id               TEXT NOT NULL UNIQUE,
    delivery_id      TEXT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number           INTEGER NOT NULL,                   -- 1 = first
    outcome          TEXT NOT NULL CHECK (outcome IN ('success', 'retry', 'dead', 'cancelled', 'interrupted')),
    started_at       INTEGER NOT NULL,
    finished_at      INTEGER NOT NULL,
    duration_ms      INTEGER NOT NULL,
    status_code      INTEGER NOT NULL DEFAULT 0,         -- 0 = no response
    error_type       TEXT NOT NULL DEFAULT '',
    error_message    TEXT NOT NULL DEFAULT '',
    request_headers  TEXT NOT NULL DEFAULT '{}',         -- redacted
    response_headers TEXT NOT NULL DEFAULT '{}',
    response_body    TEXT NOT NULL DEFAULT '',
    next_attempt_at  INTEGER
) STRICT;
CREATE INDEX attempts_delivery ON attempts (delivery_id);

-- One row for each attempt, as integrators know it. The id of a delivery that has none yet is not here.
CREATE VIEW webhook_deliveries AS
SELECT a.id AS id, d.webhook_id AS webhook_id, e.type AS event_type, d.event_id AS event_id, e.payload AS payload,
       a.request_headers AS request_headers, nullif(a.status_code, 0) AS response_status_code,
       a.response_headers AS response_headers, a.response_body AS response_body, a.started_at / 1000 AS attempted_at,
       a.finished_at / 1000 AS completed_at, a.duration_ms AS duration_ms,
       CASE a.outcome WHEN 'success' THEN 'success' WHEN 'cancelled' THEN 'cancelled' WHEN 'interrupted' THEN 'pending'
                      ELSE 'failed' END AS status,
       nullif(a.error_message, '') AS error_message, a.number > 1 AS is_retry, a.number - 1 AS retry_number,
       a.next_attempt_at / 1000 AS next_retry_at
FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN events e ON e.id = d.event_id;

CREATE VIEW webhook_settings AS
SELECT id, organization_id, name, url, events, event_filters, content_type, timeout_ms / 1000 AS timeout_seconds,
       retry_count, retry_delay_ms / 1000 AS retry_delay_seconds, is_active, last_triggered_at / 1000 AS last_triggered_at,
       total_deliveries, failed_deliveries, created_at / 1000 AS created_at, updated_at / 1000 AS updated_at
FROM webhooks WHERE deleted_at IS NULL;

CREATE TABLE leases (
    kind  TEXT NOT NULL CHECK (kind IN ('shard', 'lane')),
    part  INTEGER NOT NULL,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (kind, part)
) STRICT, WITHOUT ROWID;

-- Entries that could not be decoded or stored, with their bytes.
CREATE TABLE quarantine (
    shard      INTEGER NOT NULL,
    stream_id  TEXT NOT NULL,
    reason     TEXT NOT NULL,
    bytes      BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (shard, stream_id)
) STRICT;

-- Why an event was not delivered. An empty webhook_id stands for all of them.
CREATE TABLE ledger (
    event_id        TEXT NOT NULL,
    webhook_id      TEXT NOT NULL DEFAULT '',
    organization_id TEXT NOT NULL,
    reason          TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    PRIMARY KEY (event_id, webhook_id)
) STRICT, WITHOUT ROWID;

-- Outcomes by webhook, hour of the delivery's creation and event type.
CREATE TABLE rollups (
    webhook_id      TEXT NOT NULL,
    hour_at         INTEGER NOT NULL,
    event_type      TEXT NOT NULL,
    success_count   INTEGER NOT NULL DEFAULT 0,
    failed_count    INTEGER NOT NULL DEFAULT 0,
    pending_count   INTEGER NOT NULL DEFAULT 0,
    retry_count     INTEGER NOT NULL DEFAULT 0,
    response_count  INTEGER NOT NULL DEFAULT 0,
    response_ms_sum INTEGER NOT NULL DEFAULT 0,
    filtered_count  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (webhook_id, hour_at, event_type)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit_log (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    actor           TEXT NOT NULL,
    action          TEXT NOT NULL,
    subject         TEXT NOT NULL,
    details         TEXT NOT NULL DEFAULT '{}',
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_log_organization ON audit_log (organization_id, id);

-- What has still to be written to Redis, in order.
CREATE TABLE projections (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    op    TEXT NOT NULL CHECK (op IN ('key', 'revoke', 'unrevoke')),
    ref   TEXT NOT NULL,
    until INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE revocations (
    member     TEXT PRIMARY KEY,           -- key:<id>, kid:…, jti:…, sub:…
    until      INTEGER NOT NULL,           -- when it may be forgotten
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE integrations (
    id                 TEXT PRIMARY KEY,
    organization_id    TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id            TEXT REFERENCES users (id) ON DELETE CASCADE,
    integration_type   TEXT NOT NULL,
    name               TEXT NOT NULL,
    access_token       TEXT,               -- encrypted, like the four below
    refresh_token      TEXT,
    api_key            TEXT,
    client_id          TEXT,
    client_secret      TEXT,
    token_expires_at   INTEGER,
    settings           TEXT NOT NULL DEFAULT '{}',
    sync_enabled       INTEGER NOT NULL DEFAULT 1 CHECK (sync_enabled IN (0, 1)),
    status             TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'error', 'disabled')),
    last_sync_at       INTEGER,
    last_error_message TEXT,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    deleted_at         INTEGER
) STRICT;
-- Two, because a UNIQUE constraint takes every NULL user for another one.
CREATE UNIQUE INDEX integrations_user ON integrations (organization_id, user_id, integration_type)
    WHERE user_id IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX integrations_organization ON integrations (organization_id, integration_type)
    WHERE user_id IS NULL AND deleted_at IS NULL;

CREATE TABLE integration_sync_logs (
    id                TEXT PRIMARY KEY,
    integration_id    TEXT NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
    sync_type         TEXT NOT NULL CHECK (sync_type IN ('full', 'incremental', 'manual')),
    direction         TEXT NOT NULL CHECK (direction IN ('import', 'export', 'bidirectional')),
    records_processed INTEGER NOT NULL DEFAULT 0,
    records_created   INTEGER NOT NULL DEFAULT 0,
    records_updated   INTEGER NOT NULL DEFAULT 0,
    records_failed    INTEGER NOT NULL DEFAULT 0,
    started_at        INTEGER NOT NULL,
    completed_at      INTEGER,
    duration_ms       INTEGER,
    status            TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    error_details     TEXT NOT NULL DEFAULT '[]',
    sync_cursor       TEXT,
    external_sync_id  TEXT
) STRICT;
CREATE INDEX integration_sync_logs_integration ON integration_sync_logs (integration_id, id);
