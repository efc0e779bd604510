//! Every operation is found by its path, and by nothing else's.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

use provault_wire::{Operation, PathSegment, RouteError, ServiceError, match_route};

/// A path of the operation whose labels need decoding, with the labels it should give.
fn path(operation: Operation) -> (String, Vec<(&'static str, String)>) {
    let mut path = String::new();
    let mut labels = Vec::new();
    for segment in operation.path() {
        path.push('/');
        match segment {
            PathSegment::Literal(text) => path.push_str(text),
            PathSegment::Label(name) => {
                path.push_str("arn%3Aaws%3As3%3A%3A%3Ab%2Fc%20%25+%C3%AB");
                labels.push((*name, "arn:aws:s3:::b/c %+ë".to_owned()));
            }
        }
    }
    (path, labels)
}

fn query(operation: Operation) -> &'static str {
    operation.literal_query().unwrap_or("")
}

#[test]
fn every_operation_is_found_with_and_without_a_slash_at_the_end() {
    assert_eq!(Operation::ALL.len(), 115);
    for operation in Operation::ALL {
        let (path, labels) = path(operation);
        for path in [path.clone(), path + "/"] {
            let found = match_route(operation.method(), &path, query(operation)).unwrap();
            assert_eq!(found.operation, operation, "{path}");
            assert_eq!(found.labels, labels, "{path}");
        }
    }
}

#[test]
fn no_path_can_be_meant_for_two_operations() {
    let meets = |a: &PathSegment, b: &PathSegment| match (a, b) {
        (PathSegment::Literal(a), PathSegment::Literal(b)) => a == b,
        _ => true,
    };
    for (index, a) in Operation::ALL.into_iter().enumerate() {
        for b in &Operation::ALL[index + 1..] {
            let same_path = a.path().len() == b.path().len()
                && a.path().iter().zip(b.path()).all(|(a, b)| meets(a, b));
            assert!(!same_path || a.method() != b.method(), "{a} and {b}");
        }
    }
}

#[test]
fn another_method_is_told_from_an_unknown_path() {
    let allowed = |method, path, query| match match_route(method, path, query).unwrap_err() {
        RouteError::WrongMethod { allowed, .. } => allowed,
        other => panic!("{other:?}"),
    };
    assert_eq!(allowed("PATCH", "/backup-vaults/v", ""), ["DELETE", "GET", "PUT"]);
    assert_eq!(allowed("POST", "/backup-vaults", ""), ["GET"]);
    assert_eq!(allowed("get", "/tags/x", ""), ["GET", "POST"]);
    // Without its literal query the path is another operation's.
    assert_eq!(allowed("POST", "/backup-vaults/v/mpaApprovalTeam", "x=delete"), ["PUT"]);
    let error = match_route("PATCH", "/backup-vaults/v", "").unwrap_err();
    assert_eq!(ServiceError::from(error).status, 405);
    for unknown in [
        "",
        "/",
        "//",
        "backup-vaults",
        "/backup-vaults//",
        "/backup-vaults//access-policy",
        "/Backup-Vaults",
        "/backup-vaults/a/b/c/d",
        "/backup%2Dvaults",
        "/../backup-vaults",
    ] {
        let error = match_route("GET", unknown, "").unwrap_err();
        assert!(matches!(error, RouteError::UnknownPath { .. }), "{unknown}: {error:?}");
        assert_eq!(ServiceError::from(error).status, 404);
    }
}

#[test]
fn the_literal_query_is_seen_among_others_and_with_an_equals_sign() {
    for query in ["delete", "delete=", "a=b&delete"] {
        let found = match_route("POST", "/backup-vaults/v/mpaApprovalTeam", query).unwrap();
        assert_eq!(found.operation, Operation::DisassociateBackupVaultMpaApprovalTeam);
    }
}

#[test]
fn a_label_that_cannot_be_decoded_is_refused() {
    for label in ["%", "%f", "%ff", "%zz"] {
        let error = match_route("GET", &format!("/backup-vaults/{label}"), "").unwrap_err();
        assert!(matches!(error, RouteError::BadEncoding { .. }), "{label}: {error:?}");
        assert_eq!(ServiceError::from(error).name, "SerializationException");
    }
}

#[test]
fn statuses_are_the_models() {
    let with = |status| {
        Operation::ALL
            .into_iter()
            .filter(move |op| op.success_status() == status)
            .map(Operation::name)
    };
    assert_eq!(
        with(201).collect::<Vec<_>>(),
        [
            "CancelLegalHold",
            "CreateBackupAccessPoint",
            "CreateRestoreTestingPlan",
            "CreateRestoreTestingSelection",
            "StartScanJob",
        ]
    );
    assert_eq!(
        with(204).collect::<Vec<_>>(),
        [
            "AssociateBackupVaultMpaApprovalTeam",
            "DeleteBackupAccessPoint",
            "DeleteRestoreTestingPlan",
            "DeleteRestoreTestingSelection",
            "DisassociateBackupVaultMpaApprovalTeam",
            "DisassociateRecoveryPointFromParent",
            "PutRestoreValidationResult",
        ]
    );
    assert_eq!(with(200).count(), 115 - 5 - 7);
}
