//! Our own operations, under `/provault/v1`; [`provault_wire::provault`] has their table.

mod care;
mod discovery;
mod evidence;
mod job;
mod named;
mod probe;
mod resource;
mod restore_preview;
mod restore_test;
mod retention;
mod status;
mod testing;
mod topic;
mod user;
mod vault;

use percent_encoding::percent_decode_str;
use provault_app::{App, Caller, Paging, TestingOf};
use provault_wire::{ServiceError, errors};
use serde::de::DeserializeOwned;

use crate::answer::{Answer, refusal};
use crate::tls::Tls;

/// One request for an operation of ours.
struct Call<'a> {
    app: &'a App,
    tls: Option<&'a Tls>,
    caller: &'a Caller,
    query: Query,
    body: &'a [u8],
}

/// The result of an operation of ours.
type Answered = Result<Answer, ServiceError>;

/// A request before its operation is found. `path` is raw and without the prefix.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) raw_query: &'a str,
    pub(crate) body: &'a [u8],
}

/// Finds the operation and carries it out.
pub(crate) async fn answer(
    app: &App,
    tls: Option<&Tls>,
    caller: &Caller,
    Asked { method, path, raw_query, body }: Asked<'_>,
) -> Answered {
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        segments.push(decode(segment).ok_or_else(|| unreadable(segment))?);
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let operation = find(method, &segments).ok_or_else(|| unknown(method, &segments))?;
    tracing::Span::current().record("operation", operation.name());
    let query = Query::parse(raw_query)?;
    query.allow_only(operation.query_keys())?;
    // Users and settings are the same in every region.
    let app = if operation.is_of_the_server() { app.home() } else { app };
    let call = Call { app, tls, caller, query, body };
    match operation {
        Operation::DescribeServer => vault::server(&call).await,
        Operation::ReloadSettings => vault::reload(&call).await,
        Operation::DescribeStatus => status::describe(&call).await,
        Operation::DescribeHealth => status::doctor(&call).await,
        Operation::DiscoverResources => discovery::discover(&call).await,
        Operation::AddResource => resource::add(&call).await,
        Operation::ListResources => resource::list(&call).await,
        Operation::DescribeResource(name) => resource::describe(&call, name).await,
        Operation::UpdateResource(name) => resource::update(&call, name).await,
        Operation::TagResource(name) => resource::tag(&call, name).await,
        Operation::ExemptResource(name) => status::exempt(&call, name).await,
        Operation::EndExemption(name) => status::end_exemption(&call, name).await,
        Operation::UpdateRetention(name) => retention::update(&call, name).await,
        Operation::DescribeResourceTesting(name) => {
            testing::describe(&call, TestingOf::Resource(name)).await
        }
        Operation::PutResourceTesting(name) => testing::put(&call, TestingOf::Resource(name)).await,
        Operation::DeleteResourceTesting(name) => {
            testing::delete(&call, TestingOf::Resource(name)).await
        }
        Operation::DescribePlanTesting(id) => testing::describe(&call, TestingOf::Plan(id)).await,
        Operation::PutPlanTesting(id) => testing::put(&call, TestingOf::Plan(id)).await,
        Operation::DeletePlanTesting(id) => testing::delete(&call, TestingOf::Plan(id)).await,
        Operation::DescribeSelectionTesting(plan, id) => {
            testing::describe(&call, TestingOf::Selection { plan, id }).await
        }
        Operation::PutSelectionTesting(plan, id) => {
            testing::put(&call, TestingOf::Selection { plan, id }).await
        }
        Operation::DeleteSelectionTesting(plan, id) => {
            testing::delete(&call, TestingOf::Selection { plan, id }).await
        }
        Operation::RemoveResource(name) => resource::remove(&call, name).await,
        Operation::DescribeRecoveryPoint(arn) => retention::describe(&call, arn).await,
        Operation::AcceptRecoveryPoint(arn) => retention::accept(&call, arn).await,
        Operation::AddRole => named::add_role(&call).await,
        Operation::ListRoles => named::list_roles(&call).await,
        Operation::RemoveRole(name) => named::remove_role(&call, name).await,
        Operation::AddUser => user::add(&call).await,
        Operation::ListUsers => user::list(&call).await,
        Operation::UpdateUser(name) => user::update(&call, name).await,
        Operation::RemoveUser(name) => user::remove(&call, name).await,
        Operation::CreateAccessKey(name) => user::create_key(&call, name).await,
        Operation::UpdateAccessKey(id) => user::update_key(&call, id).await,
        Operation::DeleteAccessKey(id) => user::delete_key(&call, id).await,
        Operation::ListAuditRecords => user::audit(&call).await,
        Operation::AddKey => named::add_key(&call).await,
        Operation::ListKeys => named::list_keys(&call).await,
        Operation::RemoveKey(name) => named::remove_key(&call, name).await,
        Operation::AddTopic => named::add_topic(&call).await,
        Operation::ListTopics => named::list_topics(&call).await,
        Operation::RemoveTopic(name) => named::remove_topic(&call, name).await,
        Operation::Subscribe(topic) => topic::subscribe(&call, topic).await,
        Operation::ListSubscriptions(topic) => topic::subscriptions(&call, topic).await,
        Operation::Unsubscribe(id) => topic::unsubscribe(&call, id).await,
        Operation::TestSubscription(id) => topic::test(&call, id).await,
        Operation::ListDeliveries => topic::deliveries(&call).await,
        Operation::DescribeDelivery(id) => topic::describe_delivery(&call, id).await,
        Operation::SendDeliveryAgain(id) => topic::send_again(&call, id).await,
        Operation::ForgetDelivery(id) => topic::forget(&call, id).await,
        Operation::GetJobLog(id) => job::log(&call, id).await,
        Operation::PreviewRestore => restore_preview::preview(&call).await,
        Operation::StopRestoreJob(id) => job::stop_restore(&call, id).await,
        Operation::StartRestoreTest => restore_test::start(&call).await,
        Operation::ListRestoreTests => restore_test::list(&call).await,
        Operation::DescribeRestoreTest(id) => restore_test::describe(&call, id).await,
        Operation::StopRestoreTest(id) => restore_test::stop(&call, id).await,
        Operation::ListEvidence => evidence::list(&call).await,
        Operation::ListEvidenceRecords => evidence::records(&call).await,
        Operation::DescribeRepository(name) => vault::repository(&call, name).await,
        Operation::ExportPassword(name) => vault::export_password(&call, name).await,
        Operation::ImportVault(name) => care::import(&call, name).await,
        Operation::ExportRecoveryKit => vault::recovery_kit(&call).await,
        Operation::StartCareRun(name) => care::start(&call, name).await,
        Operation::ListCareRuns => care::list(&call).await,
        Operation::DescribeCareRun(id) => care::describe(&call, id).await,
        Operation::StopCareRun(id) => care::stop(&call, id).await,
        Operation::DescribeVaultCare(name) => care::of_vault(&call, name).await,
        Operation::UpdateVaultCare(name) => care::update(&call, name).await,
    }
}

macro_rules! operations {
    ($($method:literal $pattern:pat => $name:ident $(($($label:ident),+))?;)*) => {
        /// An operation of ours with the labels of its path.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Operation<'a> {
            $($name $(($(label!($label, &'a str)),+))?,)*
        }

        impl Operation<'_> {
            fn name(self) -> &'static str {
                match self {
                    $(Self::$name $(($(label!($label, _)),+))? => stringify!($name),)*
                }
            }
        }

        /// Names of all operations.
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        fn find<'a>(method: &str, segments: &[&'a str]) -> Option<Operation<'a>> {
            match (method, segments) {
                $(($method, $pattern) => Some(Operation::$name $(($($label),+))?),)*
                _ => None,
            }
        }
    };
}

/// What stands in place of a label.
macro_rules! label {
    ($label:ident, $($instead:tt)*) => { $($instead)* };
}

operations! {
    "GET" ["server"] => DescribeServer;
    "POST" ["server", "reload"] => ReloadSettings;
    "GET" ["status"] => DescribeStatus;
    "GET" ["doctor"] => DescribeHealth;
    "GET" ["discoveries"] => DiscoverResources;
    "POST" ["resources"] => AddResource;
    "GET" ["resources"] => ListResources;
    "GET" ["resources", name] => DescribeResource(name);
    "POST" ["resources", name] => UpdateResource(name);
    "POST" ["resources", name, "tags"] => TagResource(name);
    "POST" ["resources", name, "exemption"] => ExemptResource(name);
    "DELETE" ["resources", name, "exemption"] => EndExemption(name);
    "POST" ["resources", name, "retention"] => UpdateRetention(name);
    "GET" ["resources", name, "testing"] => DescribeResourceTesting(name);
    "PUT" ["resources", name, "testing"] => PutResourceTesting(name);
    "DELETE" ["resources", name, "testing"] => DeleteResourceTesting(name);
    "GET" ["backup-plans", id, "testing"] => DescribePlanTesting(id);
    "PUT" ["backup-plans", id, "testing"] => PutPlanTesting(id);
    "DELETE" ["backup-plans", id, "testing"] => DeletePlanTesting(id);
    "GET" ["backup-plans", plan, "selections", id, "testing"] => DescribeSelectionTesting(plan, id);
    "PUT" ["backup-plans", plan, "selections", id, "testing"] => PutSelectionTesting(plan, id);
    "DELETE" ["backup-plans", plan, "selections", id, "testing"] => DeleteSelectionTesting(plan, id);
    "DELETE" ["resources", name] => RemoveResource(name);
    "GET" ["recovery-points", arn] => DescribeRecoveryPoint(arn);
    "POST" ["recovery-points", arn, "accept"] => AcceptRecoveryPoint(arn);
    "POST" ["roles"] => AddRole;
    "GET" ["roles"] => ListRoles;
    "DELETE" ["roles", name] => RemoveRole(name);
    "POST" ["users"] => AddUser;
    "GET" ["users"] => ListUsers;
    "POST" ["users", name] => UpdateUser(name);
    "DELETE" ["users", name] => RemoveUser(name);
    "POST" ["users", name, "access-keys"] => CreateAccessKey(name);
    "POST" ["access-keys", id] => UpdateAccessKey(id);
    "DELETE" ["access-keys", id] => DeleteAccessKey(id);
    "GET" ["audit"] => ListAuditRecords;
    "POST" ["keys"] => AddKey;
    "GET" ["keys"] => ListKeys;
    "DELETE" ["keys", name] => RemoveKey(name);
    "POST" ["topics"] => AddTopic;
    "GET" ["topics"] => ListTopics;
    "DELETE" ["topics", name] => RemoveTopic(name);
    "POST" ["topics", name, "subscriptions"] => Subscribe(name);
    "GET" ["topics", name, "subscriptions"] => ListSubscriptions(name);
    "DELETE" ["subscriptions", id] => Unsubscribe(id);
    "POST" ["subscriptions", id, "test"] => TestSubscription(id);
    "GET" ["deliveries"] => ListDeliveries;
    "GET" ["deliveries", id] => DescribeDelivery(id);
    "POST" ["deliveries", id, "send-again"] => SendDeliveryAgain(id);
    "DELETE" ["deliveries", id] => ForgetDelivery(id);
    "GET" ["jobs", id, "log"] => GetJobLog(id);
    "POST" ["restore-previews"] => PreviewRestore;
    "POST" ["restore-jobs", id, "stop"] => StopRestoreJob(id);
    "POST" ["restore-tests"] => StartRestoreTest;
    "GET" ["restore-tests"] => ListRestoreTests;
    "GET" ["restore-tests", id] => DescribeRestoreTest(id);
    "POST" ["restore-tests", id, "stop"] => StopRestoreTest(id);
    "GET" ["evidence"] => ListEvidence;
    "GET" ["evidence", "records"] => ListEvidenceRecords;
    "GET" ["vaults", name, "repository"] => DescribeRepository(name);
    "POST" ["vaults", name, "export-password"] => ExportPassword(name);
    "POST" ["vaults", name, "import"] => ImportVault(name);
    "POST" ["recovery-kit"] => ExportRecoveryKit;
    "POST" ["vaults", name, "care-runs"] => StartCareRun(name);
    "GET" ["care-runs"] => ListCareRuns;
    "GET" ["care-runs", id] => DescribeCareRun(id);
    "POST" ["care-runs", id, "stop"] => StopCareRun(id);
    "GET" ["vaults", name, "care"] => DescribeVaultCare(name);
    "POST" ["vaults", name, "care"] => UpdateVaultCare(name);
}

impl Operation<'_> {
    /// Whether it is about the server as a whole: who may sign, and the settings.
    fn is_of_the_server(self) -> bool {
        matches!(
            self,
            Self::AddUser
                | Self::ListUsers
                | Self::UpdateUser(_)
                | Self::RemoveUser(_)
                | Self::CreateAccessKey(_)
                | Self::UpdateAccessKey(_)
                | Self::DeleteAccessKey(_)
                | Self::ReloadSettings
        )
    }

    /// The query keys it takes.
    fn query_keys(self) -> &'static [&'static str] {
        match self {
            Self::DiscoverResources => &["seconds"],
            Self::ListResources => &["maxResults", "nextToken"],
            Self::ListAuditRecords => &["since", "limit"],
            Self::ListDeliveries => &["jobId", "state", "maxResults", "nextToken"],
            Self::ListCareRuns => &["vaultName"],
            Self::ListEvidenceRecords => &["after"],
            Self::ListRestoreTests | Self::ListEvidence => &["resourceArn"],
            _ => &[],
        }
    }
}

fn unknown(method: &str, segments: &[&str]) -> ServiceError {
    let allowed: Vec<&str> = ["GET", "POST", "PUT", "DELETE"]
        .into_iter()
        .filter(|other| find(other, segments).is_some())
        .collect();
    if allowed.is_empty() {
        return ServiceError::new(
            &errors::UNKNOWN_OPERATION,
            "no operation of Provault has this path; check the request's URI",
        );
    }
    ServiceError::new(
        &errors::METHOD_NOT_ALLOWED,
        format!("{method} is not allowed on this path; use {}", allowed.join(" or ")),
    )
}

fn unreadable(text: &str) -> ServiceError {
    ServiceError::new(
        &errors::SERIALIZATION,
        format!("{text:?} is not percent-encoded UTF-8; encode it again"),
    )
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The query, decoded; `+` is a space, as in the signature.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(raw: &str) -> Result<Self, ServiceError> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let spaced = pair.replace('+', " ");
            let (key, value) = spaced.split_once('=').unwrap_or((&spaced, ""));
            let decoded = decode(key).zip(decode(value)).ok_or_else(|| unreadable(pair))?;
            // A presigned request carries its signature here.
            if decoded.0.starts_with("X-Amz-") {
                continue;
            }
            if pairs.iter().any(|(key, _)| *key == decoded.0) {
                return Err(invalid(&format!("{}: it stands in the query twice.", decoded.0)));
            }
            pairs.push(decoded);
        }
        Ok(Self(pairs))
    }

    fn allow_only(&self, keys: &[&str]) -> Result<(), ServiceError> {
        match self.0.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) if keys.is_empty() => {
                Err(invalid(&format!("{key}: this operation takes no query.")))
            }
            Some((key, _)) => {
                Err(invalid(&format!("{key}: there is no such filter; use {}.", keys.join(" or "))))
            }
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn invalid(message: &str) -> ServiceError {
    ServiceError::new(&errors::INVALID_PARAMETER_VALUE, message)
}

impl Call<'_> {
    /// The body as this input. An unknown member is refused by name.
    fn input<I: DeserializeOwned>(&self) -> Result<I, ServiceError> {
        read(if self.body.is_empty() { b"{}" } else { self.body })
    }

    /// Which page of a list is wanted.
    fn paging(&self) -> Result<Paging, ServiceError> {
        let number = |text: &str| {
            let wrong = || format!("maxResults: {text:?} is not a number from 1 to 1000.");
            text.parse().map_err(|_| invalid(&wrong()))
        };
        let max_results = self.query.get("maxResults").map(number).transpose()?;
        Ok(Paging { max_results, next_token: self.query.get("nextToken").map(str::to_owned) })
    }

    /// What a use case answers, as this operation answers it.
    fn done<T>(result: Result<T, provault_app::AppError>) -> Result<T, ServiceError> {
        result.map_err(refusal)
    }

    /// The answer of an operation without output.
    fn nothing(result: Result<(), provault_app::AppError>) -> Answered {
        Self::done(result)?;
        Answer::json(&serde_json::json!({}))
    }
}

/// A JSON object as an input.
fn read<I: DeserializeOwned>(body: &[u8]) -> Result<I, ServiceError> {
    let unusable = |shape, why: &str| {
        ServiceError::new(shape, format!("the request body cannot be used: {why}"))
    };
    // As a whole first: of a body that is no JSON, or a list where serde would take members by
    // their order, nothing else is worth saying.
    let whole: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| unusable(&errors::SERIALIZATION, &error.to_string()))?;
    if !whole.is_object() {
        return Err(unusable(&errors::SERIALIZATION, "it must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let shape = if text.starts_with("missing field") {
            &errors::MISSING_PARAMETER_VALUE
        } else if text.starts_with("unknown field") {
            &errors::INVALID_PARAMETER_VALUE
        } else {
            &errors::SERIALIZATION
        };
        unusable(shape, &text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_table_find_their_operation() {
        assert_eq!(find("GET", &["server"]), Some(Operation::DescribeServer));
        assert_eq!(find("POST", &["resources", "a", "tags"]), Some(Operation::TagResource("a")));
        assert_eq!(find("GET", &["resources", "a", "tags"]), None);
        assert_eq!(find("DELETE", &["server"]), None);
        assert_eq!(unknown("DELETE", &["server"]).status, 405);
        assert_eq!(unknown("GET", &["nowhere"]).status, 404);
        assert_eq!(Operation::ExportPassword("v").name(), "ExportPassword");
    }

    #[test]
    fn the_query_is_read_once_and_only_for_what_it_knows() {
        let query = Query::parse("resourceArn=arn%3Aaws%3Ax+y&X-Amz-Date=1").unwrap();
        assert_eq!(query.get("resourceArn"), Some("arn:aws:x y"));
        assert!(query.allow_only(&["resourceArn"]).is_ok());
        assert_eq!(
            query.allow_only(&["jobId"]).unwrap_err().name,
            "InvalidParameterValueException"
        );
        assert!(Query::parse("a=1&a=2").is_err());
        assert_eq!(Query::parse("a=%ff").err().unwrap().name, "SerializationException");
    }

    #[test]
    fn a_body_is_an_object_with_the_members_it_should_have() {
        use provault_wire::provault::AddNameInput;
        let error = |body: &str| read::<AddNameInput>(body.as_bytes()).unwrap_err().name;
        assert_eq!(read::<AddNameInput>(br#"{"Name":"x"}"#).unwrap().name, "x");
        assert_eq!(error(r#"["x"]"#), "SerializationException");
        assert_eq!(error(r#"{"Name":1}"#), "SerializationException");
        assert_eq!(error(r#"{"Name":"x","Name":"y"}"#), "SerializationException");
        assert_eq!(error(r#"{"Other":1,"#), "SerializationException");
        assert_eq!(error(r#"{"Other":1}"#), "InvalidParameterValueException");
        assert_eq!(error("{}"), "MissingParameterValueException");
    }

    /// What is in no row can be allowed to nobody by name. Which action an operation needs stands in the
    /// table of `provault-wire`, and so in the description made of it.
    #[test]
    fn every_operation_is_in_the_table_of_actions() {
        let description: serde_json::Value =
            serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
        let paths = description["paths"].as_object().unwrap().values();
        let operations: Vec<_> =
            paths.flat_map(|path| path.as_object().unwrap().values()).collect();
        for name in NAMES {
            let operation = operations.iter().find(|operation| operation["operationId"] == *name);
            let action = operation.unwrap()["x-provault-action"].as_str().unwrap();
            assert!(provault_iam::scopes(action).is_some(), "{name}: {action}");
        }
    }

    /// What tools are told of is what is answered, all of it.
    #[test]
    fn the_description_for_tools_has_these_operations() {
        let description: serde_json::Value =
            serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
        let mut described = Vec::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            let segments: Vec<&str> = path.split('/').skip(1).collect();
            for (method, operation) in methods.as_object().unwrap() {
                let method = method.to_uppercase();
                let found = find(&method, &segments).map(Operation::name);
                let id = operation["operationId"].as_str().unwrap();
                assert_eq!(found, Some(id), "{method} {path}");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let keys: Vec<&str> = parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "query")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                let known = find(&method, &segments).unwrap().query_keys();
                assert_eq!(keys, known, "{method} {path}: the query");
                described.push(id.to_owned());
            }
        }
        described.sort_unstable();
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        assert_eq!(described, names);
    }
}
