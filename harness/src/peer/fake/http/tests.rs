use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    super::{FAKES, FakeError, HTTP_FAKES, check, message::Incoming},
    channel::{Channel, Next},
    modern, registry, subscription,
};
use crate::{lifecycle::scenario::FakeSpec, peer::http::message::Head};

fn spec(name: &str, fixed: bool, options: &[(&str, &str)]) -> FakeSpec {
    let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    FakeSpec { name: name.into(), fixed, options }
}

#[test]
fn every_fake_can_be_built_and_has_the_twin_it_claims() {
    let mut names = BTreeSet::new();
    for info in HTTP_FAKES {
        assert!(names.insert(info.name), "{} is listed twice", info.name);
        assert!(!info.about.is_empty() && !info.about.contains('\n') && info.about.len() <= 110);
        let defaults: Vec<_> = info.options.iter().map(|(key, value, _)| (*key, *value)).collect();
        assert!(registry::build(&spec(info.name, false, &[])).is_ok(), "{}", info.name);
        assert!(registry::build(&spec(info.name, false, &defaults)).is_ok(), "{}", info.name);
        match registry::build(&spec(info.name, true, &[])).map(drop) {
            Ok(()) => assert!(info.has_twin, "{}", info.name),
            Err(error) => {
                assert!(!info.has_twin);
                assert_eq!(error, FakeError::NoTwin { name: info.name });
            }
        }
    }
}

#[test]
fn a_fake_of_the_other_transport_is_told_from_one_that_there_is_not() {
    let over_http = |name| registry::build(&spec(name, false, &[])).map(drop);
    let over_stdio = |name| check(&spec(name, false, &[]));
    let name = String::from;
    let stdio_only = FakeError::StdioOnly { name: name("fd-swap") };
    assert_eq!(over_http("fd-swap"), Err(stdio_only));
    assert_eq!(
        over_stdio("fd-per-session"),
        Err(FakeError::HttpOnly { name: name("fd-per-session") })
    );
    let unknown =
        FakeError::UnknownName { name: name("ignores-trem"), nearest: Some("ignores-term") };
    assert_eq!(over_http("ignores-trem"), Err(unknown));
    for both in ["plain", "slow-exit", "gateway"] {
        assert!(FAKES.iter().any(|info| info.name == both) && over_http(both).is_ok());
    }
    let wrong = registry::build(&spec("memory-per-session", false, &[("kib", "65537")])).map(drop);
    assert!(wrong.is_err_and(|error| error.to_string().contains("from 1 to 65536")));
}

#[test]
fn modern_headers_must_say_what_the_body_says() {
    let request = |params: Value| {
        let text = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        match Incoming::parse(text.to_string().as_bytes()) {
            Incoming::Request(request) => request,
            other => panic!("no request: {other:?}"),
        }
    };
    let revision = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let modern = request(json!({"name": "echo", "_meta": revision}));
    let legacy = request(json!({"name": "echo"}));
    let head = |rows: &[(&str, &str)]| Head {
        headers: rows.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..Head::default()
    };
    let version = ("mcp-protocol-version", "2026-07-28");
    let (method, name) = (("mcp-method", "tools/call"), ("mcp-name", "echo"));
    assert!(modern::mismatch(&head(&[version, method, name]), &modern).is_none());
    for wrong in [
        &[version, method][..],
        &[version, name],
        &[method, name],
        &[version, method, ("mcp-name", "sleep")],
        &[("mcp-protocol-version", "2025-11-25"), method, name],
    ] {
        assert!(modern::mismatch(&head(wrong), &modern).is_some(), "{wrong:?}");
    }
    assert!(modern::mismatch(&head(&[version, method, name]), &legacy).is_some());
}

#[test]
fn events_of_an_answer_stay_and_others_go_when_they_were_read() {
    let data = |next| match next {
        Next::Event(number, data) => Some((number, String::from_utf8(data).unwrap())),
        Next::Nothing | Next::End => None,
    };
    for (channel, stays) in [(Channel::of_answer(), true), (Channel::standalone(), false)] {
        channel.push(b"one".to_vec());
        channel.push(b"two".to_vec());
        assert_eq!(data(channel.next(0)), Some((1, "one".to_owned())));
        assert_eq!(data(channel.next(1)), Some((2, "two".to_owned())));
        assert!(matches!(channel.next(2), Next::Nothing));
        assert_eq!(data(channel.next(0)).is_some(), stays);
        channel.end();
        channel.push(b"late".to_vec());
        assert!(matches!(channel.next(2), Next::End));
    }
}

#[test]
fn a_reader_that_is_too_far_behind_loses_its_stream() {
    let channel = Channel::standalone();
    for _ in 0..4 {
        channel.push(vec![b'x'; 1 << 20]);
    }
    assert!(!channel.has_ended());
    channel.push(vec![b'x'; 1 << 20]);
    assert!(channel.has_ended());
}

#[test]
fn a_subscription_is_acknowledged_first_and_ends_with_a_result_that_names_it() {
    let request = |params: Value| {
        let text =
            json!({"jsonrpc": "2.0", "id": 7, "method": subscription::METHOD, "params": params});
        match Incoming::parse(text.to_string().as_bytes()) {
            Incoming::Request(request) => request,
            other => panic!("no request: {other:?}"),
        }
    };
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let wanted = json!({"toolsListChanged": true, "promptsListChanged": true});
    let right = request(json!({"notifications": wanted, "_meta": meta}));
    let wrong = request(json!({"_meta": meta}));
    assert!(subscription::acknowledgement(&wrong).is_none());

    let channel = Channel::of_subscription(subscription::result(&right));
    channel.push(subscription::acknowledgement(&right).expect("it is taken"));
    channel.end();
    let said = |after| match channel.next(after) {
        Next::Event(_, data) => serde_json::from_slice(&data).expect("JSON"),
        Next::Nothing => json!("nothing yet"),
        Next::End => json!("nothing more"),
    };
    let (first, last, then) = (said(0), said(1), said(2));
    let id = "io.modelcontextprotocol~1subscriptionId";
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}));
    assert_eq!(first.pointer(&format!("/params/_meta/{id}")), Some(&json!(7)));
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(7), &json!("complete")));
    assert_eq!(last.pointer(&format!("/result/_meta/{id}")), Some(&json!(7)));
    assert_eq!(then, "nothing more");
}
