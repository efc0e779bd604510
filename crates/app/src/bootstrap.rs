//! What every start makes sure of: the settings, the default key, role and vault, the root access
//! key and its credentials file.
//!
//! Each step looks for what it makes and does nothing when it is there, so that a start that was
//! cut short is finished by the next one. A secret is written to the catalog sealed before it is
//! written anywhere else: whatever stands in the credentials file can be verified.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use provault_catalog::{AccessKeyRow, AuditRecord, Catalog, CatalogError, Outcome};
use provault_domain::key::{DEFAULT_KEY, Key, KeyWrapper};
use provault_domain::role::{DEFAULT_ROLE, Role};
use provault_domain::vault::{BackupVault, DEFAULT_VAULT};
use provault_domain::{AccountId, Arn, Region, Tags};
use provault_engine::{Engine, EngineError, SERVER_KEY};
use provault_iam::{
    AccessKey, CredentialsError, CredentialsFile, KeyStatus, Principal, PrincipalError,
    RandomError, Secret,
};
use rand::TryRng as _;

use crate::key_use::KeyUses;
use crate::page_token::TokenKey;
use crate::reload::Reloading;
use crate::user::Identities;
use crate::{App, Inner, Settings, new_id};

/// The account of a server that was started without one.
pub const DEFAULT_ACCOUNT: &str = "123456789012";
/// The region of a server that was started without one.
pub const DEFAULT_REGION: &str = "us-east-1";
/// Name of the root access key's file in the data directory, in AWS credentials-file form.
pub const CREDENTIALS_FILE: &str = "credentials";

const DEFAULT_KEY_FILE: &str = "default.key";
const ACCOUNT_SETTING: &str = "account-id";
const REGION_SETTING: &str = "region";
const TOKEN_SETTING: &str = "page-token-secret";

/// What an [`App`] is made of.
pub struct Setup {
    /// The engine, made and not yet started.
    pub engine: Engine,
    /// The data directory; the credentials file is written into it.
    pub data_dir: PathBuf,
    /// The account asked for on the command line, if any.
    pub account: Option<AccountId>,
    /// The region asked for on the command line, if any.
    pub region: Option<Region>,
    /// Limits and habits.
    pub settings: Settings,
}

/// The server could not be set up. Starting it again goes on where this start ended.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The data directory belongs to another account or region.
    #[error(
        "this data directory was made for {what} {stored}, not {asked}, and that cannot be \
         changed: its ARNs name it. Start without {option}, or with another --data-dir."
    )]
    Fixed {
        /// `account` or `region`.
        what: &'static str,
        /// What the directory was made for.
        stored: String,
        /// What was asked for.
        asked: String,
        /// The option.
        option: &'static str,
    },
    /// The engine or the catalog failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The credentials file could not be written.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A value in the catalog is not what it should be.
    #[error("the catalog's {what} cannot be read ({why}); restore a copy of the data directory")]
    Damaged {
        /// Which value.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}; try again")]
    NoRandom(String),
    /// The account is no account.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
}

impl From<CatalogError> for BootstrapError {
    fn from(error: CatalogError) -> Self {
        Self::Engine(error.into())
    }
}

/// A start with an option that loosens something; the audit trail names the option.
const START: &str = "provault:StartServer";

type Result<T> = std::result::Result<T, BootstrapError>;

impl App {
    /// Makes sure of everything a server needs and gives the use cases over it. To be called
    /// before the engine is started.
    pub async fn open(setup: Setup) -> Result<Self> {
        Self::open_with(setup, None).await
    }

    /// As [`App::open`], for a further region of the server that `home` is of: it has a catalog, keys and
    /// vaults of its own, and its users are those of `home`.
    pub async fn open_site(setup: Setup, home: &Self) -> Result<Self> {
        Self::open_with(setup, Some(home.clone())).await
    }

    async fn open_with(setup: Setup, home: Option<Self>) -> Result<Self> {
        let Setup { engine, data_dir, account, region, settings } = setup;
        let account: AccountId =
            fixed(&engine, ACCOUNT_SETTING, "account", "--account-id", account, DEFAULT_ACCOUNT)
                .await?;
        let region: Region =
            fixed(&engine, REGION_SETTING, "region", "--region", region, DEFAULT_REGION).await?;
        let tokens = token_key(&engine).await?;
        let key = default_key(&engine, &account, &region).await?;
        default_role(&engine, &account).await?;
        default_vault(&engine, &account, &region, key).await?;
        let credentials_path = data_dir.join(CREDENTIALS_FILE);
        let (identities, uses) = if home.is_some() {
            // Asked of home, and never here.
            (Identities::new(Vec::new(), &[])?, KeyUses::default())
        } else {
            let (keys, uses) = access_keys(&engine, &account).await?;
            write_credentials(&credentials_path, &keys)?;
            let known = engine.catalog().list_users(&account).await?;
            (Identities::new(keys, &known)?, uses)
        };
        if engine.runs_commands() {
            let (option, at) = ("--allow-command-subscriptions", engine.now());
            let record = AuditRecord::by_server(&account, START, option, at);
            engine.catalog().audit(&record).await?;
        }
        let inner = Inner {
            home,
            engine,
            account,
            region,
            reloading: Reloading::new(settings.missing_vault_is_access_denied),
            settings,
            credentials_path,
            tokens,
            identities: RwLock::new(identities),
            uses,
            changing_identities: tokio::sync::Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl App {
    /// Whoever starts the server says that the time of day is right: what it ends may expire at once.
    /// Recorded in the audit trail.
    pub async fn trust_the_clock(&self) -> Result<()> {
        let (option, engine) = ("--trust-the-clock", self.engine());
        let record = AuditRecord::by_server(self.account(), START, option, engine.now());
        let made = |trusted: &std::result::Result<(), EngineError>| match trusted {
            Ok(()) => Outcome::Made("done"),
            Err(_) => Outcome::Broke("failed"),
        };
        let trusting = engine.trust_the_clock();
        let (trusted, recorded) = engine.catalog().recording(record, trusting, made).await;
        trusted?;
        Ok(recorded?)
    }
}

/// The region that [`App::open`] will find in a catalog, or enter when it is new, by its name.
pub async fn region_of(catalog: &Catalog, asked: Option<&Region>) -> Result<String> {
    let stored = catalog.setting(REGION_SETTING).await?;
    let asked = asked.map(ToString::to_string);
    Ok(stored.or(asked).unwrap_or_else(|| DEFAULT_REGION.to_owned()))
}

/// A setting that the first start fixes for ever.
async fn fixed<T>(
    engine: &Engine,
    setting: &str,
    what: &'static str,
    option: &'static str,
    asked: Option<T>,
    default: &str,
) -> Result<T>
where
    T: std::str::FromStr + PartialEq + std::fmt::Display,
    T::Err: std::fmt::Display,
{
    let wanted = asked.as_ref().map_or_else(|| default.to_owned(), ToString::to_string);
    let stored = engine.catalog().put_setting_if_absent(setting, &wanted).await?;
    if asked.is_some() && stored != wanted {
        return Err(BootstrapError::Fixed { what, stored, asked: wanted, option });
    }
    stored.parse().map_err(|why: T::Err| BootstrapError::Damaged {
        what: setting.to_owned(),
        why: why.to_string(),
    })
}

async fn token_key(engine: &Engine) -> Result<TokenKey> {
    let catalog = engine.catalog();
    let known = catalog.setting(TOKEN_SETTING).await?;
    let sealed = if let Some(sealed) = known {
        sealed
    } else {
        // Only here is the server's key ever made: later its absence is an error, since what it
        // sealed could not be opened by a new one.
        engine.keyring().create(SERVER_KEY)?;
        let mut secret = [0_u8; 32];
        rand::rngs::SysRng
            .try_fill_bytes(&mut secret)
            .map_err(|error| BootstrapError::NoRandom(error.to_string()))?;
        let text = hex::encode(secret);
        let sealed = engine.keyring().seal(SERVER_KEY, TOKEN_SETTING, text.as_bytes())?;
        catalog.put_setting_if_absent(TOKEN_SETTING, &sealed).await?
    };
    let text = engine.keyring().unseal(SERVER_KEY, TOKEN_SETTING, &sealed)?;
    let mut secret = [0_u8; 32];
    hex::decode_to_slice(&text, &mut secret).map_err(|why| BootstrapError::Damaged {
        what: TOKEN_SETTING.to_owned(),
        why: why.to_string(),
    })?;
    Ok(TokenKey::new(secret))
}

async fn default_key(engine: &Engine, account: &AccountId, region: &Region) -> Result<Arn> {
    let keys = engine.catalog().list_keys(account).await?;
    if let Some(key) = keys.into_iter().find(|key| key.name == DEFAULT_KEY) {
        return Ok(key.arn);
    }
    let arn = Arn::key(region, account, &new_id());
    engine
        .create_key(Key {
            arn: arn.clone(),
            account: account.clone(),
            name: DEFAULT_KEY.to_owned(),
            // A fixed name: a start that ends between file and row leaves no file behind.
            wrapper: KeyWrapper::LocalFile { file: DEFAULT_KEY_FILE.to_owned() },
            created_at: engine.now(),
        })
        .await?;
    Ok(arn)
}

async fn default_role(engine: &Engine, account: &AccountId) -> Result<()> {
    let arn = Arn::role(account, DEFAULT_ROLE);
    if engine.catalog().role(&arn).await?.is_none() {
        let role = Role {
            arn,
            account: account.clone(),
            name: DEFAULT_ROLE.to_owned(),
            created_at: engine.now(),
        };
        engine.catalog().insert_role(&role).await?;
    }
    Ok(())
}

async fn default_vault(
    engine: &Engine,
    account: &AccountId,
    region: &Region,
    key: Arn,
) -> Result<()> {
    if engine.catalog().vault(account, DEFAULT_VAULT).await?.is_none() {
        let vault = BackupVault {
            name: DEFAULT_VAULT.to_owned(),
            arn: Arn::backup_vault(region, account, DEFAULT_VAULT),
            account: account.clone(),
            region: region.clone(),
            encryption_key_arn: key,
            creator_request_id: None,
            created_at: engine.now(),
            location: String::new(),
            sealed_password: String::new(),
            notifications: None,
            care: provault_domain::care::CareSettings::default(),
            imported: false,
        };
        engine.create_vault(vault, &Tags::new()).await?;
    }
    Ok(())
}

/// Every access key of the account with its secret unsealed; the root's is made when there is
/// none.
async fn access_keys(engine: &Engine, account: &AccountId) -> Result<(Vec<AccessKey>, KeyUses)> {
    let root = Principal::root(account.as_str())?;
    let rows = engine.catalog().list_access_keys(account).await?;
    let uses = KeyUses::of(&rows);
    let mut keys = rows.into_iter().map(|row| open_key(engine, row)).collect::<Result<Vec<_>>>()?;
    if !keys.iter().any(|key| key.principal == root) {
        let key = AccessKey::generate(root, engine.now())?;
        let at = engine.now();
        let what = key.access_key_id.clone();
        let record = AuditRecord::by_server(account, "provault:CreateAccessKey", &what, at);
        let made = |made: &std::result::Result<(), EngineError>| match made {
            Ok(()) => Outcome::Made("done"),
            Err(_) => Outcome::Broke("failed"),
        };
        let entering = enter_key(engine, account, &key);
        let (entered, recorded) = engine.catalog().recording(record, entering, made).await;
        entered?;
        recorded?;
        keys.push(key);
    }
    Ok((keys, uses))
}

/// Enters a new key into the catalog, its secret sealed.
pub(crate) async fn enter_key(
    engine: &Engine,
    account: &AccountId,
    key: &AccessKey,
) -> std::result::Result<(), EngineError> {
    let secret = key.secret.expose_secret().as_bytes();
    let sealed_secret = engine.keyring().seal(SERVER_KEY, &key.access_key_id, secret)?;
    let row = AccessKeyRow {
        access_key_id: key.access_key_id.clone(),
        account: account.clone(),
        principal_arn: key.principal.arn().parse()?,
        sealed_secret,
        created_at: key.created_at,
        active: key.status == KeyStatus::Active,
        last_used_at: None,
    };
    Ok(engine.catalog().insert_access_key(&row).await?)
}

fn open_key(engine: &Engine, row: AccessKeyRow) -> Result<AccessKey> {
    let secret = engine.keyring().unseal(SERVER_KEY, &row.access_key_id, &row.sealed_secret)?;
    Ok(AccessKey {
        principal: Principal::from_arn(row.principal_arn.as_str())?,
        access_key_id: row.access_key_id,
        secret: Secret::new(secret),
        created_at: row.created_at,
        status: if row.active { KeyStatus::Active } else { KeyStatus::Inactive },
        session: None,
    })
}

/// Writes the credentials file when there is none, at the first start and when it was lost, or when
/// its key is not in use: that of another catalog, or one that was replaced. With that, nobody could
/// sign in. Such a file is kept under another name.
pub(crate) fn write_credentials(path: &Path, keys: &[AccessKey]) -> Result<()> {
    let root = keys.iter().find(|key| {
        key.principal.kind() == provault_iam::PrincipalKind::Root && key.status == KeyStatus::Active
    });
    let Some(root) = root else { return Ok(()) };
    if path.exists() {
        let known =
            CredentialsFile::load(path).and_then(|file| file.profile("default")).is_ok_and(|own| {
                let same = |key: &&AccessKey| key.access_key_id == own.access_key_id;
                keys.iter().find(same).is_some_and(|key| key.status == KeyStatus::Active)
            });
        if known {
            return Ok(());
        }
        let old = path.with_extension("old");
        tracing::warn!(
            path = %path.display(), kept = %old.display(),
            "the credentials file names no key of this catalog that is in use; a new one is \
             written. If the catalog was lost, put it back before anything is backed up"
        );
        std::fs::rename(path, &old).map_err(|error| BootstrapError::Damaged {
            what: path.display().to_string(),
            why: error.to_string(),
        })?;
    }
    Ok(CredentialsFile::write(path, "default", &root.credentials())?)
}
