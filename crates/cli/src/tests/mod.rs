//! Tests that need more than one file of the crate: a small server, whole command lines.

mod client;
mod commands;
mod declared;
mod discovered;
mod discovery;
mod documentation;
mod evidence;
mod receivers;
mod recovery_points;
mod resource_update;
mod resources;
mod retention;
mod server;
mod status;
mod testing;

/// How the vault `v` is looked after, as the server tells it.
fn vault_care() -> serde_json::Value {
    serde_json::json!({
        "BackupVaultName": "v", "PruneEveryDays": 7, "CheckEveryDays": 7, "VerifyWithinDays": 0,
        "VerifyMaxBytesPerSecond": 1, "CatalogBackupEveryDays": 1, "Alarms": [], "Imported": false,
        "Verification": {
            "Packs": 0, "Bytes": 0, "VerifiedPacks": 0, "VerifiedBytes": 0,
            "NeverVerifiedPacks": 0, "OverduePacks": 0, "DamagedPacks": 0,
            "BytesPerSecond": 0, "NeededBytesPerSecond": 0,
        },
    })
}
