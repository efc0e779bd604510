"""Signs requests with botocore and prints them as JSON lines, as they would stand on the wire.

Usage: botocore_signer.py SEED COUNT

First come calls of the real AWS Backup client, caught just before they are sent, then COUNT random
requests through the signer alone. SEED makes the latter repeatable, dates aside.
"""

import base64
import json
import random
import sys
from urllib.parse import quote, urlsplit

import botocore.session
from botocore.auth import SigV4Auth, SigV4QueryAuth, _host_from_url
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials

REGION = "eu-central-1"


def text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def emit(kind, prepared, headers, credentials, region, date):
    parts = urlsplit(prepared.url)
    headers = [[text(k), text(v)] for k, v in headers.items()]
    if not any(k.lower() == "host" for k, _ in headers):
        headers.append(["Host", _host_from_url(prepared.url)])
    body = prepared.body or b""
    if isinstance(body, str):
        body = body.encode("utf-8")
    elif not isinstance(body, (bytes, bytearray)):
        body = body.read()
    print(json.dumps({
        "kind": kind,
        "method": prepared.method,
        "path": parts.path,
        "query": parts.query,
        "headers": headers,
        "body": base64.b64encode(body).decode("ascii"),
        "access_key_id": credentials.access_key,
        "secret": credentials.secret_key,
        "token": credentials.token,
        "region": region,
        "date": date,
    }))


def client_calls():
    for token in (None, "FwoGZXIvYXdzE//token+with/odd=characters=="):
        credentials = Credentials("AKIACLIENT2345672345", "client+secret/0123456789abcdefghijklmnop", token)
        session = botocore.session.get_session()
        client = session.create_client(
            "backup", region_name=REGION, endpoint_url="http://127.0.0.1:7070",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=token,
        )

        def catch(request, **_):
            emit("client", request, request.headers, credentials, REGION, text(request.headers["X-Amz-Date"]))
            response = AWSResponse(request.url, 200, {}, None)
            response._content = b"{}"
            return response

        client.meta.events.register("before-send.backup", catch)
        arn = "arn:aws:backup:eu-central-1:123456789012:recovery-point:1EB3B5E7-9EB0-435A-A80B-108B488B0D45"
        vault = "arn:aws:backup:eu-central-1:123456789012:backup-vault:Default"
        client.list_tags(ResourceArn=vault)
        client.tag_resource(ResourceArn=vault, Tags={"Ünï": "cödé ☃", "workload": "myapp"})
        client.untag_resource(ResourceArn=vault, TagKeyList=["a b", "ü"])
        client.create_backup_vault(BackupVaultName="myapp", BackupVaultTags={"k": "v"})
        client.describe_backup_vault(BackupVaultName="Default")
        client.list_backup_vaults(MaxResults=3, NextToken="a+b/c=&d e%20")
        client.delete_backup_vault(BackupVaultName="my_app-1")
        client.describe_recovery_point(BackupVaultName="Default", RecoveryPointArn=arn)
        client.get_recovery_point_restore_metadata(BackupVaultName="Default", RecoveryPointArn=arn)
        client.delete_recovery_point(BackupVaultName="Default", RecoveryPointArn=arn)
        client.list_recovery_points_by_backup_vault(
            BackupVaultName="Default", ByCreatedAfter="2026-01-02T03:04:05Z",
            ByResourceArn="arn:aws:s3:::bucket")
        client.list_recovery_points_by_resource(
            ResourceArn="arn:aws:elasticfilesystem:eu-central-1:123456789012:file-system/fs-0123")
        client.list_backup_jobs(ByState="COMPLETED", ByCreatedBefore="2026-01-02T03:04:05.678Z")
        client.start_backup_job(
            BackupVaultName="Default", ResourceArn="arn:aws:s3:::b",
            IamRoleArn="arn:aws:iam::123456789012:role/r")
        client.stop_backup_job(BackupJobId="1EB3B5E7-9EB0-435A-A80B-108B488B0D45")
        client.list_backup_plans(IncludeDeleted=True)
        client.export_backup_plan_template(BackupPlanId="ÄÖ/ü plan~1")
        client.disassociate_backup_vault_mpa_approval_team(BackupVaultName="Default")


PATH_PIECES = [
    "backup-vaults", "Default", "tags", "~tilde~", "a.b", "-_-", "arn:aws:backup:r:1:v/x y",
    "ünïcödé ☃", "100%", "a+b", "(x)*!'", "a=b&c", "@$,;", "%2F",
]
TEXTS = ["", "a", "B", "a b", "a+b", "100%", "ü☃", "arn:aws:s3:::b", "x/y", "=", "&", "~-_.", "*'()!", "a%20b"]
BODIES = ["", "{}", '{"BackupVaultName": "ünïcödé ☃"}', "x", "\n", " " * 1000]


def random_url(rng):
    path = ""
    for _ in range(rng.randrange(5)):
        path += rng.choice(["/", "/", "/", "//", "/./", "/x/../", "///"])
        path += quote(rng.choice(PATH_PIECES), safe=rng.choice(["", "", ":", "~", "@:"]))
    if not path or rng.random() < 0.2:
        path += rng.choice(["/", "/", "//"])
    pairs = []
    for _ in range(rng.choice([0, 0, 1, 2, 3, 6])):
        key = quote(rng.choice(TEXTS[1:]), safe="-_.~")
        shape = rng.randrange(8)
        if shape == 0:
            pairs.append(key)  # ?delete
        elif shape == 1:
            pairs.append(key + "=")
        elif shape == 2:
            # Not strictly encoded: botocore signs it as it is.
            pairs.append("odd=" + rng.choice(["a+b", "x/y", "a:b", "(1)", "%c3%bc", "a=b"]))
        else:
            pairs.append(key + "=" + quote(rng.choice(TEXTS), safe="-_.~"))
    if pairs and rng.random() < 0.3:
        pairs.append(rng.choice(pairs))
    if rng.random() < 0.1:
        pairs.append("delete")
    rng.shuffle(pairs)
    host = rng.choice(["127.0.0.1:7070", "localhost", "backup.example.com:8443", "[::1]:7070", "h:80"])
    return "http://" + host + path + ("?" + "&".join(pairs) if pairs else "")


def random_requests(rng, count):
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    for _ in range(count):
        credentials = Credentials(
            "AKIA" + "".join(rng.choice(alphabet) for _ in range(16)),
            base64.b64encode(rng.randbytes(30)).decode("ascii"),
            rng.choice([None, None, base64.b64encode(rng.randbytes(90)).decode("ascii")]),
        )
        region = rng.choice(["us-east-1", "eu-central-1", "home"])
        presign = rng.random() < 0.15
        headers = {}
        for name, values in [
            ("Content-Type", ["application/json", "application/x-amz-json-1.1"]),
            ("X-Amz-Meta", ["  a   b  c ", "x", '"quoted  text"', ""]),
            ("User-Agent", ["Boto3/1 md/x"]),
            ("X-Odd", ["a,b", "tab\tin  between", "~"]),
            ("Date", ["replaced by the signer"]),
        ]:
            if rng.random() < 0.3:
                headers[name] = rng.choice(values)
        if presign:
            headers.pop("Date", None)
        body = "" if presign else rng.choice(BODIES)
        request = AWSRequest(
            method=rng.choice(["GET", "PUT", "POST", "DELETE", "HEAD"]), url=random_url(rng),
            headers=headers, data=body.encode("utf-8"),
        )
        if not presign and rng.random() < 0.2:
            request.url = request.url.split("?")[0]
            request.params = {rng.choice(TEXTS[1:]): rng.choice(TEXTS) for _ in range(3)}
        if not presign and rng.random() < 0.2:
            # Repeated headers are joined when signed.
            request.headers["X-Twice"] = "first"
            request.headers["X-Twice"] = "second  value"
        signer = SigV4QueryAuth if presign else SigV4Auth
        signer(credentials, "backup", region).add_auth(request)
        # The signer's own headers: preparing would keep only the last of a repeated one.
        emit("presigned" if presign else "header", request.prepare(), request.headers, credentials,
             region, request.context["timestamp"])


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    client_calls()
    random_requests(random.Random(seed), count)


main()
