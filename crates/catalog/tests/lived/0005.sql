-- Rows as under version 5: a user and its key.

INSERT INTO users (arn, account, name, created_at, body) VALUES
    ('arn:aws:iam::111122223333:user/eve', '111122223333', 'eve', 1767229600000000, '{"arn":"arn:aws:iam::111122223333:user/eve","account":"111122223333","name":"eve","managed_policies":["Auditor"],"policy_document":null,"created_at":"2026-01-01T01:06:40Z"}');
INSERT INTO access_keys (access_key_id, account, created_at, principal, body) VALUES
    ('AKIAOLDOLDOLDOLDOLD5', '111122223333', 1767229600000000, 'arn:aws:iam::111122223333:user/eve', '{"access_key_id":"AKIAOLDOLDOLDOLDOLD5","account":"111122223333","principal_arn":"arn:aws:iam::111122223333:user/eve","sealed_secret":"c2VhbGVk","created_at":"2026-01-01T01:06:40Z","active":true}');
