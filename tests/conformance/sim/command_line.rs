//! The host's command line over raw SOAP, and what it answers to bad calls; tickets and pictures of consoles to those without them.

use ceso::sim::Server;
use ceso::xml::{self, Limits};

use super::client::{Client, vm};
use super::started::{options, start};

const EXECUTER: (&str, &str) = ("ReflectManagedMethodExecuter", "ha-managed-method-executer");

async fn run(client: &mut Client, moid: &str, method: &str, arguments: &[(&str, &str)]) -> Result<String, String> {
    let arguments: String = arguments
        .iter()
        .map(|(name, text)| format!("<argument><name>{name}</name><val>{text}</val></argument>"))
        .collect();
    let inside = format!("<moid>{moid}</moid><version>urn:vim25/5.0</version><method>{method}</method>{arguments}");
    let answer = client.call("ExecuteSoap", EXECUTER, &inside).await.map_err(|fault| fault.kind)?;
    match answer.text_at("returnval.response") {
        Some(document) => Ok(document.to_owned()),
        None => Err(answer.text_at("returnval.fault.faultDetail").expect("a fault").to_owned()),
    }
}

async fn begun() -> (Server, Client) {
    let server = start(options()).await;
    let client = Client::logged_in(&server).await;
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_answers_with_a_document_of_its_own() {
    let (server, mut client) = begun().await;
    let document =
        run(&mut client, "ha-cli-handler-system-version", "vim.EsxCLI.system.version.get", &[]).await.unwrap();
    let read = xml::parse(document.as_bytes(), Limits::default()).unwrap();
    assert_eq!(read.xsi_type.as_deref(), Some("VimEsxCLIsystemversiongetVersion"));
    assert_eq!(read.text_at("Version"), Some("8.0.3"));
    let described = run(
        &mut client,
        "ha-dynamic-type-manager-local-cli-cliinfo",
        "vim.CLIInfo.FetchCLIInfo",
        &[("typeName", "&lt;typeName&gt;vim.EsxCLI.system.settings.advanced&lt;/typeName&gt;")],
    );
    let described = xml::parse(described.await.unwrap().as_bytes(), Limits::default()).unwrap();
    let set = described.all("method").find(|method| method.text_at("name") == Some("set")).expect("it can be set");
    assert_eq!(set.all("param").filter_map(|one| one.text_at("aliases")).collect::<String>(), "-d-i-o-s");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_no_command_takes_changes_nothing() {
    let (server, mut client) = begun().await;
    let (object, set) = ("ha-cli-handler-system-settings-advanced", "vim.EsxCLI.system.settings.advanced.set");
    let option = ("option", "&lt;option&gt;/Net/GuestIPHack&lt;/option&gt;");
    let value = |text: &str| format!("&lt;intvalue&gt;{text}&lt;/intvalue&gt;");
    for (moid, method) in [
        ("", ""),
        ("ha-host", set),
        (object, "vim.EsxCLI.system.settings.advanced.none"),
        (object, "vim.EsxCLI.system.version.get"),
        (object, "system.settings.advanced.set"),
        ("ha-dynamic-type-manager-local-cli-cliinfo", "vim.CLIInfo.FetchCLIInfo"),
    ] {
        let fault = run(&mut client, moid, method, &[]).await.unwrap_err();
        assert!(fault.contains("NotFound"), "{moid} {method}: {fault}");
    }
    for arguments in [
        vec![("intvalue", value("0"))],
        vec![(option.0, option.1.to_owned())],
        vec![(option.0, option.1.to_owned()), ("intvalue", value("zero"))],
        vec![(option.0, option.1.to_owned()), ("intvalue", value("99999999999999999999"))],
        vec![(option.0, option.1.to_owned()), ("intvalue", String::new())],
        vec![(option.0, option.1.to_owned()), ("intvalue", value("0")), ("other", value("0"))],
        vec![(option.0, option.1.replace("Guest", "None")), ("intvalue", value("0"))],
    ] {
        let given: Vec<(&str, &str)> = arguments.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let fault = run(&mut client, object, set, &given).await.unwrap_err();
        assert!(fault.contains("VimEsxCLICLIFault") && fault.contains("errMsg"), "{given:?}: {fault}");
    }
    let deep = "&lt;a&gt;".repeat(10_000);
    for text in ["&lt;intvalue&gt;", "&lt;/argument&gt;&lt;argument&gt;", "&lt;!DOCTYPE a&gt;", deep.as_str()] {
        let fault = run(&mut client, object, set, &[option, ("intvalue", text)]).await.unwrap_err();
        assert_eq!(fault, "InvalidRequest", "{text:.40}");
    }
    let told = run(&mut client, object, "vim.EsxCLI.system.settings.advanced.list", &[option]).await.unwrap();
    assert!(told.contains("<IntValue>1</IntValue>"), "{told}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_shown_to_who_is_logged_in_and_while_it_runs() {
    let (server, mut client) = begun().await;
    let look = async |client: &Client, query: &str, cookie: bool| {
        let mut request = client.http.get(format!("{}/screen{query}", client.base));
        if let Some(cookie) = client.cookie.as_ref().filter(|_| cookie) {
            request = request.header("Cookie", cookie);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap())
    };
    assert_eq!(
        client.call("AcquireTicket", vm("1"), "<ticketType>webmks</ticketType>").await.unwrap_err().kind,
        "InvalidPowerState"
    );
    assert_eq!(look(&client, "?id=1", true).await.0, 503);
    client.task("PowerOnVM_Task", vm("1"), "").await.unwrap();
    let (status, picture) = look(&client, "?id=1", true).await;
    assert!(status == 200 && picture.starts_with(b"\x89PNG"));
    assert_eq!(look(&client, "?id=1", false).await.0, 401);
    for query in ["", "?id=", "?id=2", "?id=ha-host", "?id=%00"] {
        assert_eq!(look(&client, query, true).await.0, 404, "{query}");
    }
    let ticket = client.call("AcquireTicket", vm("1"), "<ticketType>webmks</ticketType>").await.unwrap();
    assert!(ticket.text_at("returnval.url").is_some_and(|url| url.starts_with("wss://127.0.0.1:")));
    assert_eq!(
        client.call("AcquireTicket", vm("1"), "<ticketType>none</ticketType>").await.unwrap_err().kind,
        "InvalidArgument"
    );
    server.stop().await;
}
