"""Plans with versions, and selections."""

from common import *


def document(name, **rule):
    rule = {"RuleName": "Monthly", "TargetBackupVaultName": "not-made-yet", **rule}
    return {"BackupPlanName": name, "Rules": [rule]}


made = backup.create_backup_plan(
    BackupPlan=document(
        "BACKUP-LAB",
        ScheduleExpression="cron(0 3 1 * ? *)",
        Lifecycle={"DeleteAfterDays": 180},
        RecoveryPointTags={"from": "plan"},
    ),
    BackupPlanTags={"env": "lab"},
    CreatorRequestId="plan-request-1",
)
plan, first = made["BackupPlanId"], made["VersionId"]
assert made["BackupPlanArn"] == f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-plan:{plan}", made
again = backup.create_backup_plan(
    BackupPlan=document("BACKUP-LAB", ScheduleExpression="cron(0 3 1 * ? *)"),
    CreatorRequestId="plan-request-1",
)
assert (again["BackupPlanId"], again["VersionId"]) == (plan, first), again
assert backup.list_tags(ResourceArn=made["BackupPlanArn"])["Tags"] == {"env": "lab"}

got = backup.get_backup_plan(BackupPlanId=plan)
rule = got["BackupPlan"]["Rules"][0]
assert rule["ScheduleExpression"] == "cron(0 3 1 * ? *)", rule
assert rule["Lifecycle"]["DeleteAfterDays"] == 180, rule
assert rule["RecoveryPointTags"] == {"from": "plan"}, rule
assert rule["StartWindowMinutes"] == 480 and rule["CompletionWindowMinutes"] == 10080, rule
assert rule["RuleId"], rule

# Defaults.
plain = backup.create_backup_plan(BackupPlan=document("plain"))
rule_plain = backup.get_backup_plan(BackupPlanId=plain["BackupPlanId"])["BackupPlan"]["Rules"][0]
assert rule_plain["ScheduleExpression"] == "cron(0 5 ? * * *)", rule_plain

# A new version; the old one stays readable.
changed = backup.update_backup_plan(
    BackupPlanId=plan,
    BackupPlan=document("BACKUP-LAB-2", ScheduleExpression="cron(0 0/12 ? * * *)"),
)
second = changed["VersionId"]
assert second != first, changed
now = backup.get_backup_plan(BackupPlanId=plan)
assert now["VersionId"] == second and now["BackupPlan"]["BackupPlanName"] == "BACKUP-LAB-2", now
assert now["BackupPlan"]["Rules"][0]["RuleId"] == rule["RuleId"], now
old = backup.get_backup_plan(BackupPlanId=plan, VersionId=first)
assert old["BackupPlan"]["BackupPlanName"] == "BACKUP-LAB", old
assert old["BackupPlan"]["Rules"][0]["ScheduleExpression"] == "cron(0 3 1 * ? *)", old
versions = pages("list_backup_plan_versions", "BackupPlanVersionsList", BackupPlanId=plan)
assert {v["VersionId"] for v in versions} == {first, second}, versions
ids = [p["BackupPlanId"] for p in pages("list_backup_plans", "BackupPlansList")]
assert ids == [plan, plain["BackupPlanId"]], ids

# Selections.
selections = []
for n, what in enumerate(
    (
        {"Resources": [NOWHERE]},
        {
            "ListOfTags": [
                {
                    "ConditionType": "STRINGEQUALS",
                    "ConditionKey": "workload",
                    "ConditionValue": "myapp",
                }
            ]
        },
        {
            "Resources": ["arn:aws:elasticfilesystem:*:*:file-system/*"],
            "NotResources": [NOWHERE],
            "Conditions": {
                "StringLike": [
                    {"ConditionKey": "aws:ResourceTag/env", "ConditionValue": "pr*"}
                ]
            },
        },
    )
):
    made = backup.create_backup_selection(
        BackupPlanId=plan,
        BackupSelection={"SelectionName": f"selection-{n}", "IamRoleArn": ROLE, **what},
        CreatorRequestId=f"selection-request-{n}",
    )
    again = backup.create_backup_selection(
        BackupPlanId=plan,
        BackupSelection={"SelectionName": f"selection-{n}", "IamRoleArn": ROLE, **what},
        CreatorRequestId=f"selection-request-{n}",
    )
    assert again["SelectionId"] == made["SelectionId"], again
    selections.append(made["SelectionId"])
    got = backup.get_backup_selection(BackupPlanId=plan, SelectionId=made["SelectionId"])
    for key, value in what.items():
        if key != "Conditions":
            assert got["BackupSelection"][key] == value, got
    assert got["BackupSelection"]["IamRoleArn"] == ROLE, got
got = backup.get_backup_selection(BackupPlanId=plan, SelectionId=selections[2])
like = got["BackupSelection"]["Conditions"]["StringLike"]
assert like == [{"ConditionKey": "aws:ResourceTag/env", "ConditionValue": "pr*"}], got
for size in (1, 2, 3):
    listed = pages(
        "list_backup_selections",
        "BackupSelectionsList",
        BackupPlanId=plan,
        PaginationConfig={"PageSize": size},
    )
    assert [s["SelectionId"] for s in listed] == selections, (size, listed)

# Deletion: not while selections are left; every version readable afterwards.
refused(
    "InvalidRequestException",
    backup.delete_backup_plan,
    BackupPlanId=plan,
    words="selections must be deleted",
)
for selection in selections:
    backup.delete_backup_selection(BackupPlanId=plan, SelectionId=selection)
gone = backup.delete_backup_plan(BackupPlanId=plan)
assert gone["BackupPlanId"] == plan and gone["DeletionDate"], gone
assert [p["BackupPlanId"] for p in pages("list_backup_plans", "BackupPlansList")] == [
    plain["BackupPlanId"]
]
deleted = pages("list_backup_plans", "BackupPlansList", IncludeDeleted=True)
assert plan in [p["BackupPlanId"] for p in deleted], deleted
for version, name in ((first, "BACKUP-LAB"), (second, "BACKUP-LAB-2")):
    got = backup.get_backup_plan(BackupPlanId=plan, VersionId=version)
    assert got["BackupPlan"]["BackupPlanName"] == name and got["DeletionDate"], got
refused(
    "ResourceNotFoundException",
    backup.update_backup_plan,
    BackupPlanId=plan,
    BackupPlan=document("late"),
)
held()
