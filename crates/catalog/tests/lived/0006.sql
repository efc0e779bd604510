-- Rows as under version 6: an exemption, and an alarm that was told.

INSERT INTO exemptions (resource_arn, account, body) VALUES
    ('arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-00000000000000002', '111122223333', '{"resource_arn":"arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-00000000000000002","account":"111122223333","reason":"made again","owner":"ann","until":"2026-04-01T00:00:00Z","created_at":"2026-01-01T01:23:20Z"}');
INSERT INTO resource_alarms (resource_arn, trouble, since) VALUES
    ('arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-00000000000000001', 'OVERDUE', 1767230600000000);
