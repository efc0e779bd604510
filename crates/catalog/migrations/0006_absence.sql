-- Resources that need no backup, and what is known to be absent of others. No foreign keys: a
-- resource that is removed takes its rows along in the same transaction.

CREATE TABLE exemptions (
    resource_arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    body TEXT NOT NULL
);

-- Alarms that stand: each was told when its row was made.
CREATE TABLE resource_alarms (
    resource_arn TEXT NOT NULL,
    trouble TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (resource_arn, trouble)
);
