"""Bad input: the modelled error, words that help, nothing changed."""

from common import *

tree = make_tree("source")
resource = add_directory("source", tree)
point = back_up(resource)["RecoveryPointArn"]
vault_arn = f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:Default"
VALUE, MISSING = "InvalidParameterValueException", "MissingParameterValueException"
ABSENT, EXISTS, STATE = "ResourceNotFoundException", "AlreadyExistsException", "InvalidRequestException"

# Vaults.
for name in ("x", "a" * 51, "with space", "dot.ted", "\u00fcml\u00e4ut"):
    refused(VALUE, backup.create_backup_vault, BackupVaultName=name, status=400)
refused(EXISTS, backup.create_backup_vault, BackupVaultName="Default", words="Default")
refused(VALUE, backup.create_backup_vault, BackupVaultName="v1", words="key",
        EncryptionKeyArn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000")
refused(VALUE, backup.create_backup_vault, BackupVaultName="v1", EncryptionKeyArn="nonsense")
refused(VALUE, backup.create_backup_vault, BackupVaultName="v1", BackupVaultTags={"aws:x": "y"})
refused("AccessDeniedException", backup.describe_backup_vault, BackupVaultName="no-such", status=403)
refused(ABSENT, backup.delete_backup_vault, BackupVaultName="no-such", words="no-such")
refused(STATE, backup.delete_backup_vault, BackupVaultName="Default")
refused(ABSENT, backup.list_recovery_points_by_backup_vault, BackupVaultName="no-such")
backup.create_backup_vault(BackupVaultName="holds-one")
held_point = back_up(resource, vault="holds-one")["RecoveryPointArn"]
refused(STATE, backup.delete_backup_vault, BackupVaultName="holds-one",
        words=("1 recovery point", "delete-recovery-point"))

# Notifications.
topic = own("POST", "/topics", {"Name": "events"})[1]["Arn"]
refused(VALUE, backup.put_backup_vault_notifications, BackupVaultName="Default", words="topic add",
        SNSTopicArn=topic + "x", BackupVaultEvents=["BACKUP_JOB_COMPLETED"])
refused(VALUE, backup.put_backup_vault_notifications, BackupVaultName="Default",
        SNSTopicArn=topic, BackupVaultEvents=["BACKUP_JOB_COMPLETE"])
refused(VALUE, backup.put_backup_vault_notifications, BackupVaultName="Default",
        SNSTopicArn=topic, BackupVaultEvents=[])
refused(MISSING, backup.put_backup_vault_notifications, BackupVaultName="Default", SNSTopicArn=topic)
refused(ABSENT, backup.put_backup_vault_notifications, BackupVaultName="no-such",
        SNSTopicArn=topic, BackupVaultEvents=["BACKUP_JOB_COMPLETED"])


# Plans: schedules, windows, lifecycles.
def plan(**rule):
    rule = {"RuleName": "r", "TargetBackupVaultName": "Default", **rule}
    return {"BackupPlan": {"BackupPlanName": "p", "Rules": [rule]}}


for schedule in (
    "rate(1 day)", "cron(0 5 * * *)", "cron(0 5 * * * *)", "cron(60 5 ? * * *)", "0 5 ? * * *",
    "cron(0 24 ? * * *)", "cron(0 5 ? 13 * *)", "cron(0/5 * ? * * *)", "cron(0 5 ? * 8 *)",
    "cron(0 5 ? * FRY *)", "cron()", "",
):
    refused(VALUE, backup.create_backup_plan, **plan(ScheduleExpression=schedule),
            words="ScheduleExpression")
refused(VALUE, backup.create_backup_plan, **plan(ScheduleExpressionTimezone="Mars/Olympus"))
refused(VALUE, backup.create_backup_plan, **plan(StartWindowMinutes=59))
refused(VALUE, backup.create_backup_plan, **plan(StartWindowMinutes=600, CompletionWindowMinutes=60))
refused(VALUE, backup.create_backup_plan, **plan(TargetBackupVaultName="no spaces"))
for lifecycle in (
    {"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 119},
    {"DeleteAfterDays": 0}, {"DeleteAfterDays": -2}, {"DeleteAfterDays": 36501},
):
    refused(VALUE, backup.create_backup_plan, **plan(Lifecycle=lifecycle), words="Lifecycle")
    refused(VALUE, backup.start_backup_job, BackupVaultName="Default", ResourceArn=resource,
            IamRoleArn=ROLE, Lifecycle=lifecycle, words="Lifecycle")
refused(VALUE, backup.create_backup_plan, BackupPlan={"BackupPlanName": "p", "Rules": []})
refused(MISSING, backup.create_backup_plan, BackupPlan={"BackupPlanName": "p"})
refused(MISSING, backup.create_backup_plan,
        BackupPlan={"BackupPlanName": "p", "Rules": [{"TargetBackupVaultName": "Default"}]})
made = backup.create_backup_plan(**plan())
refused(EXISTS, backup.create_backup_plan, **plan())
plan_id = made["BackupPlanId"]
refused(ABSENT, backup.get_backup_plan, BackupPlanId="00000000-0000-0000-0000-000000000000")
refused(ABSENT, backup.get_backup_plan, BackupPlanId=plan_id, VersionId="none")
refused(VALUE, backup.update_backup_plan, BackupPlanId=plan_id, **plan(ScheduleExpression="cron(x)"))
refused(ABSENT, backup.delete_backup_plan, BackupPlanId="none")
# What this server cannot honour is refused, not forgotten.
refused(VALUE, backup.create_backup_plan,
        **plan(CopyActions=[{"DestinationBackupVaultArn": vault_arn}]), words="CopyActions")
refused(VALUE, backup.create_backup_plan, **plan(EnableContinuousBackup=True),
        words="EnableContinuousBackup")


# Selections.
def selection(**what):
    what = {"SelectionName": "s", "IamRoleArn": ROLE, "Resources": [resource], **what}
    return {"BackupPlanId": plan_id, "BackupSelection": what}


nobody = f"arn:aws:iam::{ACCOUNT}:role/nobody"
refused(VALUE, backup.create_backup_selection, **selection(IamRoleArn=nobody), words="role")
refused(VALUE, backup.create_backup_selection, **selection(IamRoleArn="nonsense"))
refused(VALUE, backup.create_backup_selection, **selection(SelectionName="a b"))
refused(VALUE, backup.create_backup_selection, **selection(Resources=["nonsense"]))
refused(VALUE, backup.create_backup_selection, **selection(Resources=[NOWHERE] * 501))
refused(VALUE, backup.create_backup_selection,
        **selection(ListOfTags=[{"ConditionType": "STRINGLIKE", "ConditionKey": "a", "ConditionValue": "b"}]))
refused(ABSENT, backup.create_backup_selection,
        BackupPlanId="none", BackupSelection=selection()["BackupSelection"])
backup.create_backup_selection(**selection())
refused(EXISTS, backup.create_backup_selection, **selection())
refused(ABSENT, backup.get_backup_selection, BackupPlanId=plan_id, SelectionId="none")
refused(ABSENT, backup.delete_backup_selection, BackupPlanId=plan_id, SelectionId="none")


# Backup jobs.
def job(**more):
    return {"BackupVaultName": "Default", "ResourceArn": resource, "IamRoleArn": ROLE, **more}


refused(ABSENT, backup.start_backup_job, **job(BackupVaultName="no-such"))
refused(ABSENT, backup.start_backup_job, **job(ResourceArn=NOWHERE), words=NOWHERE)
refused(VALUE, backup.start_backup_job, **job(IamRoleArn=nobody), words="role")
refused(VALUE, backup.start_backup_job, **job(StartWindowMinutes=59))
refused(VALUE, backup.start_backup_job, **job(RecoveryPointTags={"aws:x": "y"}))
refused(MISSING, backup.start_backup_job, BackupVaultName="Default", IamRoleArn=ROLE,
        words="ResourceArn")
refused(ABSENT, backup.describe_backup_job, BackupJobId="none")
refused(ABSENT, backup.stop_backup_job, BackupJobId="none")
refused(VALUE, backup.list_backup_jobs, ByState="DONE")
refused(VALUE, backup.list_backup_jobs, MaxResults=0)
refused(VALUE, backup.list_backup_jobs, MaxResults=1001)

# Recovery points and restores.
refused(ABSENT, backup.describe_recovery_point, BackupVaultName="Default", RecoveryPointArn=NO_POINT)
refused(ABSENT, backup.describe_recovery_point, BackupVaultName="Default", RecoveryPointArn=held_point)
refused(ABSENT, backup.delete_recovery_point, BackupVaultName="Default", RecoveryPointArn=NO_POINT)
refused(ABSENT, backup.delete_recovery_point, BackupVaultName="Default", RecoveryPointArn=held_point)
refused(ABSENT, backup.start_restore_job, RecoveryPointArn=NO_POINT, Metadata={"a": "b"}, IamRoleArn=ROLE)
good = {"file-system-id": resource.split("/")[-1], "targetPath": os.path.join(SCRATCH, "never")}
refused(VALUE, backup.start_restore_job, RecoveryPointArn=point, Metadata=good, IamRoleArn=nobody)
refused(VALUE, backup.start_restore_job, RecoveryPointArn=point, Metadata=good, IamRoleArn=ROLE,
        ResourceType="EBS")
refused(MISSING, backup.start_restore_job, RecoveryPointArn=point, IamRoleArn=ROLE)
refused(ABSENT, backup.describe_restore_job, RestoreJobId="none")
assert not os.path.exists(good["targetPath"])

# Tags.
refused(ABSENT, backup.tag_resource, ResourceArn=NO_POINT, Tags={"a": "b"})
refused(VALUE, backup.tag_resource, ResourceArn=vault_arn, Tags={"aws:a": "b"})
refused(VALUE, backup.tag_resource, ResourceArn=vault_arn, Tags={"k" * 129: "b"})
refused(ABSENT, backup.list_tags, ResourceArn="nonsense")

# Pages.
page = backup.list_backup_vaults(MaxResults=1)
token = page["NextToken"]
refused(VALUE, backup.list_backup_vaults, NextToken="forged", words="NextToken")
refused(VALUE, backup.list_backup_vaults, NextToken=token[:-2] + "xx", words="NextToken")
refused(VALUE, backup.list_backup_plans, NextToken=token, words="NextToken")


# Our own operations.
def own_refused(name, method, path, body=None, words=()):
    before = picture()
    status, answer, headers = own(method, path, body, expect=range(400, 500))
    assert headers["x-amzn-ErrorType"] == name, (headers["x-amzn-ErrorType"], answer)
    for word in (words,) if isinstance(words, str) else words:
        assert word in answer["Message"], answer
    assert picture() == before


def filesystem(name="r", path=tree + "/sub", **more):
    return {"Kind": "filesystem", "Name": name, "Config": {"path": path}, **more}


own_refused(VALUE, "POST", "/resources", filesystem(path=SCRATCH + "/no-such"), "no-such")
own_refused(VALUE, "POST", "/resources", filesystem(path="relative"), "path")
own_refused(VALUE, "POST", "/resources", filesystem(path=tree + "/a.txt"), "not a directory")
own_refused(EXISTS, "POST", "/resources", filesystem("source"))
own_refused(EXISTS, "POST", "/resources", filesystem("same-path", tree))
own_refused(VALUE, "POST", "/resources", filesystem("a b"))
own_refused(VALUE, "POST", "/resources", {**filesystem(), "Kind": "volume"})
own_refused(VALUE, "POST", "/resources", {**filesystem(), "Config": {"path": tree, "pth": "x"}}, "pth")
own_refused(VALUE, "POST", "/resources", filesystem(RpoSeconds=0), "RpoSeconds")
http = {"Type": "Http", "Port": 8080, "Path": "/"}
own_refused(VALUE, "POST", "/resources", filesystem(Probes=[http]), "Service")
own_refused(VALUE, "POST", "/resources", filesystem(Service={"Command": ["x"]}), "robe")
own_refused(VALUE, "POST", "/resources", filesystem(Service={"Command": []}, Probes=[http]))
own_refused(ABSENT, "GET", "/resources/none")
own_refused(ABSENT, "DELETE", "/resources/none")
own_refused(EXISTS, "POST", "/topics", {"Name": "events"})
own_refused(ABSENT, "POST", "/topics/none/subscriptions", {"Webhook": "http://127.0.0.1:1/"})
own_refused(VALUE, "POST", "/topics/events/subscriptions", {"Webhook": "ftp://x"})
own_refused(VALUE, "POST", "/topics/events/subscriptions",
            {"MailFile": {"Directory": "relative", "To": "a@example.org"}})
own_refused(STATE, "DELETE", "/roles/service-role%2FAWSBackupDefaultServiceRole")
own_refused(ABSENT, "POST", "/restore-tests", {"Resource": "none"})
own_refused(ABSENT, "POST", "/restore-tests", {"RecoveryPointArn": NO_POINT})
own_refused(ABSENT, "POST", "/vaults/no-such/export-password", {})
status, answer, headers = own("POST", "/resources", {**filesystem(), "Nmae": "x"}, expect=[400])
assert "Nmae" in answer["Message"], answer

# What is no request at all.
before = picture()
for body in (b"{", b"[]", b"nonsense", b'{"BackupVaultTags": []}', b'{"BackupVaultTags": {"a": 1}}'):
    status, answer, headers = raw("PUT", "/backup-vaults/malformed", body, expect=[400])
    assert headers["x-amzn-ErrorType"] == "SerializationException", (body, headers, answer)
status, answer, headers = raw("PUT", "/backup-vaults/large", b'{"a":"' + b"x" * (9 << 20) + b'"}', expect=[413])
assert headers["x-amzn-ErrorType"] == "RequestEntityTooLargeException", headers
status, answer, headers = raw("GET", "/no/such/path", expect=[404])
assert headers["x-amzn-ErrorType"] == "UnknownOperationException", headers
assert picture() == before
held()
