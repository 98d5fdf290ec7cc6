-- By age: what retention looks for.
CREATE INDEX quarantine_age ON quarantine (created_at);
CREATE INDEX audit_log_age ON audit_log (created_at);
