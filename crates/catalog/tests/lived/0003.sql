-- Rows as under version 3: a vault that was being made.

INSERT INTO unsettled_vaults (location, state, body) VALUES
    ('vaults/halfway', 'MAKING', '{"name":"halfway","arn":"arn:aws:backup:us-east-1:111122223333:backup-vault:halfway","account":"111122223333","region":"us-east-1","encryption_key_arn":"arn:aws:kms:us-east-1:111122223333:key/00000001-0000-4000-8000-000000000000","creator_request_id":null,"created_at":"2026-01-01T00:33:20Z","location":"vaults/halfway","sealed_password":"c2VhbGVk","notifications":{"topic_arn":"arn:aws:sns:us-east-1:111122223333:ops","events":["BACKUP_JOB_COMPLETED"]},"care":{"prune_every_days":7,"check_every_days":7,"verify_within_days":30,"verify_max_bytes_per_second":50000000,"catalog_backup_every_days":1},"imported":false}');
