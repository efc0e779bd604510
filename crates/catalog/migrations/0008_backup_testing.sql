-- What plans and selections say about restore tests after their backups, beside their documents: a new
-- version of a plan does not change it. Resources have theirs in their body.

ALTER TABLE plans ADD COLUMN testing TEXT;
ALTER TABLE selections ADD COLUMN testing TEXT;

-- Where a resource stands between two recovery points that are tested, in percent of a turn; NULL before
-- the first.
ALTER TABLE resources ADD COLUMN test_credit BIGINT;
