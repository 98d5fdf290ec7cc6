-- The first schema, with the same tables and columns as the SQLite one. What differs: ids sort by their bytes whatever the
-- database's collation is (COLLATE "C"); events and attempts are partitioned by range of id, which begins with the time
-- (UUIDv7), and the hot tables have no foreign keys, so that an insert costs no look-up and a partition can be dropped:
-- the transactions that write them hold the locks that keep them consistent.
-- Ids are TEXT (UUIDv7); times are milliseconds since the epoch, in columns that
-- end in _at; other units stand in the name. Seconds appear only in views, where integrations expect them.
-- "encrypted" = v1:<kid>:<base64>, AES-256-GCM, associated data table|column|id (secret_box.h).

CREATE TABLE settings (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE plans (
    name       TEXT COLLATE "C" PRIMARY KEY,
    limits     TEXT NOT NULL,              -- rate plan syntax: 60r/m 1000r/h
    created_at BIGINT NOT NULL
);

CREATE TABLE organizations (
    id             TEXT COLLATE "C" PRIMARY KEY,
    name           TEXT COLLATE "C" NOT NULL,
    plan           TEXT NOT NULL DEFAULT 'free',
    is_suspended   BIGINT NOT NULL DEFAULT 0 CHECK (is_suspended IN (0, 1)),
    allow_networks TEXT NOT NULL DEFAULT '[]',  -- JSON array of CIDR, or "*"
    generation     BIGINT NOT NULL DEFAULT 1,  -- raised by every change of its subscriptions
    seq            BIGINT NOT NULL DEFAULT 0,  -- of its newest event
    matched_events BIGINT NOT NULL DEFAULT 0,  -- events that have at least one delivery
    deliveries_made BIGINT NOT NULL DEFAULT 0, -- ever; a count over all rows takes long here
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    deleted_at     BIGINT
);

CREATE TABLE users (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    email           TEXT COLLATE "C" NOT NULL,
    name            TEXT COLLATE "C" NOT NULL DEFAULT '',
    role            TEXT NOT NULL DEFAULT 'viewer' CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    password_hash   TEXT NOT NULL DEFAULT '',
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    deleted_at      BIGINT
);
CREATE UNIQUE INDEX users_email ON users (organization_id, email) WHERE deleted_at IS NULL;

CREATE TABLE api_keys (
    id              TEXT COLLATE "C" PRIMARY KEY,
    key_hash        TEXT COLLATE "C" NOT NULL UNIQUE,      -- HMAC-SHA-256 under the pepper, hexadecimal
    key_prefix      TEXT NOT NULL,
    user_id         TEXT COLLATE "C" REFERENCES users (id) ON DELETE SET NULL,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name            TEXT COLLATE "C" NOT NULL,
    description     TEXT NOT NULL DEFAULT '',
    scopes          TEXT NOT NULL DEFAULT '[]',  -- JSON array
    allowed_ips     TEXT NOT NULL DEFAULT '[]',  -- JSON array of CIDR
    plan            TEXT NOT NULL DEFAULT '',
    limits          TEXT NOT NULL DEFAULT '',
    last_used_at    BIGINT,
    usage_count     BIGINT NOT NULL DEFAULT 0,
    is_active       BIGINT NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    expires_at      BIGINT,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    deleted_at      BIGINT
);
CREATE INDEX api_keys_organization ON api_keys (organization_id, id);

CREATE TABLE event_types (
    name            TEXT COLLATE "C" NOT NULL,
    organization_id TEXT COLLATE "C" NOT NULL DEFAULT '',   -- empty: known to all
    display_name    TEXT NOT NULL DEFAULT '',
    description     TEXT NOT NULL DEFAULT '',
    category        TEXT NOT NULL DEFAULT '',
    version         TEXT NOT NULL DEFAULT '1.0',
    deprecated      BIGINT NOT NULL DEFAULT 0 CHECK (deprecated IN (0, 1)),
    payload_schema  TEXT NOT NULL DEFAULT '{}',
    example_payload TEXT,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (organization_id, name)
);

-- Hot: one row for each event. The payload is the bytes that came.
CREATE TABLE events (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    seq             BIGINT NOT NULL,             -- commit order within the organization; gaps are allowed
    key_id          TEXT COLLATE "C" NOT NULL,
    type            TEXT COLLATE "C" NOT NULL,
    source          TEXT NOT NULL,
    payload         TEXT NOT NULL,
    ordering_key    TEXT COLLATE "C" NOT NULL,
    traceparent     TEXT NOT NULL,
    via             TEXT NOT NULL,
    status          TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered')),
    created_at      BIGINT NOT NULL,             -- at the edge
    updated_at      BIGINT NOT NULL
) PARTITION BY RANGE (id);
-- Payloads that are too long for a row go beside it uncompressed: they are written once, and read once or twice.
ALTER TABLE events ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE TABLE events_stray PARTITION OF events DEFAULT;
-- Unique by the lock on the organization's row: a unique index over partitions would have to hold the id as well.
CREATE INDEX events_seq ON events (organization_id, seq);
-- The inbox: newest first, only what is not acknowledged.
CREATE INDEX events_inbox ON events (organization_id, created_at, seq) WHERE status = 'pending';

CREATE TABLE webhooks (
    id                    TEXT COLLATE "C" PRIMARY KEY,
    organization_id       TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name                  TEXT COLLATE "C" NOT NULL,
    description           TEXT NOT NULL DEFAULT '',
    url                   TEXT NOT NULL,
    events                TEXT NOT NULL,                 -- JSON array of patterns
    event_filters         TEXT NOT NULL DEFAULT '{}',    -- JSON object
    headers               TEXT NOT NULL DEFAULT '[]',    -- JSON array of [name, encrypted value]
    content_type          TEXT NOT NULL DEFAULT 'application/json'
                          CHECK (content_type IN ('application/json', 'application/x-www-form-urlencoded')),
    payload_format        TEXT NOT NULL DEFAULT 'envelope',
    ordering              TEXT NOT NULL DEFAULT '',
    timeout_ms            BIGINT NOT NULL,
    max_in_flight         BIGINT NOT NULL,
    retry_count           BIGINT NOT NULL,
    retry_schedule_ms     TEXT NOT NULL DEFAULT '[]',    -- JSON array; wins when it is not empty
    retry_delay_ms        BIGINT NOT NULL DEFAULT 0,
    backoff_multiplier    DOUBLE PRECISION NOT NULL DEFAULT 1.0,
    is_active             BIGINT NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
    disabled_reason       TEXT NOT NULL DEFAULT '',
    version               BIGINT NOT NULL DEFAULT 1,
    last_triggered_at     BIGINT,
    total_deliveries      BIGINT NOT NULL DEFAULT 0,    -- finished ones, without tests and replays
    failed_deliveries     BIGINT NOT NULL DEFAULT 0,
    response_count        BIGINT NOT NULL DEFAULT 0,    -- attempts that got a response
    response_ms_sum       BIGINT NOT NULL DEFAULT 0,
    last_response_ms      BIGINT,
    created_at            BIGINT NOT NULL,
    updated_at            BIGINT NOT NULL,
    deleted_at            BIGINT
);
CREATE INDEX webhooks_organization ON webhooks (organization_id, id) WHERE deleted_at IS NULL;

CREATE TABLE webhook_secrets (
    id         TEXT COLLATE "C" PRIMARY KEY,
    webhook_id TEXT COLLATE "C" NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    secret     TEXT NOT NULL,                            -- encrypted
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX webhook_secrets_webhook ON webhook_secrets (webhook_id, created_at);

-- Hot: one row for each event and webhook that wants it.
CREATE TABLE deliveries (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    webhook_id      TEXT COLLATE "C" NOT NULL,
    event_id        TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN
                    ('queued', 'in_flight', 'retrying', 'blocked', 'dead', 'success', 'cancelled')),
    status          TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'success', 'failed', 'cancelled')),
    kind            TEXT COLLATE "C" NOT NULL DEFAULT 'event' CHECK (kind IN ('event', 'test', 'replay')),
    attempts        BIGINT NOT NULL DEFAULT 0,          -- finished, interrupted ones left out
    due_at          BIGINT NOT NULL,
    generation      BIGINT NOT NULL,                    -- of the subscriptions that matched
    lane            BIGINT NOT NULL,                    -- CRC-32C of the webhook's id, modulo 256
    ordering_key    TEXT COLLATE "C" NOT NULL DEFAULT '',
    shard           BIGINT NOT NULL,
    stream_ms       BIGINT NOT NULL,
    stream_seq      BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
) WITH (fillfactor = 80);                      -- updated in place when a state changes
CREATE INDEX deliveries_event ON deliveries (event_id);
-- What waits to be sent, found by webhook, so that a full one is skipped in one step.
CREATE INDEX deliveries_waiting ON deliveries (webhook_id, due_at, id) WHERE state IN ('queued', 'retrying');
CREATE INDEX deliveries_in_flight ON deliveries (webhook_id) WHERE state = 'in_flight';

CREATE TABLE attempts (
    id               TEXT COLLATE "C" PRIMARY KEY,
    delivery_id      TEXT COLLATE "C" NOT NULL,
    number           BIGINT NOT NULL,                   -- 1 = first
    outcome          TEXT NOT NULL CHECK (outcome IN ('success', 'retry', 'dead', 'cancelled', 'interrupted')),
    started_at       BIGINT NOT NULL,
    finished_at      BIGINT NOT NULL,
    duration_ms      BIGINT NOT NULL,
    status_code      BIGINT NOT NULL DEFAULT 0,         -- 0 = no response
    error_type       TEXT NOT NULL DEFAULT '',
    error_message    TEXT NOT NULL DEFAULT '',
    request_headers  TEXT NOT NULL DEFAULT '{}',         -- redacted
    response_headers TEXT NOT NULL DEFAULT '{}',
    response_body    TEXT NOT NULL DEFAULT '',
    next_attempt_at  BIGINT
) PARTITION BY RANGE (id);
CREATE TABLE attempts_stray PARTITION OF attempts DEFAULT;
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
    kind  TEXT COLLATE "C" NOT NULL CHECK (kind IN ('shard', 'lane')),
    part  BIGINT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (kind, part)
) WITH (fillfactor = 25);                      -- renewed all the time, in place
-- Who lives: written with each renewal of leases. Only PostgreSQL has more than one instance.
CREATE TABLE instances (
    owner TEXT COLLATE "C" PRIMARY KEY,
    until BIGINT NOT NULL                      -- on the server's clock
) WITH (fillfactor = 25);

-- Entries that could not be decoded or stored, with their bytes.
CREATE TABLE quarantine (
    shard      BIGINT NOT NULL,
    stream_id  TEXT COLLATE "C" NOT NULL,
    reason     TEXT NOT NULL,
    bytes      BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (shard, stream_id)
);

-- Why an event was not delivered. An empty webhook_id stands for all of them.
CREATE TABLE ledger (
    event_id        TEXT COLLATE "C" NOT NULL,
    webhook_id      TEXT COLLATE "C" NOT NULL DEFAULT '',
    organization_id TEXT COLLATE "C" NOT NULL,
    reason          TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (event_id, webhook_id)
);

-- Outcomes by webhook, hour of the delivery's creation and event type.
CREATE TABLE rollups (
    webhook_id      TEXT COLLATE "C" NOT NULL,
    hour_at         BIGINT NOT NULL,
    event_type      TEXT COLLATE "C" NOT NULL,
    success_count   BIGINT NOT NULL DEFAULT 0,
    failed_count    BIGINT NOT NULL DEFAULT 0,
    pending_count   BIGINT NOT NULL DEFAULT 0,
    retry_count     BIGINT NOT NULL DEFAULT 0,
    response_count  BIGINT NOT NULL DEFAULT 0,
    response_ms_sum BIGINT NOT NULL DEFAULT 0,
    filtered_count  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (webhook_id, hour_at, event_type)
);

CREATE TABLE audit_log (
    id              TEXT COLLATE "C" PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    actor           TEXT NOT NULL,
    action          TEXT NOT NULL,
    subject         TEXT NOT NULL,
    details         TEXT NOT NULL DEFAULT '{}',
    created_at      BIGINT NOT NULL
);
CREATE INDEX audit_log_organization ON audit_log (organization_id, id);

-- What has still to be written to Redis, in order.
CREATE TABLE projections (
    id    BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    op    TEXT NOT NULL CHECK (op IN ('key', 'revoke', 'unrevoke')),
    ref   TEXT COLLATE "C" NOT NULL,
    until BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE revocations (
    member     TEXT COLLATE "C" PRIMARY KEY,           -- key:<id>, kid:…, jti:…, sub:…
    until      BIGINT NOT NULL,           -- when it may be forgotten
    created_at BIGINT NOT NULL
);

CREATE TABLE integrations (
    id                 TEXT COLLATE "C" PRIMARY KEY,
    organization_id    TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id            TEXT COLLATE "C" REFERENCES users (id) ON DELETE CASCADE,
    integration_type   TEXT NOT NULL,
    name               TEXT COLLATE "C" NOT NULL,
    access_token       TEXT,               -- encrypted, like the four below
    refresh_token      TEXT,
    api_key            TEXT,
    client_id          TEXT COLLATE "C",
    client_secret      TEXT,
    token_expires_at   BIGINT,
    settings           TEXT NOT NULL DEFAULT '{}',
    sync_enabled       BIGINT NOT NULL DEFAULT 1 CHECK (sync_enabled IN (0, 1)),
    status             TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'error', 'disabled')),
    last_sync_at       BIGINT,
    last_error_message TEXT,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    deleted_at         BIGINT
);
-- Two, because a UNIQUE constraint takes every NULL user for another one.
CREATE UNIQUE INDEX integrations_user ON integrations (organization_id, user_id, integration_type)
    WHERE user_id IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX integrations_organization ON integrations (organization_id, integration_type)
    WHERE user_id IS NULL AND deleted_at IS NULL;

CREATE TABLE integration_sync_logs (
    id                TEXT COLLATE "C" PRIMARY KEY,
    integration_id    TEXT COLLATE "C" NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
    sync_type         TEXT NOT NULL CHECK (sync_type IN ('full', 'incremental', 'manual')),
    direction         TEXT NOT NULL CHECK (direction IN ('import', 'export', 'bidirectional')),
    records_processed BIGINT NOT NULL DEFAULT 0,
    records_created   BIGINT NOT NULL DEFAULT 0,
    records_updated   BIGINT NOT NULL DEFAULT 0,
    records_failed    BIGINT NOT NULL DEFAULT 0,
    started_at        BIGINT NOT NULL,
    completed_at      BIGINT,
    duration_ms       BIGINT,
    status            TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    error_details     TEXT NOT NULL DEFAULT '[]',
    sync_cursor       TEXT,
    external_sync_id  TEXT COLLATE "C"
);
CREATE INDEX integration_sync_logs_integration ON integration_sync_logs (integration_id, id);
