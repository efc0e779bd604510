-- What ended last, and first after a moment, of each resource.
CREATE INDEX jobs_by_end ON jobs (type, account, resource_arn, completed_at);

-- Whether anybody was told of an alarm.
ALTER TABLE resource_alarms ADD COLUMN told BIGINT NOT NULL DEFAULT 1;
