-- How often keys are used, as far as it has been carried over from Redis; and which integrations there are.

-- Of the counter in Redis (store.h, carry_usage): which one it is, and how far it had counted when it was last seen.
ALTER TABLE api_keys ADD COLUMN usage_mark TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN usage_seen BIGINT NOT NULL DEFAULT 0;

ALTER TABLE integrations ADD CONSTRAINT integrations_type CHECK (integration_type IN ('google_calendar',
    'outlook_calendar', 'zoom', 'teams', 'slack', 'discord', 'hubspot', 'salesforce', 'mailchimp'));
