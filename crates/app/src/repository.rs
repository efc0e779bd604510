//! The way into a vault for other tools, and what the server is.

use provault_domain::vault::BackupVault;
use provault_engine::RepositoryInfo;

use crate::{App, Caller, Result};

/// What the server is.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Version of the program.
    pub version: &'static str,
    /// `full`, or why restored applications cannot be isolated here.
    pub isolation: String,
}

impl App {
    /// `provault:DescribeServer`.
    pub async fn describe_server(&self, caller: &Caller) -> Result<ServerInfo> {
        self.permit(caller, "provault:DescribeServer", "*")?;
        let isolation = self.engine().isolation().await?;
        Ok(ServerInfo { version: env!("CARGO_PKG_VERSION"), isolation })
    }

    /// `provault:DescribeRepository`.
    pub async fn describe_repository(
        &self,
        caller: &Caller,
        vault: &str,
    ) -> Result<RepositoryInfo> {
        self.permit(caller, "provault:DescribeRepository", self.vault_arn(caller, vault))?;
        let vault = self.vault_named(caller, vault).await?;
        Ok(self.engine().repository(&vault).await?)
    }

    /// `provault:ExportRecoveryKit`: whoever has the kit and its passphrase has everything. Recorded
    /// like an exported password.
    pub async fn export_recovery_kit(&self, caller: &Caller, passphrase: &str) -> Result<String> {
        const ACTION: &str = "provault:ExportRecoveryKit";
        let exported: Result<String> = async {
            self.permit(caller, ACTION, "*")?;
            Ok(self.engine().export_kit(caller.account(), passphrase).await?)
        }
        .await;
        let outcome = match &exported {
            Ok(_) => "exported",
            Err(error) => error.kind.name(),
        };
        self.record(caller, ACTION, "recovery kit", outcome).await?;
        exported
    }

    /// `provault:ExportPassword`: whoever has it reads everything in the vault. The record in the
    /// audit trail is written before the password is handed out, and of every refusal as well.
    pub async fn export_password(
        &self,
        caller: &Caller,
        vault: &str,
    ) -> Result<(BackupVault, String)> {
        const ACTION: &str = "provault:ExportPassword";
        let arn = self.vault_arn(caller, vault);
        let exported: Result<(BackupVault, String)> = async {
            self.permit(caller, ACTION, &arn)?;
            let vault = self.vault_named(caller, vault).await?;
            let password = self.engine().export_password(&vault).await?;
            Ok((vault, password))
        }
        .await;
        let outcome = match &exported {
            Ok(_) => "exported",
            Err(error) => error.kind.name(),
        };
        self.record(caller, ACTION, arn.as_str(), outcome).await?;
        exported
    }
}
