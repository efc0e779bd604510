-- Rows as under version 9: a turn that stands half-way, and an alarm that nobody heard.

UPDATE resources SET test_credit = 50 WHERE arn = 'arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-00000000000000001';
INSERT INTO resource_alarms (resource_arn, trouble, since, told) VALUES
    ('arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-00000000000000002', 'NOT_TESTED', 1767233600000000, 0);
