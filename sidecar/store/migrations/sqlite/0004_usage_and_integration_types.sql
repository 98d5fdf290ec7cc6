-- How often keys are used, as far as it has been carried over from Redis; and which integrations there are.

-- Of the counter in Redis (store.h, carry_usage): which one it is, and how far it had counted when it was last seen.
ALTER TABLE api_keys ADD COLUMN usage_mark TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN usage_seen INTEGER NOT NULL DEFAULT 0;

-- SQLite adds no constraint to a table that is there: both are made anew, the one that refers to the other first away, or
-- its rows would go with it.
CREATE TABLE integration_sync_logs_kept AS SELECT * FROM integration_sync_logs;
DROP TABLE integration_sync_logs;
CREATE TABLE integrations_checked (
    id                 TEXT PRIMARY KEY,
    organization_id    TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id            TEXT REFERENCES users (id) ON DELETE CASCADE,
    integration_type   TEXT NOT NULL CHECK (integration_type IN ('google_calendar', 'outlook_calendar', 'zoom', 'teams',
                       'slack', 'discord', 'hubspot', 'salesforce', 'mailchimp')),
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
INSERT INTO integrations_checked SELECT * FROM integrations;
DROP TABLE integrations;
ALTER TABLE integrations_checked RENAME TO integrations;
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
INSERT INTO integration_sync_logs SELECT * FROM integration_sync_logs_kept;
DROP TABLE integration_sync_logs_kept;
CREATE INDEX integration_sync_logs_integration ON integration_sync_logs (integration_id, id);
