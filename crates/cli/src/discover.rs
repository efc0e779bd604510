//! Where the server is, and with which key to sign.
//!
//! The order: explicit options, then `--data-dir`, then the environment as AWS clients read it,
//! then the default data directory. Three rules beyond that keep what belongs together together:
//!
//! * **A region belongs to its server.** Whoever finds the server in a data directory takes its
//!   region from there: an `AWS_REGION` set for other work would lead to a place that is not
//!   served. `--region` overrides it.
//! * **A key that the environment names is used**, also with the server of the default data
//!   directory: a person who took a lesser key on purpose must not act as root unawares.
//!   `~/.aws/credentials`, which nobody named, is not.
//! * **A data directory's key goes to that directory's server only**: with `--data-dir`, or where
//!   the address asked for is the one in its `server.json`.

use std::io;
use std::path::{Path, PathBuf};

use provault_iam::{Credentials, CredentialsError, CredentialsFile, Secret};

use crate::environment::Environment;
use crate::error::CliError;
use crate::options::GlobalOptions;
use crate::server_file::ServerFile;

/// Everything a client needs.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub endpoint: String,
    pub credentials: Credentials,
    pub region: String,
    /// The further regions of the server, where none was chosen and its data directory tells.
    pub further_regions: Vec<String>,
    /// What to say when the server cannot be reached.
    pub endpoint_hint: String,
    /// Where the key is from, for when the server does not know it.
    pub credentials_from: String,
    /// The authorities to believe, a PEM file; the public ones when absent.
    pub ca_file: Option<PathBuf>,
}

/// The server's address and, where it came from one, its data directory.
struct Place {
    endpoint: String,
    data_dir: Option<(PathBuf, ServerFile)>,
    hint: String,
}

const DEFAULT_PROFILE: &str = "default";

pub(crate) fn discover(options: &GlobalOptions, env: &Environment) -> Result<Found, CliError> {
    let place = place(options, env)?;
    let (credentials, credentials_from) = credentials(options, env, &place)?;
    let region = region(options, env, &place)?;
    let further_regions = further_regions(options, &place);
    let ca_file = ca_file(options, env, &place);
    let Place { endpoint, hint: endpoint_hint, .. } = place;
    Ok(Found {
        endpoint,
        credentials,
        region,
        further_regions,
        endpoint_hint,
        credentials_from,
        ca_file,
    })
}

fn place(options: &GlobalOptions, env: &Environment) -> Result<Place, CliError> {
    let given = |endpoint: String, from: &str, data_dir| Place {
        hint: format!(
            "The address comes from {from}. Is the server running, and is this its address? \
             `provault serve` starts one."
        ),
        endpoint,
        data_dir,
    };
    if let Some(endpoint) = &options.endpoint {
        // With both options the directory need not hold a server.json: it is for the key then.
        let beside = options
            .data_dir
            .as_ref()
            .and_then(|dir| ServerFile::load(dir).ok().map(|file| (dir.clone(), file)));
        return Ok(given(endpoint.clone(), "--endpoint", beside));
    }
    if let Some(dir) = &options.data_dir {
        return from_data_dir(dir, "--data-dir");
    }
    for name in ["AWS_ENDPOINT_URL_BACKUP", "AWS_ENDPOINT_URL"] {
        if let Some(endpoint) = env.text(name) {
            let twin = usual_data_dir(env).and_then(|dir| {
                let file = ServerFile::load(&dir).ok()?;
                same_endpoint(&file.endpoint, &endpoint).then_some((dir, file))
            });
            return Ok(given(endpoint, name, twin));
        }
    }
    if let Some(dir) = env.path("PROVAULT_DATA_DIR") {
        return from_data_dir(&dir, "PROVAULT_DATA_DIR");
    }
    let Some(dir) = env.default_data_dir() else {
        return Err(CliError::NotFound(
            "no server was found: neither --endpoint, --data-dir, AWS_ENDPOINT_URL_BACKUP, \
             AWS_ENDPOINT_URL nor PROVAULT_DATA_DIR is set, and without HOME there is no default \
             data directory; set one of them"
                .to_owned(),
        ));
    };
    from_data_dir(&dir, "the default data directory")
}

/// The authority of a data directory's own server is known from there, as its region is.
fn ca_file(options: &GlobalOptions, env: &Environment, place: &Place) -> Option<PathBuf> {
    let own = own_file(place).and_then(|file| file.ca_file.clone());
    options.ca_bundle.clone().or(own).or_else(|| env.path("AWS_CA_BUNDLE"))
}

/// What the data directory tells of the server that is asked, and of no other.
fn own_file(place: &Place) -> Option<&ServerFile> {
    let (_, file) = place.data_dir.as_ref()?;
    same_endpoint(&file.endpoint, &place.endpoint).then_some(file)
}

fn further_regions(options: &GlobalOptions, place: &Place) -> Vec<String> {
    if options.region.is_some() {
        return Vec::new();
    }
    own_file(place).map_or_else(Vec::new, |file| file.further_regions.clone())
}

fn usual_data_dir(env: &Environment) -> Option<PathBuf> {
    env.path("PROVAULT_DATA_DIR").or_else(|| env.default_data_dir())
}

fn same_endpoint(a: &str, b: &str) -> bool {
    a.trim_end_matches('/').eq_ignore_ascii_case(b.trim_end_matches('/'))
}

fn from_data_dir(dir: &Path, from: &str) -> Result<Place, CliError> {
    let path = ServerFile::path(dir);
    let start = format!("`provault serve --data-dir {}`", dir.display());
    match ServerFile::load(dir) {
        Ok(file) => Ok(Place {
            endpoint: file.endpoint.clone(),
            hint: format!(
                "The address comes from {} ({from}). Has its server stopped? Start it again with \
                 {start}.",
                path.display()
            ),
            data_dir: Some((dir.to_owned(), file)),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let also = if from == "the default data directory" {
                " (and --endpoint, --data-dir, AWS_ENDPOINT_URL_BACKUP, AWS_ENDPOINT_URL and \
                 PROVAULT_DATA_DIR are not set)"
            } else {
                ""
            };
            Err(CliError::NotFound(format!(
                "no server was found: {} does not exist, looked for because of {from}{also}; start \
                 a server with {start}, or name one with --endpoint URL or --data-dir DIR",
                path.display()
            )))
        }
        Err(error) => Err(CliError::NotFound(format!(
            "{} ({from}) cannot be read: {error}; run the command as the server's user, or name \
             the server with --endpoint URL",
            path.display()
        ))),
    }
}

fn credentials(
    options: &GlobalOptions,
    env: &Environment,
    place: &Place,
) -> Result<(Credentials, String), CliError> {
    let beside = options
        .data_dir
        .as_deref()
        .or(place.data_dir.as_ref().map(|(dir, _)| dir.as_path()))
        .map(ServerFile::credentials_path);
    let shared = env.path("AWS_SHARED_CREDENTIALS_FILE");
    let home = env.path("HOME").map(|home| home.join(".aws/credentials"));

    if let Some(profile) = &options.profile {
        let file = if options.data_dir.is_some() { beside } else { shared.or(beside).or(home) };
        let Some(file) = file else {
            return Err(CliError::NotFound(
                "--profile needs a credentials file: set AWS_SHARED_CREDENTIALS_FILE, or give \
                 --data-dir DIR"
                    .to_owned(),
            ));
        };
        return from_file(&file, profile);
    }
    if let (Some(file), true) = (&beside, options.data_dir.is_some()) {
        return from_file(file, DEFAULT_PROFILE);
    }
    if let Some(found) = from_variables(env)? {
        return Ok(found);
    }
    let profile = env.text("AWS_PROFILE");
    if shared.is_some() || profile.is_some() {
        let profile = profile.as_deref().unwrap_or(DEFAULT_PROFILE);
        let Some(file) = shared.or(home) else {
            return Err(CliError::NotFound(
                "AWS_PROFILE is set, but without HOME there is no ~/.aws/credentials; set \
                 AWS_SHARED_CREDENTIALS_FILE"
                    .to_owned(),
            ));
        };
        return from_file(&file, profile);
    }
    if let Some(file) = &beside {
        return from_file(file, DEFAULT_PROFILE);
    }
    if let Some(file) = &home {
        match from_file(file, DEFAULT_PROFILE) {
            Err(CliError::Credentials(CredentialsError::Io { source, .. }))
                if source.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
    }
    let looked_at = home.map_or_else(String::new, |file| format!(", {}", file.display()));
    Err(CliError::NotFound(format!(
        "no access key was found for {}; looked at --profile, AWS_ACCESS_KEY_ID with \
         AWS_SECRET_ACCESS_KEY, AWS_SHARED_CREDENTIALS_FILE{looked_at}; the server's own key lies \
         in its data directory: give --data-dir DIR, or set \
         AWS_SHARED_CREDENTIALS_FILE=DIR/credentials",
        place.endpoint
    )))
}

fn from_variables(env: &Environment) -> Result<Option<(Credentials, String)>, CliError> {
    let (id, secret) = (env.text("AWS_ACCESS_KEY_ID"), env.text("AWS_SECRET_ACCESS_KEY"));
    let (set, missing) = match (id, secret) {
        (None, None) => return Ok(None),
        (Some(access_key_id), Some(secret)) => {
            let credentials = Credentials {
                access_key_id,
                secret_access_key: Secret::new(secret),
                session_token: env.text("AWS_SESSION_TOKEN").map(Secret::new),
            };
            return Ok(Some((credentials, "the variable AWS_ACCESS_KEY_ID".to_owned())));
        }
        (Some(_), None) => ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (None, Some(_)) => ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    };
    Err(CliError::NotFound(format!(
        "{set} is set but {missing} is not: a key needs both; set {missing}, or unset {set}"
    )))
}

fn from_file(file: &Path, profile: &str) -> Result<(Credentials, String), CliError> {
    let credentials = CredentialsFile::load(file)?.profile(profile)?;
    Ok((credentials, format!("the profile [{profile}] in {}", file.display())))
}

fn region(options: &GlobalOptions, env: &Environment, place: &Place) -> Result<String, CliError> {
    if let Some(region) = &options.region {
        return Ok(region.clone());
    }
    if let Some((_, file)) = &place.data_dir {
        return Ok(file.region.clone());
    }
    env.text("AWS_REGION").or_else(|| env.text("AWS_DEFAULT_REGION")).ok_or_else(|| {
        CliError::NotFound(format!(
            "no region is known for {}; looked at --region, AWS_REGION and AWS_DEFAULT_REGION; \
             set the one the server was started with (us-east-1 unless it was told otherwise)",
            place.endpoint
        ))
    })
}
