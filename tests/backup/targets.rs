//! Buckets as targets: the suite that every target passes, on servers of others, straight and through a proxy that breaks things.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ceso::backup::target::{Listed, Target};
use ceso::backup::{Access, Error, Id, Lock, LockMode, Place};

use crate::proxy::Proxy;
use crate::servers::{BUCKET, SECRET, Server, access};

#[path = "../../src/backup/target/suite.rs"]
pub mod suite;

/// An empty place in the bucket, at another prefix each time.
fn fresh(access: &Access) -> Arc<dyn Target> {
    let prefix = uuid::Uuid::new_v4();
    format!("s3://{BUCKET}/test/{prefix}").parse::<Place>().unwrap().open(access).unwrap()
}

fn through(proxy: SocketAddr, server: &Server) -> Access {
    access(proxy, server.folder.path())
}

#[test]
#[ignore = "needs moto"]
fn moto_keeps_every_promise() {
    let server = Server::moto();
    suite::every_promise(&|| fresh(&server.access()));
}

#[test]
#[ignore = "needs moto"]
fn moto_keeps_every_promise_through_trouble() {
    let server = Server::moto();
    // moto stores a body with another hash than was signed, so no bit is flipped.
    let proxy = Proxy::without_flips(server.address, 12, 7);
    suite::every_promise(&|| fresh(&through(proxy.address, &server)));
    assert!(proxy.made().len() >= 7, "{:?}", proxy.made());
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_keeps_every_promise() {
    let server = Server::versitygw();
    suite::every_promise(&|| fresh(&server.access()));
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_keeps_every_promise_through_trouble() {
    let server = Server::versitygw();
    let proxy = Proxy::start(server.address, 12, 11);
    suite::every_promise(&|| fresh(&through(proxy.address, &server)));
    assert!(proxy.made().len() >= 8, "{:?}", proxy.made());
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_refuses_wrong_keys_and_is_not_asked_again() {
    let server = Server::versitygw();
    let proxy = Proxy::start(server.address, 0, 0);
    fresh(&through(proxy.address, &server)).put("config", b"x").unwrap();
    for wrong in ["id", "secret"] {
        let mut access = through(proxy.address, &server);
        let keys = access.keys.as_mut().unwrap();
        match wrong {
            "id" => keys.id = "nobody".to_owned().into(),
            _ => keys.secret = "of-somebody-else".to_owned().into(),
        }
        let before = proxy.requests();
        for error in [
            fresh(&access).put("config", b"x").unwrap_err(),
            fresh(&access).get_all("config", 9).unwrap_err(),
            fresh(&access).delete(&["config".to_owned()]).unwrap_err(),
        ] {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("of-somebody-else") && !text.contains(SECRET), "{text}");
            assert_eq!(ceso::error::Fault::from(error).kind(), "backup.denied", "{text}");
        }
        assert_eq!(proxy.requests() - before, 3);
    }
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_has_no_bucket_of_that_name() {
    let server = Server::versitygw();
    let target = "s3://another-bucket/x".parse::<Place>().unwrap().open(&server.access()).unwrap();
    let error = target.get_all("config", 9).unwrap_err();
    assert!(!error.is_missing() && error.to_string().contains("NoSuchBucket"), "{error}");
}

#[test]
#[ignore = "needs moto"]
fn moto_without_conditions_is_refused_and_nothing_is_overwritten() {
    let server = Server::moto();
    let proxy = Proxy::that_drops(server.address, "if-none-match");
    let access = through(proxy.address, &server);
    let place = format!("s3://{BUCKET}/kept").parse::<Place>().unwrap();
    place.open(&server.access()).unwrap().put("config", b"first").unwrap();
    // The probe is there already: an honest server refuses it, and this one takes it.
    let error = place.open(&access).unwrap().put("config", b"other").unwrap_err();
    assert!(matches!(&error, Error::Option(text) if text.contains("If-None-Match")), "{error}");
    assert_eq!(place.open(&server.access()).unwrap().get_all("config", 9).unwrap(), b"first");
}

#[test]
#[ignore = "needs moto"]
fn moto_and_boto3_see_the_same_files() {
    let server = Server::moto();
    let place = format!("s3://{BUCKET}/a-prefix").parse::<Place>().unwrap();
    let target = place.open(&server.access()).unwrap();
    target.put("index/aa", b"by ceso").unwrap();
    server.boto3("s3.put_object(Bucket=bucket, Key='a-prefix/index/bb', Body=b'by boto3')\ns3.put_object(Bucket=bucket, Key='a-prefix/index/', Body=b'')\ns3.put_object(Bucket=bucket, Key='a-prefix/index/A folder', Body=b'')");
    assert_eq!(
        server.boto3("print(s3.get_object(Bucket=bucket, Key='a-prefix/index/aa')['Body'].read().decode(), end='')"),
        "by ceso"
    );
    assert_eq!(target.get_all("index/bb", 99).unwrap(), b"by boto3");
    let mut names = Vec::new();
    let mut each = |listed: Listed| {
        names.push(listed.name);
        Ok(())
    };
    target.list("index", &mut each).unwrap();
    names.sort();
    assert_eq!(names, ["index/aa", "index/bb"]);
}

#[test]
#[ignore = "needs moto"]
fn moto_locks_what_a_backup_consists_of_and_nothing_else() {
    let server = Server::moto();
    server.boto3("s3.create_bucket(Bucket='locked', ObjectLockEnabledForBucket=True)");
    let lock = Lock { mode: LockMode::Compliance, time: Duration::from_secs(2 * 24 * 60 * 60) };
    let access = Access { lock: Some(lock), ..server.access() };
    let target = "s3://locked/x".parse::<Place>().unwrap().open(&access).unwrap();
    let spool = || {
        let mut spool = target.spool().unwrap();
        spool.write(b"a pack").unwrap();
        spool
    };
    target.put_spool("data/00/aa", spool()).unwrap();
    for name in ["manifests/bb", "leases/cc", "claims/dd", "locks/keys"] {
        target.put(name, b"x").unwrap();
    }
    let modes = server.boto3(
        "for key in ['data/00/aa', 'manifests/bb', 'leases/cc', 'claims/dd', 'locks/keys', 'probe']:\n    head = s3.head_object(Bucket='locked', Key='x/' + key)\n    \
         until = head.get('ObjectLockRetainUntilDate')\n    print(head.get('ObjectLockMode'), until is not None and (until - head['LastModified']).days)",
    );
    assert_eq!(modes, "COMPLIANCE 2\nCOMPLIANCE 2\nNone False\nNone False\nNone False\nNone False\n");
    // Versions are kept there: the file is hidden, and its bytes stay until the lock ends.
    target.delete(&["data/00/aa".to_owned()]).unwrap();
    assert!(target.get_all("data/00/aa", 99).unwrap_err().is_missing());
    let versions = server.boto3("print(len(s3.list_object_versions(Bucket='locked', Prefix='x/data/')['Versions']))");
    assert_eq!(versions, "1\n");
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_says_that_its_bucket_has_no_locks() {
    let server = Server::versitygw();
    let lock = Lock { mode: LockMode::Governance, time: Duration::from_secs(24 * 60 * 60) };
    let access = Access { lock: Some(lock), ..server.access() };
    let error = fresh(&access).put("config", b"x").unwrap_err();
    assert!(error.to_string().to_lowercase().contains("lock"), "{error}");
}

#[test]
#[ignore = "needs versitygw"]
fn versitygw_and_a_prune_meet_a_locked_pack() {
    let server = Server::versitygw();
    server.boto3("s3.create_bucket(Bucket='locked', ObjectLockEnabledForBucket=True)");
    let lock = Lock { mode: LockMode::Governance, time: Duration::from_secs(24 * 60 * 60) };
    let target = "s3://locked/x".parse::<Place>().unwrap();
    let target = target.open(&Access { lock: Some(lock), ..server.access() }).unwrap();
    target.put("index/aa", b"x").unwrap();
    target.put("leases/bb", b"x").unwrap();
    let error = target.delete(&["index/aa".to_owned(), "leases/bb".to_owned()]).unwrap_err();
    assert!(matches!(&error, Error::Locked { file, count: 1, .. } if file == "index/aa"), "{error}");
    assert!(target.get_all("leases/bb", 9).unwrap_err().is_missing(), "the other one is gone");
    assert_eq!(target.get_all("index/aa", 9).unwrap(), b"x");
}
