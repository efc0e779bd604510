"""Backup jobs, recovery points, protected resources."""

import datetime
import time

from common import *

tree = make_tree("source", {"a.txt": "alpha\n", "sub/b.txt": "beta\n" * 1000, "empty": ""})
size = sum(
    os.path.getsize(os.path.join(base, name)) for base, _, names in os.walk(tree) for name in names
)
resource = add_directory("source", tree, Tags={"workload": "myapp"})
backup.create_backup_vault(BackupVaultName="second")

asked = dict(
    BackupVaultName="Default",
    ResourceArn=resource,
    IamRoleArn=ROLE,
    IdempotencyToken="token-1",
    Lifecycle={"DeleteAfterDays": 1},
    RecoveryPointTags={"made": "by hand"},
)
# What changed less than two seconds before a backup is read again by the next.
time.sleep(2.1)
started = backup.start_backup_job(**asked)
again = backup.start_backup_job(**asked)
assert again["BackupJobId"] == started["BackupJobId"], (started, again)
job = ended_backup(started["BackupJobId"])
assert job["State"] == "COMPLETED", job
assert job["BackupSizeInBytes"] == size, (size, job)
assert job["BytesTransferred"] == size, (size, job)
assert float(job["PercentDone"]) == 100.0, job
assert job["ResourceArn"] == resource and job["ResourceType"] == "EFS", job
assert job["IamRoleArn"] == ROLE and job["AccountId"] == ACCOUNT, job
assert job["BackupVaultName"] == "Default", job
assert job["CreationDate"] <= job["CompletionDate"], job
assert job["StartBy"] - job["CreationDate"] == datetime.timedelta(minutes=480), job
now = datetime.datetime.now(datetime.timezone.utc)
assert abs(now - job["CompletionDate"]) < datetime.timedelta(hours=1), job
again = backup.start_backup_job(**asked)
assert again["BackupJobId"] == started["BackupJobId"], "the token outlives the job"
refused(
    "ConflictException",
    backup.start_backup_job,
    **{**asked, "BackupVaultName": "second"},
)
point = job["RecoveryPointArn"]

# An unchanged source is not read again.
second = back_up(resource)
assert second["BackupSizeInBytes"] == size and second["BytesTransferred"] == 0, second
third = back_up(resource, vault="second")

# Listing.
jobs = pages("list_backup_jobs", "BackupJobs", PaginationConfig={"PageSize": 1})
ids = [j["BackupJobId"] for j in jobs]
assert ids == [started["BackupJobId"], second["BackupJobId"], third["BackupJobId"]], ids


def listed(**by):
    return [j["BackupJobId"] for j in pages("list_backup_jobs", "BackupJobs", **by)]


assert listed(ByBackupVaultName="second") == [third["BackupJobId"]]
assert listed(ByState="COMPLETED") == ids and listed(ByState="FAILED") == []
assert listed(ByResourceArn=resource) == ids and listed(ByResourceArn=NOWHERE) == []
assert listed(ByResourceType="EFS") == ids and listed(ByResourceType="EBS") == []
hour = datetime.timedelta(hours=1)
assert listed(ByCreatedAfter=now - hour) == ids and listed(ByCreatedAfter=now + hour) == []
assert listed(ByCreatedBefore=now - hour) == [] and listed(ByCreatedBefore=now + hour) == ids

# Stopping: what is over cannot be stopped.
refused("InvalidRequestException", backup.stop_backup_job, BackupJobId=started["BackupJobId"])

# Recovery points.
points = pages(
    "list_recovery_points_by_backup_vault",
    "RecoveryPoints",
    BackupVaultName="Default",
    PaginationConfig={"PageSize": 1},
)
assert [p["RecoveryPointArn"] for p in points] == [point, second["RecoveryPointArn"]], points
assert all(p["Status"] == "COMPLETED" and p["BackupSizeInBytes"] == size for p in points), points
by_resource = pages(
    "list_recovery_points_by_resource", "RecoveryPoints", ResourceArn=resource
)
assert len(by_resource) == 3, by_resource
assert {p["BackupVaultName"] for p in by_resource} == {"Default", "second"}, by_resource
seen = backup.describe_recovery_point(BackupVaultName="Default", RecoveryPointArn=point)
assert seen["Status"] == "COMPLETED" and seen["BackupSizeInBytes"] == size, seen
assert seen["StorageClass"] == "WARM" and seen["ResourceArn"] == resource, seen
assert seen["Lifecycle"]["DeleteAfterDays"] == 1, seen
delete_at = seen["CalculatedLifecycle"]["DeleteAt"]
assert delete_at - seen["CreationDate"] == datetime.timedelta(days=1), seen
assert backup.list_tags(ResourceArn=point)["Tags"] == {"workload": "myapp", "made": "by hand"}
counted = backup.describe_backup_vault(BackupVaultName="Default")["NumberOfRecoveryPoints"]
assert counted == 2, counted

# A restore's metadata.
metadata = backup.get_recovery_point_restore_metadata(
    BackupVaultName="Default", RecoveryPointArn=point
)
assert metadata["RestoreMetadata"]["file-system-id"] == resource.split("/")[-1], metadata
assert metadata["RestoreMetadata"]["sourcePath"] == tree, metadata
assert metadata["BackupVaultArn"].endswith(":Default"), metadata
assert metadata["RecoveryPointArn"] == point, metadata

# Protected resources.
protected = pages("list_protected_resources", "Results")
assert [p["ResourceArn"] for p in protected] == [resource], protected
assert protected[0]["ResourceType"] == "EFS" and protected[0]["ResourceName"] == "source", protected
seen = backup.describe_protected_resource(ResourceArn=resource)
assert seen["ResourceArn"] == resource and seen["LastBackupTime"] >= job["CreationDate"], seen
refused("ResourceNotFoundException", backup.describe_protected_resource, ResourceArn=NOWHERE)

# Deleting recovery points, then the vault that held one.
refused("InvalidRequestException", backup.delete_backup_vault, BackupVaultName="second", words="1 recovery point")
backup.delete_recovery_point(
    BackupVaultName="second", RecoveryPointArn=third["RecoveryPointArn"]
)
refused(
    "ResourceNotFoundException",
    backup.describe_recovery_point,
    BackupVaultName="second",
    RecoveryPointArn=third["RecoveryPointArn"],
)
backup.delete_backup_vault(BackupVaultName="second")
assert len(pages("list_recovery_points_by_resource", "RecoveryPoints", ResourceArn=resource)) == 2

# A resource that is registered no more: no new backups, its recovery points stay.
own("DELETE", "/resources/source")
assert len(pages("list_recovery_points_by_resource", "RecoveryPoints", ResourceArn=resource)) == 2
refused(
    "ResourceNotFoundException",
    backup.start_backup_job,
    BackupVaultName="Default",
    ResourceArn=resource,
    IamRoleArn=ROLE,
)
held()
