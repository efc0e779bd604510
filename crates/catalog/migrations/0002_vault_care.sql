-- Care of vaults: what is scheduled and what is wrong, and when each pack was verified. No foreign
-- keys: a vault that is deleted takes its rows along, and a copy of a catalog may be older than the
-- vault it tells of.

CREATE TABLE vault_care (
    vault_arn TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE verified_packs (
    vault_arn TEXT NOT NULL,
    pack TEXT NOT NULL,
    size BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    verified_at BIGINT,
    damage TEXT,
    PRIMARY KEY (vault_arn, pack)
);
