"""Who is not let in, and operations without behaviour."""

import datetime

from botocore import auth, xform_name

from common import *

session = boto3.Session()
good = session.get_credentials()


def client(key=good.access_key, secret=good.secret_key, token=None):
    return boto3.client(
        "backup",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=CONFIG,
    )


refused("InvalidSignatureException", client(secret="x" * 40).list_backup_vaults, status=403)
refused("InvalidSignatureException", client(secret="x" * 40).create_backup_vault,
        BackupVaultName="forged", status=403)
refused("UnrecognizedClientException", client(key="AKIA0000000000000000").list_backup_vaults,
        status=403)


def signed_at(shift):
    """Signs a request by hand at another time; gives status and error name."""
    when = datetime.datetime.now(datetime.timezone.utc) + shift
    request = AWSRequest("GET", ENDPOINT + "/backup-vaults/")
    signer = auth.SigV4Auth(good, "backup", REGION)
    stamp = when.strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    request.headers["Host"] = ENDPOINT.removeprefix("http://")
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    signer._inject_signature_to_request(request, signature)
    sent = urllib.request.Request(ENDPOINT + "/backup-vaults/")
    for name, value in request.headers.items():
        sent.add_header(name, value)
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, error.headers["x-amzn-ErrorType"]


minute = datetime.timedelta(minutes=1)
assert signed_at(datetime.timedelta()) == (200, None), signed_at(datetime.timedelta())
assert signed_at(10 * minute) == (200, None) and signed_at(-10 * minute) == (200, None)
for shift in (20 * minute, -20 * minute, -24 * 60 * minute):
    status, name = signed_at(shift)
    assert status == 403 and name in ("RequestExpired", "InvalidSignatureException"), (shift, name)

# Nothing at all, and half of it.
for headers, status, names in (
    ({}, 403, ("MissingAuthenticationTokenException",)),
    ({"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, 400, ("IncompleteSignatureException",)),
    ({"Authorization": "Basic eDp5"}, (400, 403),
     ("IncompleteSignatureException", "MissingAuthenticationTokenException")),
):
    sent = urllib.request.Request(ENDPOINT + "/backup-vaults/", headers=headers)
    try:
        urllib.request.urlopen(sent)
        raise AssertionError("let in")
    except urllib.error.HTTPError as error:
        assert error.headers["x-amzn-ErrorType"] in names, (headers, error.headers.items())
        assert error.code in (status if isinstance(status, tuple) else (status,)), error.code
        assert error.headers["x-amzn-RequestId"], error.headers

# Every operation without behaviour says so by its name, and the list of them is complete.
listed = os.path.join(os.path.dirname(__file__), "../../model/not-implemented.txt")
with open(listed) as file:
    unimplemented = [line.strip() for line in file if line.strip()]
model = backup.meta.service_model


def filler(shape):
    """Some value of the right type."""
    if shape.type_name == "structure":
        return {n: filler(m) for n, m in shape.members.items() if n in shape.required_members}
    if shape.type_name == "list":
        return [filler(shape.member)]
    if shape.type_name == "map":
        return {"key": filler(shape.value)}
    if shape.type_name in ("integer", "long"):
        return 1
    if shape.type_name == "boolean":
        return True
    if shape.type_name == "timestamp":
        return datetime.datetime.now(datetime.timezone.utc)
    return shape.enum[0] if getattr(shape, "enum", None) else "some-text"


before = picture()
for name in unimplemented:
    if name not in model.operation_names:
        # An older botocore than the model's.
        continue
    shape = model.operation_model(name).input_shape
    call = getattr(backup, xform_name(name))
    try:
        call(**(filler(shape) if shape else {}))
        raise AssertionError(f"{name} is listed as not implemented and answered")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NotImplementedException", (name, error)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 501, (name, error)
        assert name in error.response["Error"]["Message"], error
for name in set(model.operation_names) - set(unimplemented):
    shape = model.operation_model(name).input_shape
    if name.startswith(("Create", "Delete", "Start", "Put", "Update")):
        continue
    try:
        getattr(backup, xform_name(name))(**(filler(shape) if shape else {}))
    except ClientError as error:
        assert error.response["Error"]["Code"] != "NotImplementedException", (name, error)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] < 500, (name, error)
assert picture() == before
held()
