"""Restore jobs."""

import stat
import subprocess

from common import *

tree = make_tree("source", {"docs/a.txt": "alpha\n", "docs/deep/b.txt": "beta\n", "c.bin": "x" * 9000})
os.symlink("docs/a.txt", os.path.join(tree, "link"))
os.link(os.path.join(tree, "c.bin"), os.path.join(tree, "docs/same.bin"))
os.chmod(os.path.join(tree, "docs/a.txt"), 0o640)
os.setxattr(os.path.join(tree, "c.bin"), "user.note", b"kept")
os.utime(os.path.join(tree, "c.bin"), ns=(1_000_000_000_123_456_789,) * 2)
resource = add_directory("source", tree)
point = back_up(resource)["RecoveryPointArn"]
metadata = backup.get_recovery_point_restore_metadata(
    BackupVaultName="Default", RecoveryPointArn=point
)["RestoreMetadata"]


def target(name):
    return os.path.join(SCRATCH, name)


def start(name, token=None, **more):
    more = {"Metadata": {**metadata, "targetPath": target(name), **more}}
    if token:
        more["IdempotencyToken"] = token
    return backup.start_restore_job(RecoveryPointArn=point, IamRoleArn=ROLE, **more)


# The whole.
started = start("whole", token="restore-1")
job = ended_restore(started["RestoreJobId"])
assert job["Status"] == "COMPLETED", job
assert float(job["PercentDone"].rstrip("%")) == 100.0, job
assert job["RecoveryPointArn"] == point and job["ResourceType"] == "EFS", job
assert job["BackupSizeInBytes"] == 9000 + 6 + 5, job
assert job["CreatedResourceArn"].startswith("arn:aws:elasticfilesystem:"), job
assert start("whole", token="restore-1")["RestoreJobId"] == started["RestoreJobId"]
differences = subprocess.run(
    ["diff", "-r", "--no-dereference", tree, target("whole")], capture_output=True, text=True
)
assert differences.returncode == 0, differences.stdout
for name in ("", "docs", "docs/a.txt", "c.bin", "link", "docs/deep"):
    was, now = (os.lstat(os.path.join(place, name)) for place in (tree, target("whole")))
    for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_nlink"):
        assert getattr(was, field) == getattr(now, field), (name, field, was, now)
assert os.getxattr(os.path.join(target("whole"), "c.bin"), "user.note") == b"kept"
same = [os.stat(os.path.join(target("whole"), n)).st_ino for n in ("c.bin", "docs/same.bin")]
assert same[0] == same[1], "a hard link became a copy"
assert stat.S_IMODE(os.stat(os.path.join(target("whole"), "docs/a.txt")).st_mode) == 0o640
# What was restored is a resource of its own.
copies = [r for r in own("GET", "/resources")[1]["Resources"] if r["ResourceArn"] == job["CreatedResourceArn"]]
assert copies and copies[0]["Config"]["path"] == target("whole"), copies

# A part, in both spellings of AWS's documents.
for n, key in enumerate(("ItemsToRestore", "itemsToRestore")):
    job = ended_restore(
        start(f"part-{n}", **{key: json.dumps(["/docs/deep", "link"])})["RestoreJobId"]
    )
    assert job["Status"] == "COMPLETED", job
    found = sorted(
        os.path.relpath(os.path.join(base, name), target(f"part-{n}"))
        for base, directories, files in os.walk(target(f"part-{n}"))
        for name in directories + files
    )
    assert found == ["docs", "docs/deep", "docs/deep/b.txt", "link"], found

# Never over what is there.
existing = make_tree("existing", {"mine.txt": "mine\n"})
try:
    outcome = ended_restore(start("existing")["RestoreJobId"])
    assert outcome["Status"] == "FAILED" and "exists already" in outcome["StatusMessage"], outcome
except ClientError as error:
    assert "exists already" in str(error), error
assert sorted(os.listdir(existing)) == ["mine.txt"]

# An item that is not there.
outcome = ended_restore(start("absent", ItemsToRestore='["docs/none"]')["RestoreJobId"])
assert outcome["Status"] == "FAILED" and "docs/none" in outcome["StatusMessage"], outcome
assert not os.path.exists(target("absent"))

# Keys that are unknown, missing, contradictory: named.
def refused_keys(key, changes, name="InvalidParameterValueException"):
    given = {**metadata, "targetPath": target("never"), **changes}
    given = {k: v for k, v in given.items() if v is not None}
    refused(
        name,
        backup.start_restore_job,
        words=key,
        RecoveryPointArn=point,
        IamRoleArn=ROLE,
        Metadata=given,
    )


refused_keys("tragetPath", {"tragetPath": "/x"})
refused_keys("file-system-id", {"file-system-id": None}, "MissingParameterValueException")
refused_keys("newFileSystem", {"newFileSystem": "maybe"})
refused_keys("overwrite", {"overwrite": "always"})
refused_keys("overwrite", {"newFileSystem": "false", "overwrite": "sometimes"})
refused_keys(
    "overwrite",
    {"newFileSystem": "false", "targetPath": None},
    "MissingParameterValueException",
)
refused_keys("deleteExtra", {"newFileSystem": "false", "deleteExtra": "true"})
refused_keys("verify", {"verify": "perhaps"})
refused_keys("include", {"include": "*.txt"})
refused_keys("targetPath", {"targetPath": "relative"})
refused_keys("targetPath", {"targetPath": "/a/../b"})
refused_keys("ItemsToRestore", {"ItemsToRestore": "docs"})
refused_keys("ItemsToRestore", {"ItemsToRestore": "[]"})
refused_keys("ItemsToRestore", {"ItemsToRestore": '["../up"]'})
refused_keys("KmsKeyId", {"KmsKeyId": "x"})
assert not os.path.exists(target("never"))

# Nothing is left beside any target.
left = [name for name in os.listdir(SCRATCH) if name.startswith(".")]
assert left == [], left

jobs = pages("list_restore_jobs", "RestoreJobs", PaginationConfig={"PageSize": 2})
assert len(jobs) >= 4 and jobs[0]["RestoreJobId"] == started["RestoreJobId"], jobs
done = pages("list_restore_jobs", "RestoreJobs", ByStatus="COMPLETED")
assert len(done) == 3 and all(j["Status"] == "COMPLETED" for j in done), done
assert pages("list_restore_jobs", "RestoreJobs", ByResourceType="EBS") == []
seen = backup.describe_recovery_point(BackupVaultName="Default", RecoveryPointArn=point)
assert seen["LastRestoreTime"] >= seen["CreationDate"], seen
held()
