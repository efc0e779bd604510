-- How many recovery points a resource keeps at most, beside its body; no limit where it is NULL.

ALTER TABLE resources ADD COLUMN keep_at_most BIGINT;
CREATE INDEX resources_counted ON resources (account, arn) WHERE keep_at_most IS NOT NULL;
