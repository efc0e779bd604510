-- Users besides the root of an account. Their access keys are in access_keys.

CREATE TABLE users (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX users_name ON users (account, name);

-- Whom a key makes requests come from; the only keys there were are the root's.
ALTER TABLE access_keys ADD COLUMN principal TEXT NOT NULL DEFAULT '';
