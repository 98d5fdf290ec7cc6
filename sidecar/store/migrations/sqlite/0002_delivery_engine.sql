-- Ordering, replays, operational events, and what webhooks can choose. "encrypted" as in 0001_initial.

ALTER TABLE webhooks ADD COLUMN body_template TEXT NOT NULL DEFAULT '';
ALTER TABLE webhooks ADD COLUMN ordering_policy TEXT NOT NULL DEFAULT 'dead'
    CHECK (ordering_policy IN ('dead', 'skip', 'block'));
ALTER TABLE webhooks ADD COLUMN rate TEXT NOT NULL DEFAULT '';             -- rate plan syntax, one window
ALTER TABLE webhooks ADD COLUMN signature_style TEXT NOT NULL DEFAULT '';
ALTER TABLE webhooks ADD COLUMN ed25519_seed TEXT NOT NULL DEFAULT '';     -- encrypted, or empty
ALTER TABLE webhooks ADD COLUMN failing_since_at INTEGER;                  -- first failed attempt since the last success

-- 1 = the head of its ordering key: what comes later in the same key is `blocked` until it lets go.
ALTER TABLE deliveries ADD COLUMN holds_order INTEGER NOT NULL DEFAULT 0 CHECK (holds_order IN (0, 1));
ALTER TABLE deliveries ADD COLUMN replay_id TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX deliveries_heads ON deliveries (webhook_id, ordering_key) WHERE holds_order = 1;
CREATE INDEX deliveries_blocked ON deliveries (webhook_id, ordering_key, shard, stream_ms, stream_seq)
    WHERE state = 'blocked';
-- Lists, newest first; and the dead ones among many that succeeded.
CREATE INDEX deliveries_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_dead ON deliveries (webhook_id, id) WHERE state = 'dead';
-- How many of a replay are still to be sent.
CREATE INDEX deliveries_replay ON deliveries (replay_id)
    WHERE replay_id <> '' AND state IN ('queued', 'in_flight', 'retrying');

-- By age: replays and retention. events_inbox holds only what is not acknowledged.
CREATE INDEX events_age ON events (organization_id, created_at, seq);

-- Events that matched but were not wanted, because the webhook was disabled.
ALTER TABLE rollups ADD COLUMN disabled_count INTEGER NOT NULL DEFAULT 0;
CREATE INDEX rollups_hour ON rollups (hour_at);

CREATE TABLE replays (
    id              TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    webhook_id      TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    since_at        INTEGER NOT NULL,              -- of the events: since_at <= created_at < until_at
    until_at        INTEGER NOT NULL,
    which           TEXT NOT NULL CHECK (which IN ('missing', 'failed', 'all')),
    state           TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'done', 'cancelled')),
    total           INTEGER NOT NULL,              -- as counted at the start
    made            INTEGER NOT NULL DEFAULT 0,
    succeeded       INTEGER NOT NULL DEFAULT 0,
    failed          INTEGER NOT NULL DEFAULT 0,
    seq_max         INTEGER NOT NULL,              -- the organization's newest event when it was counted
    cursor_at       INTEGER NOT NULL,              -- the last event looked at
    cursor_seq      INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX replays_webhook ON replays (webhook_id, id);
CREATE INDEX replays_running ON replays (id) WHERE state = 'running';

-- Operational events that are still to be made, in order.
CREATE TABLE system_outbox (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id TEXT NOT NULL,
    type            TEXT NOT NULL,                 -- webhook.disabled | webhook.delivery.exhausted
    payload         TEXT NOT NULL,                 -- JSON object
    created_at      INTEGER NOT NULL
) STRICT;
