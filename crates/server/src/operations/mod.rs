//! The operations of AWS Backup, one file a noun: wire types in, domain types to the use case, and
//! back.

pub(crate) mod backup_job;
pub(crate) mod notification;
pub(crate) mod plan;
pub(crate) mod protected_resource;
pub(crate) mod recovery_point;
pub(crate) mod restore_job;
pub(crate) mod restore_testing_plan;
pub(crate) mod restore_testing_selection;
pub(crate) mod selection;
pub(crate) mod tag;
pub(crate) mod vault;
