"""What the boto3 scripts share: clients, waiting, refusals, and a picture of all there is.

A script is run by tests/tests/boto3.rs with AWS's own environment variables set; it prints
"all checks held" as its last act.
"""

import json
import os
import time
import urllib.error
import urllib.request

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = os.environ["AWS_REGION"]
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/AWSBackupDefaultServiceRole"
SCRATCH = os.environ["PROVAULT_TEST_DIR"]
ENDPOINT = os.environ["PROVAULT_TEST_ENDPOINT"]
NOWHERE = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/fs-00000000000000000"
NO_POINT = f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:00000000-0000-0000-0000-000000000000"

# Clients do not check what they send: whether the server does is the question.
CONFIG = Config(parameter_validation=False, retries={"total_max_attempts": 1})
backup = boto3.client("backup", config=CONFIG)


def own(method, path, body=None, expect=range(200, 300)):
    """Calls one of our own operations; gives status and JSON."""
    data = None if body is None else json.dumps(body).encode()
    return raw(method, "/provault/v1" + path, data, expect)


def raw(method, path, data=None, expect=range(200, 300), headers=None):
    """Sends a signed request as it is; gives status, JSON and headers."""
    request = AWSRequest(method, ENDPOINT + path, data=data, headers=headers or {})
    SigV4Auth(boto3.Session().get_credentials(), "backup", REGION).add_auth(request)
    sent = urllib.request.Request(ENDPOINT + path, data=data, method=method)
    for name, value in request.headers.items():
        sent.add_header(name, value)
    try:
        with urllib.request.urlopen(sent) as answer:
            status, text, headers = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, text, headers = error.code, error.read(), error.headers
    assert status in expect, (method, path, status, text)
    return status, json.loads(text) if text else None, headers


def add_directory(name, path, **more):
    """Registers a directory; gives its ARN."""
    body = {"Kind": "filesystem", "Name": name, "Config": {"path": path}, **more}
    return own("POST", "/resources", body)[1]["ResourceArn"]


def make_tree(name, files=None):
    """A small directory below the scratch directory."""
    path = os.path.join(SCRATCH, name)
    os.makedirs(path, exist_ok=True)
    for file, content in (files or {"a.txt": "alpha\n", "sub/b.txt": "beta\n" * 100}).items():
        full = os.path.join(path, file)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as out:
            out.write(content)
    return path


def until(what, look, limit=120):
    """Looks every 50 ms until there is something."""
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {limit} s in vain for {what}"
        time.sleep(0.05)


def ended_backup(job_id):
    def look():
        job = backup.describe_backup_job(BackupJobId=job_id)
        ends = ("COMPLETED", "PARTIAL", "FAILED", "ABORTED", "EXPIRED")
        return job if job["State"] in ends else None

    return until(f"the end of backup job {job_id}", look)


def ended_restore(job_id):
    def look():
        job = backup.describe_restore_job(RestoreJobId=job_id)
        return job if job["Status"] in ("COMPLETED", "FAILED", "ABORTED") else None

    return until(f"the end of restore job {job_id}", look)


def back_up(resource, vault="Default", **more):
    """Backs up, which must succeed; gives the finished job."""
    job = backup.start_backup_job(
        BackupVaultName=vault, ResourceArn=resource, IamRoleArn=ROLE, **more
    )
    job = ended_backup(job["BackupJobId"])
    assert job["State"] == "COMPLETED", job
    return job


def pages(operation, key, **parameters):
    """All results of a list, by boto3's own paginator."""
    found = []
    for page in backup.get_paginator(operation).paginate(**parameters):
        found += page.get(key, [])
    return found


def picture():
    """All there is, to be compared before and after a request that must change nothing."""
    vaults = pages("list_backup_vaults", "BackupVaultList")
    plans = pages("list_backup_plans", "BackupPlansList", IncludeDeleted=True)
    all_points = []
    for vault in vaults:
        name = vault["BackupVaultName"]
        all_points += pages(
            "list_recovery_points_by_backup_vault", "RecoveryPoints", BackupVaultName=name
        )
        vault["Tags"] = backup.list_tags(ResourceArn=vault["BackupVaultArn"])["Tags"]
        try:
            vault["Events"] = backup.get_backup_vault_notifications(BackupVaultName=name)
            del vault["Events"]["ResponseMetadata"]
        except ClientError:
            vault["Events"] = None
    for plan in plans:
        plan["Versions"] = pages(
            "list_backup_plan_versions", "BackupPlanVersionsList", BackupPlanId=plan["BackupPlanId"]
        )
        plan["Selections"] = pages(
            "list_backup_selections", "BackupSelectionsList", BackupPlanId=plan["BackupPlanId"]
        )
    testing = pages("list_restore_testing_plans", "RestoreTestingPlans")
    for plan in testing:
        plan["Selections"] = pages(
            "list_restore_testing_selections",
            "RestoreTestingSelections",
            RestoreTestingPlanName=plan["RestoreTestingPlanName"],
        )
    ours = [own("GET", path)[1] for path in ("/resources", "/roles", "/keys", "/topics")]
    jobs = pages("list_backup_jobs", "BackupJobs"), pages("list_restore_jobs", "RestoreJobs")
    return vaults, plans, testing, all_points, jobs, ours


def refused(name, call, *, words=(), status=None, **parameters):
    """The call must be refused under this name, in words that help, and change nothing."""
    before = picture()
    try:
        answer = call(**parameters)
    except ClientError as error:
        got, meta = error.response["Error"], error.response["ResponseMetadata"]
        assert got["Code"] == name, f"{name} expected: {error}"
        assert status is None or meta["HTTPStatusCode"] == status, error.response
        assert len(got["Message"]) > 10, f"no helpful message: {error}"
        assert meta.get("RequestId"), error.response
        for word in (words,) if isinstance(words, str) else words:
            assert word in got["Message"], f"'{word}' not in: {got['Message']}"
    else:
        raise AssertionError(f"{name} expected, but it was accepted: {parameters} {answer}")
    after = picture()
    assert before == after, f"something changed:\n{before}\n{after}"


def held():
    print("all checks held")
