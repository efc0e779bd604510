-- What the program of schema version 7 left after a backup, a restore, a restore test, a check and some
-- settings, as SQLite dumps it.
PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
CREATE TABLE access_keys (
    access_key_id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
, principal TEXT NOT NULL DEFAULT '');
INSERT INTO "access_keys" VALUES('AKIAWPYBVB2DDGUS2KYR','123456789012',1795809301863117,'{"access_key_id":"AKIAWPYBVB2DDGUS2KYR","account":"123456789012","principal_arn":"arn:aws:iam::123456789012:root","sealed_secret":"01f4f772a84647a672123ffcf81da1382c8209603b937020b1efd9b6fd8a10cb60933acc6e587310c8e512dbc5be220cc9d3c8398b67975d3f904c66c240fcefe7f75e15fc51497694","created_at":"2026-11-27T19:55:01.863117721Z","active":true}','arn:aws:iam::123456789012:root');
CREATE TABLE audit (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "audit" VALUES('389e4e5e-22f9-48ca-beeb-c924701c63a7','123456789012',1795809305815294,'{"at":"2026-11-27T19:55:05.815294496Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:AddResource","resource":"app","outcome":"done"}');
INSERT INTO "audit" VALUES('447697af-85a7-4a3c-9565-fe4909cdc370','123456789012',1795809305881373,'{"at":"2026-11-27T19:55:05.881373553Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"backup:CreateBackupPlan","resource":"arn:aws:backup:us-east-1:123456789012:backup-plan:d04e14fe-f53d-4a7d-9610-43067bae3842","outcome":"done"}');
INSERT INTO "audit" VALUES('1343bf22-c799-4a3d-bf81-d79901af5d0b','123456789012',1795809305942102,'{"at":"2026-11-27T19:55:05.942102003Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"backup:CreateBackupSelection","resource":"arn:aws:backup:us-east-1:123456789012:backup-plan:d04e14fe-f53d-4a7d-9610-43067bae3842","outcome":"done"}');
INSERT INTO "audit" VALUES('24a80cca-8c1f-4721-86db-979303255ff6','123456789012',1795809306007640,'{"at":"2026-11-27T19:55:06.007640388Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"backup:StartBackupJob","resource":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","outcome":"done"}');
INSERT INTO "audit" VALUES('8cf13126-156c-4311-8ac2-df10e7e211a9','123456789012',1795809306541659,'{"at":"2026-11-27T19:55:06.541659415Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:StartRestoreTest","resource":"app","outcome":"done"}');
INSERT INTO "audit" VALUES('78437239-79ba-4c56-96ea-61d756bb0689','123456789012',1795809320990893,'{"at":"2026-11-27T19:55:20.990893156Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"backup:StartRestoreJob","resource":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","outcome":"done"}');
INSERT INTO "audit" VALUES('f6223d79-f68a-4642-811d-4ef4ef0b8163','123456789012',1795809321161437,'{"at":"2026-11-27T19:55:21.161437462Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:AddTopic","resource":"ops","outcome":"done"}');
INSERT INTO "audit" VALUES('19b3915b-ba22-420d-aaea-dd75e1feccf1','123456789012',1795809321231090,'{"at":"2026-11-27T19:55:21.231090911Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:Subscribe","resource":"ops","outcome":"done"}');
INSERT INTO "audit" VALUES('a36ab327-8923-4956-8c30-7e4b3b82a60e','123456789012',1795809321319883,'{"at":"2026-11-27T19:55:21.319883255Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:ExemptResource","resource":"app","outcome":"done"}');
INSERT INTO "audit" VALUES('53bfb3bd-1661-4174-bf36-ece6eb32d823','123456789012',1795809321393500,'{"at":"2026-11-27T19:55:21.39350053Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:AddUser","resource":"bob","outcome":"done"}');
INSERT INTO "audit" VALUES('41701ec3-6742-4575-b6c9-3a2adb9766cc','123456789012',1795809322830951,'{"at":"2026-11-27T19:55:22.830951513Z","account":"123456789012","principal":"arn:aws:iam::123456789012:root","action":"provault:StartCareRun","resource":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","outcome":"done"}');
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
CREATE TABLE evidence (
    account TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    resource_arn TEXT,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (account, sequence)
);
INSERT INTO "evidence" VALUES('123456789012',1,'arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','59dad3fd302b3391a9821e7c8d00697f2febc968136d753d882bf64431cc4b7c','{"account":"123456789012","sequence":1,"recorded_at":"2026-11-27T19:55:06.746837471Z","body":{"account":"123456789012","after_backup_job":null,"cleaned_up":true,"completed_at":"2026-11-27T19:55:06.74644767Z","created_at":"2026-11-27T19:55:06.537842132Z","created_resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-955d27f92fbb4034b","findings":{"failures":[],"incomplete":null,"isolation":"filesonly","mutants":[{"detail":"there is no older recovery point.","killed":null,"name":"older-state","required":false},{"detail":"files: 2 differences; . was changed at 2026-11-27T19:55:06.634782991Z instead of 2026-11-27T19:55:01.73390458Z","killed":true,"name":"half-the-files-removed","required":false},{"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.662469758Z instead of 2026-11-27T19:55:01.73390458Z","killed":true,"name":"files-truncated","required":false},{"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.669904756Z instead of 2026-11-27T19:55:01.73390458Z","killed":true,"name":"data-emptied","required":true},{"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.669904756Z instead of 2026-11-27T19:55:01.73390458Z","killed":true,"name":"everything-emptied","required":true},{"detail":"files: 3 differences; . was changed at 2026-11-27T19:55:06.697904757Z instead of 2026-11-27T19:55:01.73390458Z","killed":true,"name":"everything-gone","required":true}],"mutants_cached":false,"point_age_seconds":0,"probes":[{"detail":"2 files, 1 directories and 0 others are as captured, 3899 bytes compared","http_status":null,"label":"files","millis":1,"passed":true}],"recovery_millis":30,"rpo_seconds":86400,"rto_seconds":null},"id":"d5981841-87f2-48f9-b8d1-4ec71fd5dfb6","kind":"filesystem","reason":"files compared; recovered after 0.030 s, 1 probe passed and noticed 5 of 5 broken copies.","recovery_point_arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","region":"us-east-1","requested_point":null,"resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","resource_name":"app","restore_job_id":"955d27f9-2fbb-4034-beb5-7a97ccb95e3e","started_at":"2026-11-27T19:55:06.556343457Z","state":"FINISHED","steps":[{"detail":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae, captured 2026-11-27T19:55:06.027361106Z","millis":5,"name":"choose","ok":true,"started_at":"2026-11-27T19:55:06.560589363Z"},{"detail":"2 files, 3899 bytes into isolation","millis":21,"name":"restore","ok":true,"started_at":"2026-11-27T19:55:06.568537551Z"},{"detail":"2 files, 1 directories and 0 others are as captured, 3899 bytes compared","millis":6,"name":"compare files","ok":true,"started_at":"2026-11-27T19:55:06.593750604Z"},{"detail":"5 of 5 broken copies were noticed","millis":104,"name":"negative control","ok":true,"started_at":"2026-11-27T19:55:06.604261614Z"},{"detail":"the copy is gone","millis":10,"name":"reap","ok":true,"started_at":"2026-11-27T19:55:06.729931419Z"}],"token":"083b2383-777d-4c58-9ebd-e6bda7262600","vault_name":"Default","verdict":"PASSED"},"previous_hash":"0000000000000000000000000000000000000000000000000000000000000000","hash":"59dad3fd302b3391a9821e7c8d00697f2febc968136d753d882bf64431cc4b7c"}');
CREATE TABLE exemptions (
    resource_arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "exemptions" VALUES('arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','123456789012','{"resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","account":"123456789012","reason":"made again","owner":"ann","until":"2027-02-25T19:55:21Z","created_at":"2026-11-27T19:55:21.310750723Z"}');
CREATE TABLE job_events (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT,
    message TEXT NOT NULL,
    step TEXT,
    PRIMARY KEY (job_id, seq)
);
INSERT INTO "job_events" VALUES('e4e35f48-920e-4c70-8296-f4a53c4e22ae',1,1795809306016195,'RUNNING','started',NULL);
INSERT INTO "job_events" VALUES('e4e35f48-920e-4c70-8296-f4a53c4e22ae',2,1795809306236282,NULL,'capture and store: 2 files, 3899 bytes, of which 3899 bytes were read and 4036 bytes added to the vault; 0 paths skipped','{"name":"capture and store","started_at":"2026-11-27T19:55:06.027282649Z","millis":209,"ok":true,"detail":"2 files, 3899 bytes, of which 3899 bytes were read and 4036 bytes added to the vault; 0 paths skipped"}');
INSERT INTO "job_events" VALUES('e4e35f48-920e-4c70-8296-f4a53c4e22ae',3,1795809306239062,'COMPLETED','completed: 3899 read, 4036 stored, 0 skipped',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',1,1795809306556343,'CHOOSING','started',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',2,1795809306562269,'RESTORING','recovery point chosen: arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',3,1795809306565903,NULL,'choose: arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae, captured 2026-11-27T19:55:06.027361106Z','{"name":"choose","started_at":"2026-11-27T19:55:06.560589363Z","millis":5,"ok":true,"detail":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae, captured 2026-11-27T19:55:06.027361106Z"}');
INSERT INTO "job_events" VALUES('955d27f9-2fbb-4034-beb5-7a97ccb95e3e',1,1795809306571476,'RUNNING','started',NULL);
INSERT INTO "job_events" VALUES('955d27f9-2fbb-4034-beb5-7a97ccb95e3e',2,1795809306583794,NULL,'restore: 2 files, 3899 bytes.','{"name":"restore","started_at":"2026-11-27T19:55:06.574794836Z","millis":9,"ok":true,"detail":"2 files, 3899 bytes."}');
INSERT INTO "job_events" VALUES('955d27f9-2fbb-4034-beb5-7a97ccb95e3e',3,1795809306586453,'COMPLETED','completed: 3899 written',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',4,1795809306590168,NULL,'restore: 2 files, 3899 bytes into isolation','{"name":"restore","started_at":"2026-11-27T19:55:06.568537551Z","millis":21,"ok":true,"detail":"2 files, 3899 bytes into isolation"}');
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',5,1795809306591564,'TESTING','restored',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',6,1795809306600090,NULL,'compare files: 2 files, 1 directories and 0 others are as captured, 3899 bytes compared','{"name":"compare files","started_at":"2026-11-27T19:55:06.593750604Z","millis":6,"ok":true,"detail":"2 files, 1 directories and 0 others are as captured, 3899 bytes compared"}');
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',7,1795809306602738,'CONTROLLING','tested: 1 of 1 probes passed',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',8,1795809306709221,NULL,'negative control: 5 of 5 broken copies were noticed','{"name":"negative control","started_at":"2026-11-27T19:55:06.604261614Z","millis":104,"ok":true,"detail":"5 of 5 broken copies were noticed"}');
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',9,1795809306716044,'REAPING','negative control: 5 of 6 broken copies found',NULL);
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',10,1795809306740193,NULL,'reap: the copy is gone','{"name":"reap","started_at":"2026-11-27T19:55:06.729931419Z","millis":10,"ok":true,"detail":"the copy is gone"}');
INSERT INTO "job_events" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6',11,1795809306746837,'FINISHED','reaped: everything is gone',NULL);
INSERT INTO "job_events" VALUES('955d27f9-2fbb-4034-beb5-7a97ccb95e3e',4,1795809306746837,NULL,'validation SUCCESSFUL: files compared; recovered after 0.030 s, 1 probe passed and noticed 5 of 5 broken copies.',NULL);
INSERT INTO "job_events" VALUES('955d27f9-2fbb-4034-beb5-7a97ccb95e3e',5,1795809306746837,NULL,'deletion SUCCESSFUL',NULL);
INSERT INTO "job_events" VALUES('26413811-fcd0-4fc6-8e3f-15a28c50ba49',1,1795809320994622,'RUNNING','started',NULL);
INSERT INTO "job_events" VALUES('26413811-fcd0-4fc6-8e3f-15a28c50ba49',2,1795809321010115,NULL,'restore: 2 files, 3899 bytes.','{"name":"restore","started_at":"2026-11-27T19:55:20.996115735Z","millis":14,"ok":true,"detail":"2 files, 3899 bytes."}');
INSERT INTO "job_events" VALUES('26413811-fcd0-4fc6-8e3f-15a28c50ba49',3,1795809321011580,'COMPLETED','completed: 3899 written',NULL);
INSERT INTO "job_events" VALUES('961afe3e-d6d2-4fe8-8bd1-9b7604f462db',1,1795809322839954,'RUNNING','started',NULL);
INSERT INTO "job_events" VALUES('961afe3e-d6d2-4fe8-8bd1-9b7604f462db',2,1795809323120708,NULL,'check: Nothing is wrong: 1 snapshot and 2 packs looked at, the structure was checked.','{"name":"check","started_at":"2026-11-27T19:55:22.860708669Z","millis":260,"ok":true,"detail":"Nothing is wrong: 1 snapshot and 2 packs looked at, the structure was checked."}');
INSERT INTO "job_events" VALUES('961afe3e-d6d2-4fe8-8bd1-9b7604f462db',3,1795809323130967,'COMPLETED','completed: Nothing is wrong: 1 snapshot and 2 packs looked at, the structure was checked.',NULL);
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
, testing_plan_arn TEXT);
INSERT INTO "jobs" VALUES('e4e35f48-920e-4c70-8296-f4a53c4e22ae','BACKUP','123456789012','arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','Default','arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae','arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole','63a184b3-91e1-4283-9c13-ec22dfcaffcc','COMPLETED',1,0,1795809306002599,1795809306239062,NULL,1,0,NULL,3,3,'{"id":"e4e35f48-920e-4c70-8296-f4a53c4e22ae","account":"123456789012","region":"us-east-1","vault_name":"Default","vault_arn":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","resource_name":"app","kind":"filesystem","role_arn":"arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole","lifecycle":{"delete_after_days":null,"move_to_cold_storage_after_days":null,"opt_in_to_archive":null},"recovery_point_tags":{},"created_by":null,"idempotency_token":"63a184b3-91e1-4283-9c13-ec22dfcaffcc","created_at":"2026-11-27T19:55:06.002599748Z","start_by":"2026-11-28T03:55:06.002599748Z","completion_window_minutes":10080,"started_at":"2026-11-27T19:55:06.016195715Z","completed_at":"2026-11-27T19:55:06.239062767Z","state":"COMPLETED","status_message":null,"bytes_transferred":3899,"bytes_expected":null,"backup_size_bytes":3899,"bytes_stored":4036,"recovery_point_arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","skipped":[]}',NULL);
INSERT INTO "jobs" VALUES('d5981841-87f2-48f9-b8d1-4ec71fd5dfb6','RESTORE_TEST','123456789012','arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','Default','arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae',NULL,NULL,'FINISHED',1,0,1795809306537842,1795809306746837,NULL,1,0,NULL,11,12,'{"id":"d5981841-87f2-48f9-b8d1-4ec71fd5dfb6","account":"123456789012","region":"us-east-1","token":"083b2383-777d-4c58-9ebd-e6bda7262600","resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","resource_name":"app","kind":"filesystem","requested_point":null,"after_backup_job":null,"created_at":"2026-11-27T19:55:06.537842132Z","started_at":"2026-11-27T19:55:06.556343457Z","completed_at":"2026-11-27T19:55:06.746837471Z","state":"FINISHED","recovery_point_arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","vault_name":"Default","restore_job_id":"955d27f9-2fbb-4034-beb5-7a97ccb95e3e","created_resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-955d27f92fbb4034b","findings":{"failures":[],"isolation":"filesonly","probes":[{"label":"files","passed":true,"detail":"2 files, 1 directories and 0 others are as captured, 3899 bytes compared","http_status":null,"millis":1}],"mutants":[{"name":"older-state","required":false,"killed":null,"detail":"there is no older recovery point."},{"name":"half-the-files-removed","required":false,"killed":true,"detail":"files: 2 differences; . was changed at 2026-11-27T19:55:06.634782991Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"files-truncated","required":false,"killed":true,"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.662469758Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"data-emptied","required":true,"killed":true,"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.669904756Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"everything-emptied","required":true,"killed":true,"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.669904756Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"everything-gone","required":true,"killed":true,"detail":"files: 3 differences; . was changed at 2026-11-27T19:55:06.697904757Z instead of 2026-11-27T19:55:01.73390458Z"}],"mutants_cached":false,"incomplete":null,"point_age_seconds":0,"rpo_seconds":86400,"recovery_millis":30,"rto_seconds":null},"steps":[{"name":"choose","started_at":"2026-11-27T19:55:06.560589363Z","millis":5,"ok":true,"detail":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae, captured 2026-11-27T19:55:06.027361106Z"},{"name":"restore","started_at":"2026-11-27T19:55:06.568537551Z","millis":21,"ok":true,"detail":"2 files, 3899 bytes into isolation"},{"name":"compare files","started_at":"2026-11-27T19:55:06.593750604Z","millis":6,"ok":true,"detail":"2 files, 1 directories and 0 others are as captured, 3899 bytes compared"},{"name":"negative control","started_at":"2026-11-27T19:55:06.604261614Z","millis":104,"ok":true,"detail":"5 of 5 broken copies were noticed"},{"name":"reap","started_at":"2026-11-27T19:55:06.729931419Z","millis":10,"ok":true,"detail":"the copy is gone"}],"verdict":"PASSED","reason":"files compared; recovered after 0.030 s, 1 probe passed and noticed 5 of 5 broken copies.","cleaned_up":true}',NULL);
INSERT INTO "jobs" VALUES('955d27f9-2fbb-4034-beb5-7a97ccb95e3e','RESTORE','123456789012','arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','Default','arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae','arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole',NULL,'COMPLETED',1,1,1795809306562232,1795809306586453,NULL,1,0,NULL,5,5,'{"id":"955d27f9-2fbb-4034-beb5-7a97ccb95e3e","account":"123456789012","region":"us-east-1","recovery_point_arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","vault_name":"Default","source_resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","kind":"filesystem","role_arn":"arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole","metadata":{"file-system-id":"fs-39973a5d281f4744b","newFileSystem":"true","sourcePath":"/srv/app","targetPath":"/srv/data/restore-tests/083b2383-777d-4c58-9ebd-e6bda7262600/copy"},"idempotency_token":null,"test_token":"083b2383-777d-4c58-9ebd-e6bda7262600","created_at":"2026-11-27T19:55:06.562232704Z","started_at":"2026-11-27T19:55:06.571476395Z","completed_at":"2026-11-27T19:55:06.586453171Z","state":"COMPLETED","status_message":null,"backup_size_bytes":3899,"bytes_restored":3899,"created_resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-955d27f92fbb4034b","validation":"SUCCESSFUL","validation_message":"files compared; recovered after 0.030 s, 1 probe passed and noticed 5 of 5 broken copies.","deletion":"SUCCESSFUL","deletion_message":null}',NULL);
INSERT INTO "jobs" VALUES('26413811-fcd0-4fc6-8e3f-15a28c50ba49','RESTORE','123456789012','arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','Default','arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae','arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole','bd63de8d-9304-4669-8b8b-9835da4ecd45','COMPLETED',1,0,1795809320988108,1795809321011580,NULL,1,0,NULL,3,3,'{"id":"26413811-fcd0-4fc6-8e3f-15a28c50ba49","account":"123456789012","region":"us-east-1","recovery_point_arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","vault_name":"Default","source_resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","kind":"filesystem","role_arn":"arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole","metadata":{"file-system-id":"fs-39973a5d281f4744b","newFileSystem":"true","sourcePath":"/srv/app","targetPath":"/srv/back"},"idempotency_token":"bd63de8d-9304-4669-8b8b-9835da4ecd45","test_token":null,"created_at":"2026-11-27T19:55:20.98810865Z","started_at":"2026-11-27T19:55:20.994622251Z","completed_at":"2026-11-27T19:55:21.011580296Z","state":"COMPLETED","status_message":null,"backup_size_bytes":3899,"bytes_restored":3899,"created_resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-26413811fcd04fc68","validation":null,"validation_message":null,"deletion":null,"deletion_message":null}',NULL);
INSERT INTO "jobs" VALUES('961afe3e-d6d2-4fe8-8bd1-9b7604f462db','CARE','123456789012','arn:aws:backup:us-east-1:123456789012:backup-vault:Default','Default',NULL,NULL,NULL,'COMPLETED',1,0,1795809322821670,1795809323130967,NULL,1,0,NULL,3,3,'{"id":"961afe3e-d6d2-4fe8-8bd1-9b7604f462db","account":"123456789012","region":"us-east-1","vault_name":"Default","vault_arn":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","operation":"CHECK","options":{"read_data":false,"dry_run":false,"from_vault":null,"own":false},"trigger":"OPERATOR","created_at":"2026-11-27T19:55:22.82167059Z","started_at":"2026-11-27T19:55:22.839954661Z","completed_at":"2026-11-27T19:55:23.130967729Z","state":"COMPLETED","stop_requested":null,"status_message":"Nothing is wrong: 1 snapshot and 2 packs looked at, the structure was checked.","bytes_done":0,"bytes_total":null,"report":{"clean":true,"summary":"Nothing is wrong: 1 snapshot and 2 packs looked at, the structure was checked.","figures":{"blobs":8,"bytesRead":0,"hurtFiles":0,"packs":2,"snapshots":1,"trees":5,"unreferencedPacks":0},"problems":[],"problems_total":0,"hurt":[]}}',NULL);
CREATE TABLE keys (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "keys" VALUES('arn:aws:kms:us-east-1:123456789012:key/92c6ee5a-8762-4153-9e78-d4e72a598f11','123456789012','default',1795809301813485,'{"arn":"arn:aws:kms:us-east-1:123456789012:key/92c6ee5a-8762-4153-9e78-d4e72a598f11","account":"123456789012","name":"default","wrapper":{"type":"local-file","file":"default.key"},"created_at":"2026-11-27T19:55:01.813485363Z"}');
CREATE TABLE mutants (
    resource_arn TEXT NOT NULL,
    probe_version TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (resource_arn, probe_version)
);
INSERT INTO "mutants" VALUES('arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','a44c4fe74f6dcc32b5c90c6b1da53cb90a3f4ea7892aaec3f1bff102cdd19c12','[{"name":"older-state","required":false,"killed":null,"detail":"there is no older recovery point."},{"name":"half-the-files-removed","required":false,"killed":true,"detail":"files: 2 differences; . was changed at 2026-11-27T19:55:06.634782991Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"files-truncated","required":false,"killed":true,"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.662469758Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"data-emptied","required":true,"killed":true,"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.669904756Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"everything-emptied","required":true,"killed":true,"detail":"files: 4 differences; a.txt was changed at 2026-11-27T19:55:06.669904756Z instead of 2026-11-27T19:55:01.73390458Z"},{"name":"everything-gone","required":true,"killed":true,"detail":"files: 3 differences; . was changed at 2026-11-27T19:55:06.697904757Z instead of 2026-11-27T19:55:01.73390458Z"}]');
CREATE TABLE plan_versions (
    plan_id TEXT NOT NULL REFERENCES plans (id),
    version_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (plan_id, version_id)
);
INSERT INTO "plan_versions" VALUES('d04e14fe-f53d-4a7d-9610-43067bae3842','cd7e7732-11b0-416d-8317-9b5a4383e8a5',1795809305861605,'{"id":"d04e14fe-f53d-4a7d-9610-43067bae3842","arn":"arn:aws:backup:us-east-1:123456789012:backup-plan:d04e14fe-f53d-4a7d-9610-43067bae3842","account":"123456789012","name":"daily","version_id":"cd7e7732-11b0-416d-8317-9b5a4383e8a5","rules":[{"id":"cc41efab-9fc9-45d3-b9cc-b0008bad2b42","name":"default","target_vault":"Default","schedule":"cron(0 5 ? * * *)","timezone":"Etc/UTC","start_window_minutes":480,"completion_window_minutes":10080,"lifecycle":{"delete_after_days":35,"move_to_cold_storage_after_days":null,"opt_in_to_archive":null},"recovery_point_tags":{}}],"creator_request_id":"5c882efc-8e40-49d8-a8f4-e49cfa7bbf7a","created_at":"2026-11-27T19:55:05.861605152Z","deleted_at":null,"last_execution_at":null}');
CREATE TABLE plans (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    request_id TEXT,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    last_execution_at BIGINT,
    body TEXT NOT NULL
);
INSERT INTO "plans" VALUES('d04e14fe-f53d-4a7d-9610-43067bae3842','123456789012','5c882efc-8e40-49d8-a8f4-e49cfa7bbf7a',1795809305861605,NULL,NULL,'{"id":"d04e14fe-f53d-4a7d-9610-43067bae3842","arn":"arn:aws:backup:us-east-1:123456789012:backup-plan:d04e14fe-f53d-4a7d-9610-43067bae3842","account":"123456789012","name":"daily","version_id":"cd7e7732-11b0-416d-8317-9b5a4383e8a5","rules":[{"id":"cc41efab-9fc9-45d3-b9cc-b0008bad2b42","name":"default","target_vault":"Default","schedule":"cron(0 5 ? * * *)","timezone":"Etc/UTC","start_window_minutes":480,"completion_window_minutes":10080,"lifecycle":{"delete_after_days":35,"move_to_cold_storage_after_days":null,"opt_in_to_archive":null},"recovery_point_tags":{}}],"creator_request_id":"5c882efc-8e40-49d8-a8f4-e49cfa7bbf7a","created_at":"2026-11-27T19:55:05.861605152Z","deleted_at":null,"last_execution_at":null}');
CREATE TABLE protected_resources (
    account TEXT NOT NULL,
    resource_arn TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (account, resource_arn)
);
INSERT INTO "protected_resources" VALUES('123456789012','arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b',1795809306027361,'{"resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","resource_name":"app","kind":"filesystem","last_backup_at":"2026-11-27T19:55:06.239062767Z","last_vault_arn":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","last_recovery_point_arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae"}');
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
INSERT INTO "recovery_points" VALUES('arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae','123456789012','Default','arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','filesystem',NULL,'COMPLETED',1795809306027361,1795809306027361,NULL,'{"arn":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae","account":"123456789012","region":"us-east-1","vault_name":"Default","vault_arn":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","resource_arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","resource_name":"app","kind":"filesystem","backup_job_id":"e4e35f48-920e-4c70-8296-f4a53c4e22ae","role_arn":"arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole","created_by":null,"encryption_key_arn":"arn:aws:kms:us-east-1:123456789012:key/92c6ee5a-8762-4153-9e78-d4e72a598f11","status":"COMPLETED","status_message":null,"captured_at":"2026-11-27T19:55:06.027361106Z","created_at":"2026-11-27T19:55:06.027361106Z","completed_at":"2026-11-27T19:55:06.239062767Z","backup_size_bytes":3899,"lifecycle":{"delete_after_days":null,"move_to_cold_storage_after_days":null,"opt_in_to_archive":null},"payload":{"type":"stored","snapshot_id":"2c878eda5b3a79a40d1b5a07d838c2ac4603cdeea24d8fd72448509cf4fe9e1a","tree_path":"tmp/fx/app","bytes_stored":4036,"files":2},"restore_metadata":{"file-system-id":"fs-39973a5d281f4744b","newFileSystem":"true","sourcePath":"/srv/app"},"last_restore_at":"2026-11-27T19:55:21.011525334Z","last_verdict":{"verdict":"PASSED","restore_test_id":"d5981841-87f2-48f9-b8d1-4ec71fd5dfb6","at":"2026-11-27T19:55:06.74644767Z"},"condition":null,"shrunk":null,"hold":null}');
CREATE TABLE resource_alarms (
    resource_arn TEXT NOT NULL,
    trouble TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (resource_arn, trouble)
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
, keep_at_most BIGINT);
INSERT INTO "resources" VALUES('arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b','123456789012','app','filesystem','/srv/app',1795809305804800,1,'{"arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-39973a5d281f4744b","account":"123456789012","region":"us-east-1","kind":"filesystem","name":"app","config":{"allowEmpty":false,"exclude":[],"include":[],"oneFileSystem":true,"path":"/srv/app","requireMount":false},"tags":{"workload":"myapp"},"service":null,"probes":[],"rpo_seconds":86400,"rto_seconds":null,"test_after_backup":false,"retention":{"shrink_alarm_percent":50,"keep_at_most":null},"created_at":"2026-11-27T19:55:05.804800012Z","imported":false}',NULL);
INSERT INTO "resources" VALUES('arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-26413811fcd04fc68','123456789012','app-restored-26413811','filesystem','/srv/back',1795809321011525,1,'{"arn":"arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-26413811fcd04fc68","account":"123456789012","region":"us-east-1","kind":"filesystem","name":"app-restored-26413811","config":{"allowEmpty":false,"exclude":[],"include":[],"oneFileSystem":true,"path":"/srv/back","requireMount":false},"tags":{"provault:restored-from":"arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae"},"service":null,"probes":[],"rpo_seconds":null,"rto_seconds":null,"test_after_backup":false,"retention":{"shrink_alarm_percent":50,"keep_at_most":null},"created_at":"2026-11-27T19:55:21.011525334Z","imported":false}',NULL);
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
CREATE TABLE roles (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "roles" VALUES('arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole','123456789012','service-role/AWSBackupDefaultServiceRole',1795809301816890,'{"arn":"arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole","account":"123456789012","name":"service-role/AWSBackupDefaultServiceRole","created_at":"2026-11-27T19:55:01.816890518Z"}');
CREATE TABLE schedule_marks (
    plan_id TEXT NOT NULL REFERENCES plans (id),
    rule_id TEXT NOT NULL,
    mark BIGINT NOT NULL,
    PRIMARY KEY (plan_id, rule_id)
);
INSERT INTO "schedule_marks" VALUES('d04e14fe-f53d-4a7d-9610-43067bae3842','cc41efab-9fc9-45d3-b9cc-b0008bad2b42',1795809305861605);
CREATE TABLE schema_versions (version BIGINT PRIMARY KEY NOT NULL);
INSERT INTO "schema_versions" VALUES(1);
INSERT INTO "schema_versions" VALUES(2);
INSERT INTO "schema_versions" VALUES(3);
INSERT INTO "schema_versions" VALUES(4);
INSERT INTO "schema_versions" VALUES(5);
INSERT INTO "schema_versions" VALUES(6);
INSERT INTO "schema_versions" VALUES(7);
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
INSERT INTO "selections" VALUES('1d4747c7-927a-442d-b64e-b550f04d4b4d','123456789012','d04e14fe-f53d-4a7d-9610-43067bae3842','tagged','57b60fae-1323-4c6f-acb1-b28475d14d22','arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole',1795809305940075,'{"id":"1d4747c7-927a-442d-b64e-b550f04d4b4d","account":"123456789012","plan_id":"d04e14fe-f53d-4a7d-9610-43067bae3842","name":"tagged","role_arn":"arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole","resources":[],"not_resources":[],"list_of_tags":[{"key":"workload","value":"myapp"}],"conditions":{"string_equals":[],"string_not_equals":[],"string_like":[],"string_not_like":[]},"creator_request_id":"57b60fae-1323-4c6f-acb1-b28475d14d22","created_at":"2026-11-27T19:55:05.940075578Z"}');
CREATE TABLE settings (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
INSERT INTO "settings" VALUES('account-id','123456789012');
INSERT INTO "settings" VALUES('region','us-east-1');
INSERT INTO "settings" VALUES('page-token-secret','018ffce617c8dffad6d95f22cb7f2f6629707070e131803a4f894ce7e95353f0250a19cef57da0b693b66e37f52b8e0ed4b5bea805536caa53fef06237d005c0131d70ca53bca0d1fd218359320cfa3a8d7d08815483a3c9dc959414abaebe3bc8');
CREATE TABLE subscriptions (
    id TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    topic_arn TEXT NOT NULL REFERENCES topics (arn),
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "subscriptions" VALUES('415cd70e-208e-43bf-9cb7-03ddec24ab12','123456789012','arn:aws:sns:us-east-1:123456789012:ops',1795809321221400,'{"id":"415cd70e-208e-43bf-9cb7-03ddec24ab12","account":"123456789012","topic_arn":"arn:aws:sns:us-east-1:123456789012:ops","target":{"type":"webhook","url":"http://127.0.0.1:9/hook"},"events":[],"digest_minutes":null,"sealed_secret":null,"created_at":"2026-11-27T19:55:21.221400143Z"}');
CREATE TABLE tags (
    arn TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (arn, key)
);
INSERT INTO "tags" VALUES('arn:aws:backup:us-east-1:123456789012:recovery-point:e4e35f48-920e-4c70-8296-f4a53c4e22ae','workload','myapp');
CREATE TABLE topics (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "topics" VALUES('arn:aws:sns:us-east-1:123456789012:ops','123456789012','ops',1795809321158226,'{"arn":"arn:aws:sns:us-east-1:123456789012:ops","account":"123456789012","name":"ops","created_at":"2026-11-27T19:55:21.158226231Z"}');
CREATE TABLE unsettled_vaults (
    location TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE users (
    arn TEXT PRIMARY KEY NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "users" VALUES('arn:aws:iam::123456789012:user/bob','123456789012','bob',1795809321388348,'{"arn":"arn:aws:iam::123456789012:user/bob","account":"123456789012","name":"bob","managed_policies":[],"policy_document":null,"created_at":"2026-11-27T19:55:21.388348919Z"}');
CREATE TABLE vault_care (
    vault_arn TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
);
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
INSERT INTO "vaults" VALUES('arn:aws:backup:us-east-1:123456789012:backup-vault:Default','123456789012','Default','arn:aws:kms:us-east-1:123456789012:key/92c6ee5a-8762-4153-9e78-d4e72a598f11',NULL,1795809301823765,'{"name":"Default","arn":"arn:aws:backup:us-east-1:123456789012:backup-vault:Default","account":"123456789012","region":"us-east-1","encryption_key_arn":"arn:aws:kms:us-east-1:123456789012:key/92c6ee5a-8762-4153-9e78-d4e72a598f11","creator_request_id":null,"created_at":"2026-11-27T19:55:01.823765672Z","location":"vaults/Default-ce0bc248","sealed_password":"0182f91959fcc0ac0f609165ff35009221c31f3e3bb777e7ada5ec6a54f97f917aa13d508acc4c1ddcb447220b464c669fef80345a404733524d65c1649c0c99c0e343a760cd97a9a634b283839e11b56f26c3be239e2d39dc6c87149708023620","notifications":null,"care":{"prune_every_days":7,"check_every_days":7,"verify_within_days":30,"verify_max_bytes_per_second":50000000,"catalog_backup_every_days":1},"imported":false}');
CREATE TABLE verified_packs (
    vault_arn TEXT NOT NULL,
    pack TEXT NOT NULL,
    size BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    verified_at BIGINT,
    damage TEXT,
    PRIMARY KEY (vault_arn, pack)
);
INSERT INTO "verified_packs" VALUES('arn:aws:backup:us-east-1:123456789012:backup-vault:Default','34176310f909a8295a5cca227733291f6c9c061a78b63c127edd8eff427a88e7',1547,1795809322895999,NULL,NULL);
INSERT INTO "verified_packs" VALUES('arn:aws:backup:us-east-1:123456789012:backup-vault:Default','c311bd2a388b82b732d84d1a493b1884e681f28a019285763b1cfcf17f0cad00',2885,1795809322895999,NULL,NULL);
CREATE INDEX access_keys_by_account ON access_keys (account, created_at, access_key_id);
CREATE UNIQUE INDEX roles_name ON roles (account, name);
CREATE UNIQUE INDEX keys_name ON keys (account, name);
CREATE INDEX vaults_in_order ON vaults (account, created_at, name);
CREATE INDEX vaults_by_key ON vaults (key_arn);
CREATE INDEX vaults_by_topic ON vaults (topic_arn);
CREATE UNIQUE INDEX resources_name ON resources (account, name);
CREATE UNIQUE INDEX resources_identity ON resources (account, kind, identity);
CREATE INDEX resources_in_order ON resources (account, created_at, arn);
CREATE UNIQUE INDEX plans_request ON plans (account, request_id);
CREATE INDEX plans_in_order ON plans (account, created_at, id);
CREATE INDEX plans_active ON plans (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX plan_versions_in_order ON plan_versions (plan_id, created_at, version_id);
CREATE UNIQUE INDEX selections_name ON selections (plan_id, name);
CREATE UNIQUE INDEX selections_request ON selections (plan_id, request_id);
CREATE INDEX selections_in_order ON selections (plan_id, created_at, id);
CREATE INDEX selections_by_role ON selections (role_arn);
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
CREATE INDEX points_in_order ON recovery_points (account, created_at, arn);
CREATE INDEX points_by_vault ON recovery_points (account, vault_name, created_at, arn);
CREATE INDEX points_by_resource ON recovery_points (account, resource_arn, created_at, arn);
CREATE INDEX points_newest ON recovery_points (account, resource_arn, captured_at, arn);
CREATE INDEX points_by_plan ON recovery_points (account, plan_id, created_at, arn);
CREATE INDEX points_everywhere ON recovery_points (created_at, arn);
CREATE INDEX points_overdue ON recovery_points (delete_at);
CREATE INDEX points_by_status ON recovery_points (status, created_at, arn);
CREATE INDEX protected_in_order ON protected_resources (account, created_at, resource_arn);
CREATE UNIQUE INDEX topics_name ON topics (account, name);
CREATE INDEX subscriptions_in_order ON subscriptions (topic_arn, created_at, id);
CREATE INDEX deliveries_due ON deliveries (next_attempt_at, id) WHERE state = 'WAITING';
CREATE INDEX deliveries_in_order ON deliveries (account, created_at, id);
CREATE INDEX deliveries_of_job ON deliveries (account, job_id, created_at, id);
CREATE INDEX deliveries_of_subscription ON deliveries (subscription_id) WHERE state = 'WAITING';
CREATE INDEX evidence_of_resource ON evidence (account, resource_arn, sequence);
CREATE INDEX audit_in_order ON audit (account, at, id);
CREATE INDEX resources_counted ON resources (account, arn) WHERE keep_at_most IS NOT NULL;
CREATE UNIQUE INDEX users_name ON users (account, name);
CREATE UNIQUE INDEX restore_testing_plans_name ON restore_testing_plans (account, name);
CREATE UNIQUE INDEX restore_testing_plans_request ON restore_testing_plans (account, request_id);
CREATE INDEX restore_testing_plans_in_order ON restore_testing_plans (account, created_at, name);
CREATE UNIQUE INDEX restore_testing_selections_request
    ON restore_testing_selections (plan_arn, request_id);
CREATE INDEX restore_testing_selections_in_order
    ON restore_testing_selections (plan_arn, created_at, name);
CREATE INDEX restore_testing_selections_by_role ON restore_testing_selections (role_arn);
CREATE INDEX jobs_by_testing_plan ON jobs (type, account, testing_plan_arn, created_at, id)
    WHERE testing_plan_arn IS NOT NULL;
COMMIT;
