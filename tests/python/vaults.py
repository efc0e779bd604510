"""Vaults, their notifications and their tags."""

from common import *

names = [v["BackupVaultName"] for v in pages("list_backup_vaults", "BackupVaultList")]
assert names == ["Default"], names

made = backup.create_backup_vault(
    BackupVaultName="myappdbprod_backup_vault",
    BackupVaultTags={"env": "prod"},
    CreatorRequestId="request-1",
)
arn = f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:myappdbprod_backup_vault"
assert made["BackupVaultArn"] == arn, made
again = backup.create_backup_vault(
    BackupVaultName="myappdbprod_backup_vault", CreatorRequestId="request-1"
)
assert again["BackupVaultArn"] == arn and again["CreationDate"] == made["CreationDate"], again

seen = backup.describe_backup_vault(BackupVaultName="myappdbprod_backup_vault")
assert seen["NumberOfRecoveryPoints"] == 0 and seen["BackupVaultArn"] == arn, seen
assert seen["EncryptionKeyArn"].startswith(f"arn:aws:kms:{REGION}:{ACCOUNT}:key/"), seen
assert seen["CreationDate"].year >= 2024, seen
assert seen["Locked"] is False, seen

# A key of one's own.
key = own("POST", "/keys", {"Name": "mine"})[1]["Arn"]
backup.create_backup_vault(BackupVaultName="with-own-key", EncryptionKeyArn=key)
seen = backup.describe_backup_vault(BackupVaultName="with-own-key")
assert seen["EncryptionKeyArn"] == key, seen

# Creation order, in pages of every size.
for n in range(5):
    backup.create_backup_vault(BackupVaultName=f"vault-{n}")
wanted = ["Default", "myappdbprod_backup_vault", "with-own-key"] + [f"vault-{n}" for n in range(5)]
for size in (1, 2, 3, 7, 8, 100):
    found = pages("list_backup_vaults", "BackupVaultList", PaginationConfig={"PageSize": size})
    assert [v["BackupVaultName"] for v in found] == wanted, (size, found)

# Tags.
backup.tag_resource(ResourceArn=arn, Tags={"env": "test", "team": "db"})
assert backup.list_tags(ResourceArn=arn)["Tags"] == {"env": "test", "team": "db"}
backup.untag_resource(ResourceArn=arn, TagKeyList=["env", "absent"])
assert backup.list_tags(ResourceArn=arn)["Tags"] == {"team": "db"}

# Notifications.
topic = own("POST", "/topics", {"Name": "events"})[1]["Arn"]
assert topic == f"arn:aws:sns:{REGION}:{ACCOUNT}:events", topic
backup.put_backup_vault_notifications(
    BackupVaultName="vault-0",
    SNSTopicArn=topic,
    BackupVaultEvents=["BACKUP_JOB_COMPLETED", "RESTORE_JOB_COMPLETED"],
)
got = backup.get_backup_vault_notifications(BackupVaultName="vault-0")
assert got["SNSTopicArn"] == topic, got
assert got["BackupVaultEvents"] == ["BACKUP_JOB_COMPLETED", "RESTORE_JOB_COMPLETED"], got
assert got["BackupVaultArn"].endswith(":vault-0"), got
backup.delete_backup_vault_notifications(BackupVaultName="vault-0")
refused(
    "ResourceNotFoundException",
    backup.get_backup_vault_notifications,
    BackupVaultName="vault-0",
)

for n in range(5):
    backup.delete_backup_vault(BackupVaultName=f"vault-{n}")
left = [v["BackupVaultName"] for v in pages("list_backup_vaults", "BackupVaultList")]
assert left == wanted[:3], left
held()
