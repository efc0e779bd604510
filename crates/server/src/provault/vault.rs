//! The server itself, and the way into a vault for other tools.

use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;

pub(super) async fn server(call: &Call<'_>) -> Answered {
    let info = Call::done(call.app.describe_server(call.caller).await)?;
    Answer::json(&wire::ServerInfo {
        account_id: call.app.account().to_string(),
        region: call.app.region().to_string(),
        version: info.version.to_owned(),
        isolation: info.isolation,
    })
}

pub(super) async fn reload(call: &Call<'_>) -> Answered {
    let reloaded = Call::done(call.app.reload_settings(call.caller).await)?;
    let (changed, needs_restart) = (reloaded.changed, reloaded.needs_restart);
    Answer::json(&wire::ReloadedSettings { changed, needs_restart })
}

pub(super) async fn repository(call: &Call<'_>, name: &str) -> Answered {
    let repository = Call::done(call.app.describe_repository(call.caller, name).await)?;
    Answer::json(&wire::Repository {
        format: "restic".to_owned(),
        version: repository.version,
        location: repository.location.to_string(),
        repository_id: repository.id,
    })
}

pub(super) async fn recovery_kit(call: &Call<'_>) -> Answered {
    let input: wire::ExportRecoveryKitInput = call.input()?;
    let kit = call.app.export_recovery_kit(call.caller, &input.passphrase).await;
    Answer::json(&wire::RecoveryKit { kit: Call::done(kit)? })
}

pub(super) async fn export_password(call: &Call<'_>, name: &str) -> Answered {
    let (vault, password) = Call::done(call.app.export_password(call.caller, name).await)?;
    Answer::json(&wire::ExportedPassword { backup_vault_name: vault.name, password })
}
