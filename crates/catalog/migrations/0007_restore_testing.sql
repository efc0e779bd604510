-- Restore testing plans, their selections, and which plan a restore job belongs to.

CREATE TABLE restore_testing_plans (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    request_id TEXT,
    created_at BIGINT NOT NULL,
    -- Up to which moment its schedule has been carried out.
    mark BIGINT NOT NULL,
    last_execution_at BIGINT,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX restore_testing_plans_name ON restore_testing_plans (account, name);
CREATE UNIQUE INDEX restore_testing_plans_request ON restore_testing_plans (account, request_id);
CREATE INDEX restore_testing_plans_in_order ON restore_testing_plans (account, created_at, name);

CREATE TABLE restore_testing_selections (
    plan_arn TEXT NOT NULL REFERENCES restore_testing_plans (arn),
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    request_id TEXT,
    role_arn TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (plan_arn, name)
);
CREATE UNIQUE INDEX restore_testing_selections_request
    ON restore_testing_selections (plan_arn, request_id);
CREATE INDEX restore_testing_selections_in_order
    ON restore_testing_selections (plan_arn, created_at, name);
CREATE INDEX restore_testing_selections_by_role ON restore_testing_selections (role_arn);

ALTER TABLE jobs ADD COLUMN testing_plan_arn TEXT;
-- Few jobs are of such a plan: the others take no room in it.
CREATE INDEX jobs_by_testing_plan ON jobs (type, account, testing_plan_arn, created_at, id)
    WHERE testing_plan_arn IS NOT NULL;
