"""Restore testing plans: made, refused, and carried out when they are due."""

import datetime

from common import *

tree = make_tree("source")
resource = add_directory("source", tree, Tags={"env": "lab"})
point = back_up(resource)["RecoveryPointArn"]
POINTS = {
    "Algorithm": "LATEST_WITHIN_WINDOW",
    "IncludeVaults": ["*"],
    "RecoveryPointTypes": ["SNAPSHOT"],
}


def plan(name, schedule, **more):
    return {
        "RestoreTestingPlanName": name,
        "ScheduleExpression": schedule,
        "RecoveryPointSelection": POINTS,
        **more,
    }


def selection(name, **more):
    return {
        "RestoreTestingSelectionName": name,
        "ProtectedResourceType": "EFS",
        "IamRoleArn": ROLE,
        "ProtectedResourceArns": ["*"],
        **more,
    }


refused(
    "InvalidParameterValueException",
    backup.create_restore_testing_plan,
    words="ScheduleExpression",
    RestoreTestingPlan=plan("bad", "rate(1 day)"),
)

# Due at the next full minute that leaves some seconds to enter plan and selection.
due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=90)
made = backup.create_restore_testing_plan(
    RestoreTestingPlan=plan(
        "soon", f"cron({due.minute} {due.hour} ? * * *)", ScheduleExpressionTimezone="Etc/UTC"
    ),
    CreatorRequestId="request-1",
    Tags={"env": "lab"},
)
arn = made["RestoreTestingPlanArn"]
again = backup.create_restore_testing_plan(
    RestoreTestingPlan=plan("soon", f"cron({due.minute} {due.hour} ? * * *)"),
    CreatorRequestId="request-1",
)
assert again["RestoreTestingPlanArn"] == arn, again
assert backup.list_tags(ResourceArn=arn)["Tags"] == {"env": "lab"}
condition = {"StringEquals": [{"Key": "aws:ResourceTag/env", "Value": "lab"}]}
backup.create_restore_testing_selection(
    RestoreTestingPlanName="soon",
    RestoreTestingSelection=selection(
        "lab", ProtectedResourceConditions=condition, ValidationWindowHours=1
    ),
)
got = backup.get_restore_testing_selection(
    RestoreTestingPlanName="soon", RestoreTestingSelectionName="lab"
)["RestoreTestingSelection"]
assert got["ValidationWindowHours"] == 1, got
refused(
    "InvalidParameterValueException",
    backup.create_restore_testing_selection,
    words="ValidationWindowHours",
    RestoreTestingPlanName="soon",
    RestoreTestingSelection=selection("kept", ValidationWindowHours=169),
)
refused(
    "InvalidRequestException",
    backup.delete_restore_testing_plan,
    words="selections must be deleted",
    RestoreTestingPlanName="soon",
)
backup.create_restore_testing_plan(RestoreTestingPlan=plan("yearly", "cron(0 5 1 1 ? *)"))
for size in (1, 2):
    listed = pages(
        "list_restore_testing_plans", "RestoreTestingPlans", PaginationConfig={"PageSize": size}
    )
    assert [p["RestoreTestingPlanName"] for p in listed] == ["soon", "yearly"], listed
listed = pages(
    "list_restore_testing_selections",
    "RestoreTestingSelections",
    RestoreTestingPlanName="soon",
)
assert [s["RestoreTestingSelectionName"] for s in listed] == ["lab"], listed


def kept():
    jobs = pages("list_restore_jobs", "RestoreJobs", ByRestoreTestingPlanArn=arn)
    return [job for job in jobs if "kept until" in job.get("ValidationStatusMessage", "")] or None


# The test keeps its copy for us: what is said of it ends that.
job = until("the copy that the restore test keeps", kept, limit=240)[0]
assert job["Status"] == "COMPLETED" and job["ValidationStatus"] == "VALIDATING", job
backup.put_restore_validation_result(
    RestoreJobId=job["RestoreJobId"],
    ValidationStatus="SUCCESSFUL",
    ValidationStatusMessage="all there",
)


def tested():
    jobs = pages("list_restore_jobs", "RestoreJobs", ByRestoreTestingPlanArn=arn)
    done = [job for job in jobs if job.get("DeletionStatus") == "SUCCESSFUL"]
    return done or None


job = until("the restore test of the plan", tested, limit=240)[0]
assert job["CreatedBy"] == {"RestoreTestingPlanArn": arn}, job
assert job["RecoveryPointArn"] == point and job["SourceResourceArn"] == resource, job
assert job["Status"] == "COMPLETED" and job["IamRoleArn"] == ROLE, job
# Nothing but files is compared here, so no namespaces are needed: the verdict is a pass.
assert job["ValidationStatus"] == "SUCCESSFUL", job
assert "all there" in job["ValidationStatusMessage"], job
described = backup.describe_restore_job(RestoreJobId=job["RestoreJobId"])
assert described["CreatedBy"] == {"RestoreTestingPlanArn": arn}, described
of_resource = pages(
    "list_restore_jobs_by_protected_resource", "RestoreJobs", ResourceArn=resource
)
assert [j["RestoreJobId"] for j in of_resource] == [job["RestoreJobId"]], of_resource
other = arn.replace(":restore-testing-plan:soon", ":restore-testing-plan:late")
assert pages("list_restore_jobs", "RestoreJobs", ByRestoreTestingPlanArn=other) == []
got = backup.get_restore_testing_plan(RestoreTestingPlanName="soon")["RestoreTestingPlan"]
assert got["LastExecutionTime"] >= got["CreationTime"], got

# A verdict that was given stays.
refused(
    "InvalidRequestException",
    backup.put_restore_validation_result,
    words="no longer waits",
    RestoreJobId=job["RestoreJobId"],
    ValidationStatus="FAILED",
)

backup.delete_restore_testing_selection(
    RestoreTestingPlanName="soon", RestoreTestingSelectionName="lab"
)
for name in ("soon", "yearly"):
    backup.delete_restore_testing_plan(RestoreTestingPlanName=name)
assert pages("list_restore_testing_plans", "RestoreTestingPlans") == []
refused(
    "ResourceNotFoundException",
    backup.get_restore_testing_plan,
    RestoreTestingPlanName="soon",
)
held()
