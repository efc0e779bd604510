-- Denials beside changes in the audit trail: they are joined and bounded, changes are neither.

ALTER TABLE audit ADD COLUMN denial TEXT;
UPDATE audit SET denial = id WHERE body LIKE '%"outcome":"AccessDeniedException"%';
CREATE INDEX audit_denials ON audit (account, denial, at) WHERE denial IS NOT NULL;
CREATE INDEX audit_denials_in_order ON audit (account, at) WHERE denial IS NOT NULL;

-- The outbox in numbers, and what of it is old.

CREATE INDEX deliveries_by_state ON deliveries (account, state);
CREATE INDEX deliveries_by_age ON deliveries (state, created_at);
