"""The other side of tests/botocore.rs: botocore, given our model.

usage: botocore_peer.py MODEL requests|responses|patterns

Speaks JSON, one object a line. botocore's own serializer and parser do the work; the service model
is the file in model/, so any botocore of these years will do.
"""

import datetime
import itertools
import json
import re
import sys

from botocore import awsrequest, model, parsers, serialize

UTC = datetime.timezone.utc
FITTING = {
    r"^[a-zA-Z0-9\-\_\.]{1,50}$": ["x", "a.B-c_9" * 7],
    r".*\S.*": ["words", " x\t"],
    r"[a-zA-Z][_a-zA-Z0-9]*": ["f", "Frame_work9"],
    r"^[0-9]{12}$": ["123456789012"],
    r"^[a-zA-Z0-9\-\_]{2,50}$": ["ab", "-_" * 25],
    r"^(\*|[a-zA-Z0-9\-\_]{2,50})$": ["*", "vault"],
    r"^[a-zA-Z0-9_]{1,200}$": ["_", "a" * 200],
    r"(arn:aws[a-z-]*:[a-z-\d]+:[a-z-\d]+:).+": ["arn:aws:backup:us-east-1:123456789012:recovery-point:a/b c%2F"],
    r"(arn:aws[a-z-]*:[a-z-\d]+:).+": ["arn:aws:s3:::bucket", "arn:aws-cn:ec2:r:1:volume/vol-ë?x=1&y"],
}
ACCESS_POINT = ["point-1", "a1b"]
TEXTS = ["plain", "a/b//c", "50%2F %", "x?y&z=1+1 #", "Zoë 備份 🗄", '"q" \\ b', "~-._", "a=b;c,d:@!$'()*"]
WHOLE = datetime.datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)
TIMES = [WHOLE, WHOLE.replace(microsecond=250000), WHOLE.astimezone(datetime.timezone(datetime.timedelta(hours=5)))]


class Sampler:
    """Makes parameters for botocore and, beside them, what the server should see."""

    def __init__(self, seed):
        self.turn = itertools.count(seed)

    def structure(self, shape, full):
        params, seen = {}, {}
        for name, member in shape.members.items():
            if full or name in shape.required_members:
                place = member.serialization.get("location")
                params[name], seen[name] = self.value(member, full, place)
        return params, seen

    def value(self, shape, full, place=None):
        turn = next(self.turn)
        kind = shape.type_name
        limits = shape.metadata
        if kind == "structure":
            return self.structure(shape, full)
        if kind == "list":
            pairs = [self.value(shape.member, full) for _ in range(max(2, limits.get("min", 0)))]
            return [p for p, _ in pairs], [s for _, s in pairs]
        if kind == "map":
            entries = {}
            for _ in range(2):
                key, _ = self.value(shape.key, full)
                entries[key] = self.value(shape.value, full)
            return {k: p for k, (p, _) in entries.items()}, {k: s for k, (_, s) in entries.items()}
        if kind == "timestamp":
            time = TIMES[turn % 3]
            # In a body botocore cuts the fraction off.
            fraction = time.microsecond / 1e6 if place == "querystring" else 0
            whole = int(time.timestamp())
            return time, whole + fraction if fraction else whole
        if kind == "boolean":
            value = turn % 2 == 0
        elif kind in ("integer", "long"):
            top = 2**31 - 1 if kind == "integer" else 2**63 - 1
            value = [limits.get("min", -top), limits.get("max", top)][turn % 2]
        elif shape.enum:
            value = shape.enum[turn % len(shape.enum)]
        elif "pattern" in limits:
            pattern = limits["pattern"]
            if pattern.startswith("(arn:aws[a-z-]*:backup"):
                choices = ["arn:aws:backup:us-east-1:123456789012:accesspoint/" + p for p in ACCESS_POINT]
            elif pattern.startswith(r"[\da-z]{1}"):
                choices = ACCESS_POINT
            else:
                choices = FITTING[pattern]
            value = choices[turn % len(choices)]
        else:
            value = TEXTS[turn % len(TEXTS)]
        return value, value


def requests(service):
    serializer = serialize.create_serializer("rest-json", include_validation=True)
    for name in service.operation_names:
        operation = service.operation_model(name)
        for seed in range(9):
            params, seen = {}, {}
            if operation.input_shape:
                params, seen = Sampler(seed).structure(operation.input_shape, seed % 3 != 0)
            request = serializer.serialize_to_request(params, operation)
            awsrequest.prepare_request_dict(request, endpoint_url="http://server.test")
            prepared = awsrequest.create_request_object(request).prepare()
            body = prepared.body or b""
            yield {
                "operation": name,
                "method": prepared.method,
                "target": prepared.url.removeprefix("http://server.test"),
                "body": body if isinstance(body, str) else body.decode(),
                "members": seen,
            }


def responses(service, answers):
    def plain(value):
        if isinstance(value, datetime.datetime):
            seconds = round(value.timestamp(), 3)
            return int(seconds) if seconds == int(seconds) else seconds
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    parser = parsers.create_parser("rest-json")
    for answer in answers:
        operation = service.operation_model(answer["operation"])
        parsed = parser.parse(
            {
                "status_code": answer["status"],
                "headers": awsrequest.HeadersDict(answer["headers"]),
                "body": answer["body"].encode(),
            },
            operation.output_shape,
        )
        parsed.pop("ResponseMetadata")
        yield plain(parsed)


def patterns(candidates):
    for candidate in candidates:
        # A dot that matches line breaks only for the pattern of descriptions: see pattern.rs.
        flags = re.ASCII | (re.DOTALL if candidate["pattern"] == r".*\S.*" else 0)
        yield bool(re.fullmatch(candidate["pattern"], candidate["text"], flags))


def main():
    path, mode = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        service = model.ServiceModel(json.load(file)["service"])
    lines = (json.loads(line) for line in sys.stdin.buffer)
    results = {
        "requests": lambda: requests(service),
        "responses": lambda: responses(service, lines),
        "patterns": lambda: patterns(lines),
    }[mode]()
    # Everything is read before anything is written, so that neither pipe can fill up.
    for result in list(results):
        print(json.dumps(result))


main()
