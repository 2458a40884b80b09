//! Traces as a collector gets them: a small one of the test's own, which decodes what is sent by the protocol's own definitions.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::support::{Machine, Sim};

/// Listens, and gives what is sent: the path and the body of each request.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                while let Some(request) = request(&mut stream) {
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    if tell.send(request).is_err() || stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, told)
}

fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    let mut body = vec![0; length.unwrap().trim().parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((head.split(' ').nth(1).unwrap().to_owned(), body))
}

/// All spans that were sent.
fn spans(told: &Receiver<(String, Vec<u8>)>) -> Vec<Span> {
    let mut spans = Vec::new();
    for (path, body) in told.try_iter() {
        assert_eq!(path, "/v1/traces");
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        for resource in request.resource_spans {
            let service = resource.resource.unwrap().attributes;
            assert!(service.iter().any(|pair| pair.key == "service.name"));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans
}

fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_run_its_operations_and_its_requests_are_one_trace() {
    let (machine, sim) = (Machine::new(), Sim::start(Default::default()));
    let (address, told) = collector();
    let mut command = machine.command(&["vm", "create", "web-1"]);
    command.envs(sim.variables()).env("CESO_TRACES_ENDPOINT", format!("http://{address}"));
    let done = super::support::done(command.output().unwrap()).ok();
    assert!(!done.err.contains("warning"), "{done:?}");
    let spans = spans(&told);
    let run = spans.iter().find(|span| span.name == "run").expect("the run is a span");
    assert!(run.parent_span_id.is_empty());
    let create = spans.iter().find(|span| attribute(span, "name") == "vm.create").expect("the operation is one");
    assert_eq!((&create.parent_span_id, &create.trace_id), (&run.span_id, &run.trace_id));
    assert_eq!(attribute(create, "outcome"), "done");
    assert!(attribute(create, "id").starts_with(&attribute(run, "id")), "{create:?}");
    // The same name stands in the audit log, and in the host's own as its operationID.
    let log = std::fs::read_to_string(machine.home().join("audit.json")).unwrap();
    assert!(log.contains(&format!("\"correlation\":\"{}\"", attribute(create, "id"))), "{log}");
    let task = spans.iter().find(|span| attribute(span, "method") == "CreateVM_Task").expect("the request is one");
    assert_eq!((&task.parent_span_id, &task.trace_id), (&create.span_id, &run.trace_id));
    assert!(
        create.start_time_unix_nano >= run.start_time_unix_nano && create.end_time_unix_nano <= run.end_time_unix_nano
    );
}

#[test]
fn the_standard_variables_name_a_collector_too() {
    let machine = Machine::new();
    let (address, told) = collector();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}/"))];
    let variables = variables.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>();
    machine.run_with(&variables, &["vm", "list", "--host", "sim"]).ok();
    assert!(spans(&told).iter().any(|span| span.name == "run"));
    let whole = format!("http://{address}/v1/traces");
    machine.run_with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &whole)], &["vm", "list", "--host", "sim"]).ok();
    assert!(spans(&told).iter().any(|span| span.name == "run"));
    machine.run_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], &["vm", "list", "--host", "sim"]).ok();
}

#[test]
fn a_collector_that_does_not_answer_costs_a_bounded_time_and_one_warning() {
    let machine = Machine::new();
    // Nobody listens; and one that takes connections and says nothing.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [dead, silent.local_addr().unwrap().to_string()] {
        let endpoint = format!("http://{address}");
        let done = machine.run_with(&[("CESO_TRACES_ENDPOINT", &endpoint)], &["vm", "list", "--host", "sim"]).ok();
        assert_eq!(done.err.matches("warning: traces were not sent").count(), 1, "{done:?}");
    }
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_done() {
    let machine = Machine::new();
    for endpoint in ["collector", "ftp://a", "http://", "http://user:Pa55word-x@127.0.0.1:1", "file:///etc/passwd"] {
        let done = machine.run_with(&[("CESO_TRACES_ENDPOINT", endpoint)], &["vm", "list", "--host", "sim"]);
        let done = done.failed(2, "usage.traces");
        assert!(!done.err.contains("Pa55word"), "{done:?}");
    }
}

#[test]
fn no_span_holds_a_password() {
    let options = ceso::sim::Options { password: "Pa55-of-the-host!".to_owned().into(), ..Default::default() };
    let (machine, sim) = (Machine::new(), Sim::start(options));
    let (address, told) = collector();
    let mut command = machine.command(&["vm", "list", "--log", "trace"]);
    command.envs(sim.variables()).env("CESO_PASSWORD", "Pa55-of-the-host!");
    command.env("CESO_TRACES_ENDPOINT", format!("http://{address}"));
    super::support::done(command.output().unwrap()).ok();
    let bodies: Vec<Vec<u8>> = told.try_iter().map(|(_, body)| body).collect();
    assert!(!bodies.is_empty());
    let secret = b"Pa55-of-the-host!";
    assert!(bodies.iter().all(|body| !body.windows(secret.len()).any(|window| window == secret)));
}
