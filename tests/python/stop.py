"""Stopping a backup job that runs."""

from common import *

tree = os.path.join(SCRATCH, "large")
os.makedirs(tree)
# Enough that the job certainly still runs when it is asked to stop.
for n in range(100):
    with open(os.path.join(tree, f"{n:03}.bin"), "wb") as out:
        out.write(os.urandom(1 << 20))
resource = add_directory("large", tree)
job = backup.start_backup_job(BackupVaultName="Default", ResourceArn=resource, IamRoleArn=ROLE)
job = job["BackupJobId"]
until(
    "the job to run",
    lambda: backup.describe_backup_job(BackupJobId=job)["State"] == "RUNNING",
)
# One running job a resource: a second one waits.
other = backup.start_backup_job(BackupVaultName="Default", ResourceArn=resource, IamRoleArn=ROLE)
other = other["BackupJobId"]
seen = backup.describe_backup_job(BackupJobId=other)["State"]
assert seen in ("CREATED", "PENDING"), seen
backup.stop_backup_job(BackupJobId=other)
assert ended_backup(other)["State"] == "ABORTED"

running = backup.describe_backup_job(BackupJobId=job)
backup.stop_backup_job(BackupJobId=job)
state = backup.describe_backup_job(BackupJobId=job)["State"]
assert state in ("ABORTING", "ABORTED"), state
ended = ended_backup(job)
assert ended["State"] == "ABORTED", ended
assert ended["StatusMessage"], ended
assert "RecoveryPointArn" not in ended, ended
assert pages("list_recovery_points_by_backup_vault", "RecoveryPoints", BackupVaultName="Default") == []
states = [
    entry["State"] for entry in own("GET", f"/jobs/{job}/log")[1]["Entries"] if "State" in entry
]
assert states[-2:] == ["ABORTING", "ABORTED"], states
# The resource can be backed up again.
for n in range(1, 100):
    os.remove(os.path.join(tree, f"{n:03}.bin"))
assert back_up(resource)["State"] == "COMPLETED"
held()
