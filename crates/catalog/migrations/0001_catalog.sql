-- The catalog, first version. One text for SQLite and PostgreSQL, hence only TEXT and BIGINT,
-- no autoincrement, no defaults that differ. Moments are microseconds since 1970 (UTC). `body` is
-- the row's domain value as JSON; the other columns exist for look-ups, order and uniqueness.

CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);

CREATE TABLE access_keys (
    access_key_id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX access_keys_by_account ON access_keys (account, created_at, access_key_id);

CREATE TABLE roles (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX roles_name ON roles (account, name);

CREATE TABLE keys (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX keys_name ON keys (account, name);

CREATE TABLE vaults (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    key_arn TEXT NOT NULL REFERENCES keys (arn),
    topic_arn TEXT,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (account, name)
);
CREATE INDEX vaults_in_order ON vaults (account, created_at, name);
CREATE INDEX vaults_by_key ON vaults (key_arn);
CREATE INDEX vaults_by_topic ON vaults (topic_arn);

-- Of vaults, plans and recovery points. Resources carry theirs in their body.
CREATE TABLE tags (
    arn TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (arn, key)
);

CREATE TABLE resources (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    identity TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX resources_name ON resources (account, name);
CREATE UNIQUE INDEX resources_identity ON resources (account, kind, identity);
CREATE INDEX resources_in_order ON resources (account, created_at, arn);

-- One row a plan: what changes from version to version is in plan_versions; `body` repeats the
-- newest one.
CREATE TABLE plans (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    request_id TEXT,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    last_execution_at BIGINT,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX plans_request ON plans (account, request_id);
CREATE INDEX plans_in_order ON plans (account, created_at, id);
CREATE INDEX plans_active ON plans (created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE plan_versions (
    plan_id TEXT NOT NULL REFERENCES plans (id),
    version_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (plan_id, version_id)
);
CREATE INDEX plan_versions_in_order ON plan_versions (plan_id, created_at, version_id);

CREATE TABLE selections (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    plan_id TEXT NOT NULL REFERENCES plans (id),
    name TEXT NOT NULL,
    request_id TEXT,
    role_arn TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX selections_name ON selections (plan_id, name);
CREATE UNIQUE INDEX selections_request ON selections (plan_id, request_id);
CREATE INDEX selections_in_order ON selections (plan_id, created_at, id);
CREATE INDEX selections_by_role ON selections (role_arn);

-- Up to which moment a rule's schedule has been carried out.
CREATE TABLE schedule_marks (
    plan_id TEXT NOT NULL REFERENCES plans (id),
    rule_id TEXT NOT NULL,
    mark BIGINT NOT NULL,
    PRIMARY KEY (plan_id, rule_id)
);

-- Backup jobs, restore jobs, restore tests.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY NOT NULL,
    type TEXT NOT NULL,
    account TEXT NOT NULL,
    resource_arn TEXT NOT NULL,
    vault_name TEXT,
    recovery_point_arn TEXT,
    role_arn TEXT,
    token TEXT,
    state TEXT NOT NULL,
    done BIGINT NOT NULL,
    -- 1: driven by a restore test, never taken from the queue.
    test_owned BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    completed_at BIGINT,
    -- The lease: who, the fencing number, until when (0: nobody).
    owner TEXT,
    generation BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    -- The resource, while this job is the one that backs it up.
    slot TEXT,
    -- Rows in job_events so far.
    events BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX jobs_token ON jobs (account, type, token);
CREATE UNIQUE INDEX jobs_slot ON jobs (slot);
CREATE INDEX jobs_in_order ON jobs (type, account, created_at, id);
CREATE INDEX jobs_by_state ON jobs (type, account, state, created_at, id);
CREATE INDEX jobs_by_resource ON jobs (type, account, resource_arn, created_at, id);
CREATE INDEX jobs_by_vault ON jobs (type, account, vault_name, created_at, id);
CREATE INDEX jobs_by_point ON jobs (type, account, recovery_point_arn, created_at, id);
CREATE INDEX jobs_everywhere ON jobs (type, created_at, id);
CREATE INDEX jobs_open ON jobs (type, created_at, id) WHERE done = 0;
CREATE INDEX jobs_queue ON jobs (type, state, created_at, id) WHERE done = 0;
CREATE INDEX jobs_open_of_resource ON jobs (resource_arn) WHERE done = 0;
CREATE INDEX jobs_open_of_vault ON jobs (account, vault_name) WHERE done = 0;
CREATE INDEX jobs_open_of_role ON jobs (role_arn) WHERE done = 0;

CREATE TABLE job_events (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT,
    message TEXT NOT NULL,
    step TEXT,
    PRIMARY KEY (job_id, seq)
);

CREATE TABLE recovery_points (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    vault_name TEXT NOT NULL,
    resource_arn TEXT NOT NULL,
    kind TEXT NOT NULL,
    plan_id TEXT,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    captured_at BIGINT NOT NULL,
    delete_at BIGINT,
    body TEXT NOT NULL,
    FOREIGN KEY (account, vault_name) REFERENCES vaults (account, name)
);
CREATE INDEX points_in_order ON recovery_points (account, created_at, arn);
CREATE INDEX points_by_vault ON recovery_points (account, vault_name, created_at, arn);
CREATE INDEX points_by_resource ON recovery_points (account, resource_arn, created_at, arn);
CREATE INDEX points_newest ON recovery_points (account, resource_arn, captured_at, arn);
CREATE INDEX points_by_plan ON recovery_points (account, plan_id, created_at, arn);
CREATE INDEX points_everywhere ON recovery_points (created_at, arn);
CREATE INDEX points_overdue ON recovery_points (delete_at);
CREATE INDEX points_by_status ON recovery_points (status, created_at, arn);

-- Resources that have a recovery point; kept up with recovery_points in the same transactions.
CREATE TABLE protected_resources (
    account TEXT NOT NULL,
    resource_arn TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (account, resource_arn)
);
CREATE INDEX protected_in_order ON protected_resources (account, created_at, resource_arn);

CREATE TABLE topics (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX topics_name ON topics (account, name);

CREATE TABLE subscriptions (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    topic_arn TEXT NOT NULL REFERENCES topics (arn),
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX subscriptions_in_order ON subscriptions (topic_arn, created_at, id);

-- The outbox: one row for each notification and receiver.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    job_id TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    owner TEXT,
    lease_until BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (next_attempt_at, id) WHERE state = 'WAITING';
CREATE INDEX deliveries_in_order ON deliveries (account, created_at, id);
CREATE INDEX deliveries_of_job ON deliveries (account, job_id, created_at, id);
CREATE INDEX deliveries_of_subscription ON deliveries (subscription_id) WHERE state = 'WAITING';

-- One chain an account; never updated, never deleted from.
CREATE TABLE evidence (
    account TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    resource_arn TEXT,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (account, sequence)
);
CREATE INDEX evidence_of_resource ON evidence (account, resource_arn, sequence);

-- What negative controls answered, so that unchanged probes need not be tried again.
CREATE TABLE mutants (
    resource_arn TEXT NOT NULL,
    probe_version TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (resource_arn, probe_version)
);

CREATE TABLE audit (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX audit_in_order ON audit (account, at, id);
