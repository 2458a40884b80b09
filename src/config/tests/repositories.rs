//! Places of backups: what their settings may say, and where their passwords and keys come from.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn secret_file(world: World, name: &str, text: &str) -> World {
    let world = world.file(name, text);
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    world
}

#[test]
fn a_repository_is_a_name_a_folder_or_a_bucket() {
    let config = World::new()
        .user("repositories:\n  main: {url: backups}\n  away: {url: s3://bucket/x}\n")
        .var("AWS_ENDPOINT_URL", "https://general")
        .var("AWS_ENDPOINT_URL_S3", "https://special")
        .var("AWS_REGION", "eu-1")
        .good();
    let main = config.repository_or_place("main").unwrap();
    assert!(main.entry.url.ends_with("home/.ceso/backups"), "relative to its file: {}", main.entry.url);
    assert!(main.cache.ends_with(".ceso/cache/repositories"));
    let away = config.repository_or_place("away").unwrap();
    assert!(away.is_bucket() && away.entry.endpoint.is_none(), "a configured one says itself where it is");
    let written = config.repository_or_place("s3://other").unwrap();
    assert_eq!((written.name, written.entry.endpoint.as_deref()), (None, Some("https://special")));
    assert_eq!(written.entry.region.as_deref(), Some("eu-1"));
    assert_eq!(config.repository_or_place("./main").unwrap().entry.url, "./main");
    for (wrong, kind) in [
        ("mian", "usage.unknown_repository"),
        ("", "usage.unknown_repository"),
        ("http://x/y", "usage.repository"),
        ("s3://", "usage.repository"),
        ("s3://key:secret@bucket", "usage.repository"),
    ] {
        let fault = config.repository_or_place(wrong).unwrap_err();
        assert_eq!(fault.kind(), kind, "{wrong}");
        assert!(!format!("{fault:?}").contains("secret@"));
    }
    assert!(format!("{:?}", config.repository("mian").unwrap_err()).contains("main"));
}

#[test]
fn settings_that_do_not_fit_together_are_named() {
    for (wrong, word) in [
        ("{url: /srv, endpoint: \"https://x\"}", "bucket"),
        ("{url: /srv, object_lock: compliance, object_lock_days: 3}", "bucket"),
        ("{url: s3://bucket, object_lock: compliance}", "object_lock_days"),
        ("{url: s3://bucket, object_lock_days: 3}", "object_lock"),
        ("{url: s3://bucket, access_key_env: A}", "secret key"),
    ] {
        World::new()
            .user(&format!("repositories: {{main: {wrong}}}"))
            .refused("config.invalid", &["repositories.main", word]);
    }
    for wrong in ["ftp://x", "s3://", "s3://a:b@bucket"] {
        World::new()
            .user(&format!("repositories: {{main: {{url: \"{wrong}\"}}}}"))
            .refused("config.wrong_type", &["repositories.main.url"]);
    }
    for key in ["secret_key", "access_key_id"] {
        World::new()
            .user(&format!("repositories: {{main: {{url: s3://bucket, {key}: x}}}}"))
            .refused("config.unknown_key", &[key]);
    }
}

#[test]
fn a_password_or_a_key_file_opens_a_repository() {
    use secrecy::ExposeSecret as _;
    let read = |entry: &str| {
        let world =
            World::new().user(&format!("repositories: {{main: {{url: /srv, {entry}}}}}")).var("B", "of the variable");
        let world = secret_file(world, "home/.ceso/p", "of the file\n");
        let world = secret_file(world, "home/.ceso/k", "any\nbytes\n");
        let config = world.good();
        config
            .repository_secret(&config.repository("main").unwrap())
            .map(|secret| secret.map(|secret| String::from_utf8(secret.expose_secret().to_vec()).unwrap()))
    };
    assert_eq!(read("password_file: p").unwrap().as_deref(), Some("of the file"));
    assert_eq!(read("password_env: B").unwrap().as_deref(), Some("of the variable"));
    assert_eq!(read("key_file: k").unwrap().as_deref(), Some("any\nbytes\n"));
    assert_eq!(read("cache: c").unwrap(), None);
    for missing in ["password_file: none", "password_env: NONE", "key_file: none"] {
        assert_eq!(read(missing).unwrap_err().kind(), "config.no_secret", "{missing}");
    }
}

#[test]
fn the_keys_of_a_bucket_come_from_files_variables_a_profile_or_the_environment() {
    use secrecy::ExposeSecret as _;
    let base = |entry: &str| {
        let world = World::new().user(&format!("repositories: {{main: {{url: s3://bucket{entry}}}}}"));
        let world = secret_file(world, "home/.ceso/id", "file-id\n");
        let world = secret_file(world, "home/.ceso/secret", "file-secret\n");
        let credentials = "[default]\naws_access_key_id = default-id\naws_secret_access_key=default-secret\n\n[backup]\n# x\n\
                           aws_secret_access_key = profile-secret\naws_access_key_id = profile-id\naws_session_token = profile-token\n";
        let world = secret_file(world, "home/aws", credentials);
        let path = world.path("home/aws").display().to_string();
        world.var("AWS_SHARED_CREDENTIALS_FILE", &path)
    };
    let keys = |world: World| {
        let config = world.good();
        let keys = config.bucket_keys(&config.repository("main").unwrap())?;
        Ok::<_, Fault>((
            keys.id.expose_secret().to_owned(),
            keys.secret.expose_secret().to_owned(),
            keys.token.map(|token| token.expose_secret().to_owned()),
        ))
    };
    let all =
        |id: &str, secret: &str, token: Option<&str>| (id.to_owned(), secret.to_owned(), token.map(str::to_owned));
    assert_eq!(
        keys(base(", access_key_file: id, secret_key_file: secret")).unwrap(),
        all("file-id", "file-secret", None)
    );
    let named = base(", access_key_env: A, secret_key_env: S").var("A", "var-id").var("S", "var-secret");
    assert_eq!(keys(named).unwrap(), all("var-id", "var-secret", None));
    assert_eq!(keys(base(", profile: backup")).unwrap(), all("profile-id", "profile-secret", Some("profile-token")));
    assert_eq!(keys(base("")).unwrap(), all("default-id", "default-secret", None));
    assert_eq!(keys(base("").var("AWS_PROFILE", "backup")).unwrap().0, "profile-id");
    let environment = base("").var("AWS_ACCESS_KEY_ID", "aws-id").var("AWS_SECRET_ACCESS_KEY", "aws-secret");
    assert_eq!(keys(environment).unwrap(), all("aws-id", "aws-secret", None));
    for missing in [
        base(", profile: other"),
        base(", access_key_env: NO, secret_key_env: NO"),
        base("").var("AWS_ACCESS_KEY_ID", "aws-id"),
        base("").var("AWS_PROFILE", "other"),
    ] {
        assert_eq!(keys(missing).unwrap_err().kind(), "config.no_secret");
    }
}
