//! What is sent arrives, and what is hostile is refused.

use serde::{Deserialize, Serialize};

use super::*;

fn through<T: Serialize + for<'de> Deserialize<'de>>(frame: &T) -> T {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, frame).unwrap();
    read_frame(&mut bytes.as_slice(), MAX_FRAME).unwrap()
}

#[test]
fn frames_arrive_as_they_were_sent() {
    let handle = Handle {
        id: 7,
        kind: "vm".into(),
        name: "web-1".into(),
        fields: vec![("power".into(), Value::Text("on".into()))],
    };
    let value = Value::Map(vec![
        ("b".into(), Value::List(vec![Value::Nil, Value::Bool(true), Value::Int(-3), Value::Float(0.5)])),
        ("a".into(), Value::Bytes(vec![0xff, 0])),
        ("vm".into(), Value::Handle(Box::new(handle))),
    ]);
    let call = FromWorker::Call { call: 1, operation: "vm.info".into(), arguments: value.clone() };
    assert_eq!(through(&call), call);
    let answer = ToWorker::Answer { call: 1, outcome: Outcome::Done(value) };
    assert_eq!(through(&answer), answer);
    let start = ToWorker::Start(Box::new(Start {
        run: "r".into(),
        purpose: Purpose::Run(Source { name: "x".into(), text: b"return 1".to_vec() }),
        limits: Limits::default(),
        hardened: true,
        jail: Jail::Full,
    }));
    assert_eq!(through(&start), start);
}

#[test]
fn a_table_never_reads_as_a_handle() {
    let fake = Value::Map(vec![("id".into(), Value::Int(1)), ("kind".into(), Value::Text("vm".into()))]);
    assert_eq!(through(&fake), fake);
}

#[test]
fn handles_nested_in_handles_cannot_exhaust_the_stack() {
    let mut value = Value::Nil;
    for _ in 0..5 {
        value = Value::Handle(Box::new(Handle { fields: vec![("x".into(), value)], ..Handle::default() }));
    }
    let mut bytes = Vec::new();
    write_frame(&mut bytes, &value).unwrap();
    assert!(matches!(read_frame::<Value>(&mut bytes.as_slice(), MAX_FRAME), Err(FrameError::Malformed(_))));
}

#[test]
fn hostile_frames_are_refused() {
    let read = |bytes: &[u8]| read_frame::<Value>(&mut &bytes[..], 1000);
    assert!(matches!(read(&[]), Err(FrameError::Closed)));
    assert!(matches!(read(&[9, 0, 0, 0, 1]), Err(FrameError::Closed)));
    assert!(matches!(read(&[0xff, 0xff, 0xff, 0xff]), Err(FrameError::TooLarge(..))));
    let mut deep = vec![200, 0, 0, 0];
    deep.extend([0x91; 200]);
    assert!(matches!(read(&deep), Err(FrameError::Malformed(_))));
    assert!(matches!(read(&[2, 0, 0, 0, 0xdd, 0xff]), Err(FrameError::Malformed(_))));
    assert!(matches!(read(&[5, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff]), Err(FrameError::Malformed(_))));
    assert!(matches!(read(&[3, 0, 0, 0, 0xd4, 9, 0]), Err(FrameError::Malformed(_))));
    // Each nil is one byte here and more than thirty in memory.
    let mut bomb = vec![0; 4];
    bomb.extend([0xdd, 0x00, 0xf0, 0x00, 0x00]);
    bomb.resize(bomb.len() + 0xf0_0000, 0xc0);
    let length = (bomb.len() - 4) as u32;
    bomb[..4].copy_from_slice(&length.to_le_bytes());
    let read = read_frame::<Value>(&mut bomb.as_slice(), MAX_FRAME);
    assert!(matches!(&read, Err(FrameError::Malformed(why)) if why.contains("values")), "{:?}", read.err());
    let many = Value::List(vec![Value::Nil; MAX_VALUES]);
    assert!(matches!(encode_frame(&many, MAX_FRAME), Err(FrameError::TooMany(_))));
}
