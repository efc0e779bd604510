//! Where the server and the key are taken from.

use std::fs;
use std::path::Path;

use provault_iam::{Credentials, CredentialsFile, Secret};

use crate::discover::{Found, discover};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::options::GlobalOptions;
use crate::server_file::ServerFile;

fn credentials(id: &str) -> Credentials {
    Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(format!("secret of {id}")),
        session_token: None,
    }
}

fn data_dir(dir: &Path, name: &str) {
    fs::create_dir_all(dir).unwrap();
    let file = ServerFile {
        endpoint: format!("http://{name}"),
        region: format!("{name}-region"),
        further_regions: vec![format!("{name}-site")],
        account_id: "123456789012".into(),
        ca_file: None,
    };
    file.store(dir).unwrap();
    assert_eq!(ServerFile::load(dir).unwrap(), file);
    let path = ServerFile::credentials_path(dir);
    CredentialsFile::write(&path, "default", &credentials(&format!("{name}-key"))).unwrap();
}

/// Two data directories, a shared credentials file, and one in the home directory.
struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        data_dir(&at(".local/state/provault"), "usual");
        data_dir(&at("other"), "other");
        fs::create_dir(at(".aws")).unwrap();
        CredentialsFile::write(&at(".aws/credentials"), "default", &credentials("home-key"))
            .unwrap();
        let shared = "[default]\naws_access_key_id = shared-key\naws_secret_access_key = s\n\
                      [work]\naws_access_key_id = work-key\naws_secret_access_key = s\n";
        fs::write(at("shared"), shared).unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn find(
        &self,
        options: &GlobalOptions,
        variables: &[(&str, &str)],
    ) -> Result<(String, String, String), String> {
        let mut all = vec![("HOME".to_owned(), self.path(""))];
        all.extend(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        discover(options, &all.into_iter().collect::<Environment>())
            .map(|Found { endpoint, credentials, region, .. }| {
                (endpoint, credentials.access_key_id, region)
            })
            .map_err(|error| {
                assert_eq!(error.exit(), Exit::Unreachable);
                error.to_string()
            })
    }
}

#[allow(clippy::unnecessary_wraps)] // To be compared with what is.
fn found(endpoint: &str, key: &str, region: &str) -> Result<(String, String, String), String> {
    Ok((endpoint.to_owned(), key.to_owned(), region.to_owned()))
}

const ENV_KEY: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "env-key"), ("AWS_SECRET_ACCESS_KEY", "s")];

#[test]
fn options_then_the_data_dir_then_the_environment_then_the_default() {
    let machine = Machine::new();
    let other = machine.path("other");
    let none = GlobalOptions::default();
    let dir = GlobalOptions { data_dir: Some(other.clone().into()), ..none.clone() };

    // The default data directory: all three from there, though there is a ~/.aws/credentials.
    let usual = found("http://usual", "usual-key", "usual-region");
    assert_eq!(machine.find(&none, &[]), usual);
    // Empty variables are as good as none, and a region is its server's.
    let empty = [("AWS_ENDPOINT_URL", ""), ("AWS_ACCESS_KEY_ID", ""), ("AWS_REGION", "us-west-2")];
    assert_eq!(machine.find(&none, &empty), usual);
    // A key that the environment names is used there too.
    assert_eq!(machine.find(&none, &ENV_KEY), found("http://usual", "env-key", "usual-region"));

    // Another data directory by variable and by option; the option beats the whole environment.
    let variable = [("PROVAULT_DATA_DIR", other.as_str())];
    let expected = found("http://other", "other-key", "other-region");
    assert_eq!(machine.find(&none, &variable), expected);
    let mut all = ENV_KEY.to_vec();
    let shared = machine.path("shared");
    all.extend([
        ("AWS_ENDPOINT_URL", "http://general"),
        ("AWS_ENDPOINT_URL_BACKUP", "http://special"),
        ("AWS_SHARED_CREDENTIALS_FILE", &shared),
        ("AWS_PROFILE", "work"),
        ("AWS_REGION", "r1"),
        ("AWS_DEFAULT_REGION", "r2"),
    ]);
    assert_eq!(machine.find(&dir, &all), expected);

    // The environment beats the default data directory, the special address the general one, the
    // key itself the profile.
    assert_eq!(machine.find(&none, &all), found("http://special", "env-key", "r1"));
    // Explicit options beat all.
    let options = GlobalOptions {
        endpoint: Some("http://flag".into()),
        region: Some("r0".into()),
        profile: Some("work".into()),
        ..none.clone()
    };
    assert_eq!(machine.find(&options, &all), found("http://flag", "work-key", "r0"));
    // An address by option with a data directory: key and region from there.
    let both = GlobalOptions { endpoint: Some("http://flag".into()), ..dir };
    assert_eq!(machine.find(&both, &all), found("http://flag", "other-key", "other-region"));
}

/// A region that was chosen is one, and of another server than the directory's nothing is known.
#[test]
fn further_regions_are_those_of_the_data_directorys_own_server() {
    let machine = Machine::new();
    let home = || [("HOME".to_owned(), machine.path(""))].into_iter().collect::<Environment>();
    let further = |options: &GlobalOptions| discover(options, &home()).unwrap().further_regions;
    let none = GlobalOptions::default();
    assert_eq!(further(&none), ["usual-site"]);
    let chosen = GlobalOptions { region: Some("usual-region".into()), ..none.clone() };
    assert!(further(&chosen).is_empty());
    let own = GlobalOptions {
        endpoint: Some("http://other/".into()),
        data_dir: Some(machine.path("other").into()),
        ..none
    };
    assert_eq!(further(&own), ["other-site"]);
    let elsewhere = GlobalOptions { endpoint: Some("http://flag".into()), ..own };
    assert!(further(&elsewhere).is_empty());
}

#[test]
fn profiles_as_aws_clients_read_them() {
    let machine = Machine::new();
    let shared = machine.path("shared");
    let place = [("AWS_ENDPOINT_URL", "http://e"), ("AWS_REGION", "r")];
    let with = |more: &[(&str, &str)], profile: Option<&str>| {
        let mut all = place.to_vec();
        all.extend(more);
        let options =
            GlobalOptions { profile: profile.map(str::to_owned), ..GlobalOptions::default() };
        machine.find(&options, &all).map(|(_, key, _)| key)
    };
    let file = ("AWS_SHARED_CREDENTIALS_FILE", shared.as_str());
    assert_eq!(with(&[], None), Ok("home-key".into()));
    assert_eq!(with(&[file], None), Ok("shared-key".into()));
    assert_eq!(with(&[file, ("AWS_PROFILE", "work")], None), Ok("work-key".into()));
    assert_eq!(with(&[file, ("AWS_PROFILE", "none")], Some("work")), Ok("work-key".into()));
    let error = with(&[file], Some("missing")).unwrap_err();
    assert!(error.contains("[missing]") && error.contains("default, work"), "{error}");
    let error = with(&ENV_KEY[..1], None).unwrap_err();
    assert!(error.contains("AWS_SECRET_ACCESS_KEY is not"), "{error}");
    let default = [("AWS_ENDPOINT_URL", "http://e"), ("AWS_DEFAULT_REGION", "r2")];
    let region = machine.find(&GlobalOptions::default(), &default).map(|(_, _, region)| region);
    assert_eq!(region, Ok("r2".into()));
}

#[test]
fn a_data_directorys_key_goes_to_its_own_server_only() {
    let machine = Machine::new();
    fs::remove_file(machine.path(".aws/credentials")).unwrap();
    let none = GlobalOptions::default();
    let at = |url| machine.find(&none, &[("AWS_ENDPOINT_URL", url), ("AWS_REGION", "r")]);
    assert_eq!(at("http://USUAL/"), found("http://USUAL/", "usual-key", "usual-region"));
    let error = at("http://elsewhere").unwrap_err();
    for word in
        ["http://elsewhere", "AWS_ACCESS_KEY_ID", "AWS_SHARED_CREDENTIALS_FILE", "--data-dir"]
    {
        assert!(error.contains(word), "{word} is not in: {error}");
    }
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let machine = Machine::new();
    let none = GlobalOptions::default();
    let error = machine.find(&none, &[("XDG_STATE_HOME", "/nowhere")]).unwrap_err();
    assert!(error.contains("/nowhere/provault/server.json does not exist"), "{error}");
    assert!(error.contains("provault serve --data-dir /nowhere/provault"), "{error}");
    // A relative XDG_STATE_HOME is to be ignored.
    assert!(machine.find(&none, &[("XDG_STATE_HOME", "relative")]).is_ok());
    let bare = discover(&none, &Environment::default()).unwrap_err().to_string();
    assert!(bare.contains("HOME") && bare.contains("--endpoint"), "{bare}");
    let mut place = ENV_KEY.to_vec();
    place.push(("AWS_ENDPOINT_URL", "http://e"));
    let error = machine.find(&none, &place).unwrap_err();
    assert!(error.contains("--region") && error.contains("AWS_REGION"), "{error}");
    fs::write(machine.path("other/server.json"), "{").unwrap();
    let options = GlobalOptions { data_dir: Some(machine.path("other").into()), ..none };
    let error = machine.find(&options, &[]).unwrap_err();
    assert!(error.contains("other/server.json") && error.contains("cannot be read"), "{error}");
}
