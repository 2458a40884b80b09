//! `/folder`: files over HTTPS, and nothing outside the datastore.

use ceso::sim::Options;
use reqwest::Method;

use super::client::Client;
use super::started::{options, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_up_and_comes_down_whole_and_in_parts() {
    let server = start(options()).await;
    let client = Client::logged_in(&server).await;
    assert_eq!(client.file(Method::PUT, "a%20file.txt", Some("0123456789"), None).await.status(), 201);
    assert_eq!(client.file(Method::PUT, "a%20file.txt", Some("0123456789"), None).await.status(), 200);
    let got = client.file(Method::GET, "a%20file.txt", None, None).await;
    assert_eq!((got.status().as_u16(), got.text().await.unwrap().as_str()), (200, "0123456789"));
    let head = client.file(Method::HEAD, "a%20file.txt", None, None).await;
    assert_eq!(head.headers()["content-length"], "10");
    let part = client.file(Method::GET, "a%20file.txt", None, Some("bytes=2-4")).await;
    assert_eq!((part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()), (206, "bytes 2-4/10"));
    assert_eq!(part.text().await.unwrap(), "234");
    assert_eq!(client.file(Method::GET, "a%20file.txt", None, Some("bytes=10-")).await.status(), 416);
    assert_eq!(client.file(Method::GET, "none", None, None).await.status(), 404);
    assert_eq!(client.file(Method::PUT, "no/such/folder", Some("x"), None).await.status(), 404);
    assert_eq!(client.file(Method::PUT, "debian-12", Some("x"), None).await.status(), 409);
    assert_eq!(client.file(Method::DELETE, "a%20file.txt", None, None).await.status(), 200);
    assert_eq!(client.file(Method::GET, "a%20file.txt", None, None).await.status(), 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_ranges_sends_the_whole_file() {
    let server = start(Options { ranges: false, ..options() }).await;
    let client = Client::logged_in(&server).await;
    client.file(Method::PUT, "f", Some("0123456789"), None).await;
    let got = client.file(Method::GET, "f", None, Some("bytes=0-0")).await;
    assert_eq!((got.status().as_u16(), got.text().await.unwrap().len()), (200, 10));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_running_disks_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let server = start(Options { state: Some(state.path().to_owned()), ..options() }).await;
    let mut client = Client::logged_in(&server).await;
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc", state.path().join("datastore1/etc")).unwrap();
        for (method, body) in [(Method::GET, None), (Method::PUT, Some("x")), (Method::DELETE, None)] {
            assert_eq!(client.file(method, "etc/passwd", body, None).await.status(), 403);
        }
    }
    client.task("PowerOnVM_Task", ("VirtualMachine", "1"), "").await.unwrap();
    assert_eq!(client.file(Method::GET, "debian-12/debian-12-flat.vmdk", None, None).await.status(), 403);
    assert_eq!(client.file(Method::PUT, "debian-12/debian-12-flat.vmdk", Some("x"), None).await.status(), 403);
    server.stop().await;
}
