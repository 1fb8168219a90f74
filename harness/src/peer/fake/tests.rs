use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, BufRead, Write},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use super::{
    FAKES, FakeError,
    ending::{BusyUntilDone, CrashAtByte},
    flood::{EndlessLine, FloodsStdout},
    growth::ThreadPerCall,
    registry,
    server::{Fault, Output, Plain, serve},
    wire::{Banner, Garbage, HalfALine, InvalidUtf8, NeverAnswers, OneEra},
};
use crate::lifecycle::{scenario::FakeSpec, step::Era};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a server with this fault writes when the client sends these bytes and then closes stdin,
/// and its exit code.
fn talk(fault: &mut dyn Fault, input: &[u8]) -> (String, u8) {
    let (written, code) = talk_bytes(fault, input);
    (String::from_utf8(written).unwrap(), code)
}

/// The same, whatever the bytes are.
fn talk_bytes(fault: &mut dyn Fault, input: &[u8]) -> (Vec<u8>, u8) {
    let sink = Sink::default();
    let code = serve(fault, input, Output::new(sink.clone()));
    let written = sink.0.lock().unwrap().clone();
    (written, code)
}

/// The messages a server with this fault answers these with.
fn answers(fault: &mut dyn Fault, messages: &[Value]) -> Vec<Value> {
    let (text, code) = talk(fault, &lines(messages));
    assert_eq!(code, 0);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines(messages: &[Value]) -> Vec<u8> {
    messages.iter().flat_map(|message| format!("{message}\n").into_bytes()).collect()
}

fn legacy(id: u32, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn modern(id: u32, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    legacy(id, method, params)
}

fn initialize(revision: &str) -> Value {
    let client = json!({"name": "test", "version": "0"});
    let params = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": client});
    legacy(1, "initialize", params)
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

fn spec(name: &str, options: &[(&str, &str)]) -> FakeSpec {
    let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    FakeSpec { name: name.into(), fixed: false, options }
}

#[test]
fn legacy_client_is_served() {
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let session = [
        initialize("2025-11-25"),
        ready,
        legacy(2, "ping", json!({})),
        legacy(3, "tools/list", json!({})),
        legacy(4, "tools/call", call("echo", json!({"text": "ä"}))),
    ];
    let said = answers(&mut Plain, &session);
    assert_eq!(said.len(), 4);
    assert_eq!(said[0]["id"], 1);
    assert_eq!(said[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(said[0]["result"]["serverInfo"]["name"], "scupper-fake");
    assert_eq!(said[1]["result"], json!({}));
    assert_eq!(said[2]["result"]["tools"][0]["name"], "echo");
    let readable = json!({"readOnlyHint": true, "openWorldHint": false});
    assert_eq!(said[2]["result"]["tools"][0]["annotations"], readable);
    assert_eq!(said[2]["result"]["tools"][1].get("annotations"), None);
    assert_eq!(said[3]["result"]["content"][0]["text"], "ä");
    assert!(said.iter().all(|answer| answer["result"].get("resultType").is_none()));
}

#[test]
fn modern_client_is_served() {
    let session = [
        modern(1, "server/discover", json!({})),
        modern(2, "tools/list", json!({})),
        modern(3, "tools/call", call("echo", json!({"text": "x"}))),
    ];
    let said = answers(&mut Plain, &session);
    assert!(said.iter().all(|answer| answer["result"]["resultType"] == "complete"));
    assert_eq!(said[0]["result"]["supportedVersions"], json!(["2026-07-28"]));
    for cacheable in &said[..2] {
        assert_eq!(cacheable["result"]["ttlMs"], 0);
        assert_eq!(cacheable["result"]["cacheScope"], "public");
    }
    assert_eq!(said[2]["result"]["content"][0]["text"], "x");
}

#[test]
fn each_era_lacks_what_only_the_other_has() {
    let unknown = [
        modern(1, "ping", json!({})),
        modern(2, "initialize", json!({})),
        legacy(3, "no/such", json!({})),
    ];
    for answer in answers(&mut Plain, &unknown) {
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
    }
}

#[test]
fn unknown_revision_is_met_with_a_known_one() {
    let mut tomorrow = modern(2, "tools/list", json!({}));
    tomorrow["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01".into();
    let said = answers(&mut Plain, &[initialize("2099-01-01"), tomorrow]);
    assert_eq!(said[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(said[1]["error"]["code"], -32022);
    let data = json!({"supported": ["2026-07-28"], "requested": "2099-01-01"});
    assert_eq!(said[1]["error"]["data"], data);
}

#[test]
fn nonsense_is_refused_and_survived() {
    let mut input =
        b"\n{not json\n[]\n{\"id\":null,\"method\":\"ping\"}\n{\"id\":7,\"result\":{}}\n".to_vec();
    input.extend(lines(&[
        legacy(1, "tools/call", call("no-such-tool", json!({}))),
        legacy(2, "tools/call", call("echo", json!({"text": 5}))),
        legacy(3, "ping", Value::Null),
    ]));
    let (text, code) = talk(&mut Plain, &input);
    let said: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<_> = said[..4].iter().map(|answer| answer["error"]["code"].clone()).collect();
    assert_eq!(codes, [-32700, -32600, -32600, -32602]);
    assert!(said[..3].iter().all(|answer| answer.get("id").is_none()));
    assert_eq!(said[4]["result"]["isError"], true);
    assert_eq!(said[5], json!({"jsonrpc": "2.0", "id": 3, "result": {}}));
    assert_eq!(code, 0);
}

#[test]
fn line_cut_by_the_end_of_stdin_is_no_message() {
    let whole = lines(&[initialize("2025-11-25")]);
    for cut in 0..whole.len() {
        assert_eq!(talk(&mut Plain, &whole[..cut]), (String::new(), 0), "cut at byte {cut}");
    }
}

#[test]
fn broken_stdout_ends_the_server_quietly() {
    struct Broken;
    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let input = lines(&[legacy(1, "ping", json!({}))]);
    assert_eq!(serve(&mut Plain, input.as_slice(), Output::new(Broken)), 1);
}

#[test]
fn sleep_does_not_hold_up_other_requests() {
    let session =
        [legacy(1, "tools/call", call("sleep", json!({"ms": 30}))), legacy(2, "ping", json!({}))];
    let said = answers(&mut BusyUntilDone, &session);
    assert_eq!(said[0]["id"], 2);
    assert_eq!(said[1]["id"], 1);
    assert_eq!(said[1]["result"]["content"][0]["text"], "slept 30 ms");
}

#[test]
fn cancelled_sleep_ends_without_an_answer() {
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let session = [legacy(1, "tools/call", call("sleep", json!({"ms": 3_600_000}))), cancel];
    // It waits for the end of all sleeps, so that it returns at all shows that this one ended.
    assert_eq!(answers(&mut BusyUntilDone, &session), Vec::<Value>::new());
}

#[test]
fn only_a_call_in_flight_is_told_as_cancelled() {
    #[derive(Default)]
    struct Counts(u32);
    impl Fault for Counts {
        fn on_cancel(&mut self) -> io::Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
    let cancel = |id: u32| {
        json!({
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id},
        })
    };
    let sleep = legacy(1, "tools/call", call("sleep", json!({"ms": 3_600_000})));
    let mut counts = Counts::default();
    answers(&mut counts, &[cancel(1), sleep, cancel(7), cancel(1), cancel(1)]);
    assert_eq!(counts.0, 1);
}

#[test]
fn end_of_stdin_does_not_wait_for_a_sleep() {
    let sleep = legacy(1, "tools/call", call("sleep", json!({"ms": 3_600_000})));
    assert_eq!(answers(&mut Plain, &[sleep]), Vec::<Value>::new());
}

#[test]
fn one_era_server_refuses_the_other() {
    let both = [initialize("2025-11-25"), modern(2, "server/discover", json!({}))];
    let said = answers(&mut OneEra(Era::Modern), &both);
    assert_eq!(said[0]["error"]["code"], -32022);
    assert_eq!(said[0]["error"]["data"]["supported"], json!(["2026-07-28"]));
    assert_eq!(said[1]["result"]["resultType"], "complete");
    let said = answers(&mut OneEra(Era::Legacy), &both);
    assert_eq!(said[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(said[1]["error"]["code"], -32601);
}

#[test]
fn crash_leaves_exactly_so_many_bytes() {
    let session = lines(&[initialize("2025-11-25"), legacy(2, "ping", json!({}))]);
    let (whole, _) = talk(&mut Plain, &lines(&[initialize("2025-11-25")]));
    for byte in [0, 1, 40, whole.len() - 1, whole.len(), whole.len() + 1] {
        let (written, code) = talk(&mut CrashAtByte { byte }, &session);
        assert_eq!((written.as_str(), code), (&whole[..byte.min(whole.len())], 1));
    }
}

#[test]
fn wire_faults_write_what_they_promise() {
    let session = lines(&[initialize("2025-11-25"), legacy(2, "ping", json!({}))]);
    let (good, _) = talk(&mut Plain, &session);
    assert_eq!(talk(&mut NeverAnswers, &session), (String::new(), 0));
    assert_eq!(talk(&mut Banner { fixed: true }, &session), (good.clone(), 0));

    let (greeted, _) = talk(&mut Banner { fixed: false }, &session);
    let (banner, rest) = greeted.split_once('\n').unwrap();
    assert!(serde_json::from_str::<Value>(banner).is_err());
    assert_eq!(rest, good);

    let (garbage, _) = talk(&mut Garbage, &session);
    assert_eq!(garbage.lines().count(), 2);
    assert!(garbage.lines().all(|line| serde_json::from_str::<Value>(line).is_err()));

    let (begun, _) = talk(&mut HalfALine::default(), &session);
    let (first, _) = good.split_once('\n').unwrap();
    assert_eq!(begun, first[..first.len().div_ceil(2)]);

    let (latin, _) = talk_bytes(&mut InvalidUtf8, &session);
    let latin: Vec<_> = latin.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
    assert_eq!(latin.len(), 2);
    assert!(latin.iter().all(|line| std::str::from_utf8(line).is_err()));
    let lossy = latin.iter().map(|line| String::from_utf8_lossy(line).into_owned());
    assert!(lossy.into_iter().all(|line| serde_json::from_str::<Value>(&line).is_ok()));

    let (endless, _) = talk(&mut EndlessLine { bytes: 20_000, begun: false }, &session);
    assert!(endless.len() > 20_000 && !endless.contains('\n'));
}

#[test]
fn a_flood_shuts_out_no_answer_and_no_end() {
    let (client_reads, stdout) = io::pipe().unwrap();
    let (stdin, mut client_writes) = io::pipe().unwrap();
    client_writes
        .write_all(&lines(&[
            initialize("2025-11-25"),
            legacy(2, "tools/call", call("sleep", json!({"ms": 0}))),
            legacy(3, "ping", json!({})),
        ]))
        .unwrap();
    let server = thread::spawn(move || {
        serve(&mut FloodsStdout::default(), io::BufReader::new(stdin), Output::new(stdout))
    });
    let mut missing = BTreeSet::from([1, 2, 3]);
    let mut notifications = 0;
    let mut lines = io::BufReader::new(client_reads).lines();
    while !missing.is_empty() || notifications < 1000 {
        let message: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        match message["id"].as_u64() {
            Some(id) => assert!(missing.remove(&id), "{id} is answered twice"),
            None => notifications += 1,
        }
    }
    // The client reads no more, so that the flood is stuck in the pipe; the end comes all the same.
    drop(client_writes);
    assert_eq!(server.join().unwrap(), 0);
}

#[test]
fn parked_threads_stay_and_joined_ones_do_not() {
    // Numbers no other test calls by, so that the names are this test's alone.
    ThreadPerCall { fixed: false }.on_call(71_001).unwrap();
    ThreadPerCall { fixed: true }.on_call(71_002).unwrap();
    let alive = |name: &str| {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.flatten().map(|task| fs::read_to_string(task.path().join("comm")));
        names.flatten().any(|comm| comm.trim_end() == name)
    };
    // The kernel wakes the joiner a moment before it takes the thread off the list, and a thread
    // names itself a moment after it is on the list.
    while alive("call-71002") || !alive("call-71001") {
        thread::yield_now();
    }
}

#[test]
fn every_fake_can_be_built_and_has_the_twin_it_claims() {
    let mut names = BTreeSet::new();
    for info in FAKES {
        assert!(names.insert(info.name), "{} is listed twice", info.name);
        assert!(!info.about.is_empty() && !info.about.contains('\n') && info.about.len() <= 110);
        assert!(registry::build(&spec(info.name, &[])).is_ok(), "{}", info.name);
        let defaults: Vec<_> = info.options.iter().map(|(key, value, _)| (*key, *value)).collect();
        assert!(registry::build(&spec(info.name, &defaults)).is_ok(), "{}", info.name);

        let fixed = FakeSpec { fixed: true, ..spec(info.name, &[]) };
        match registry::build(&fixed).map(drop) {
            Ok(()) => assert!(info.has_twin, "{}", info.name),
            Err(error) => {
                assert!(!info.has_twin);
                assert_eq!(error, FakeError::NoTwin { name: info.name });
            }
        }
    }
    assert!(!names.contains("helper"), "the helper is nobody's to ask for");
}

#[test]
fn wrong_names_and_options_are_explained() {
    let complaint = |name, options: &[_]| {
        registry::build(&spec(name, options)).map(drop).unwrap_err().to_string()
    };
    let wrong: BTreeMap<_, _> = [
        ("a name", complaint("fdswap", &[])),
        ("a name like none", complaint("q", &[])),
        ("an option", complaint("slow-exit", &[("msec", "5")])),
        ("an option of none", complaint("garbage", &[("ms", "5")])),
        ("a number", complaint("slow-exit", &[("ms", "soon")])),
        ("a word", complaint("helper-setsid", &[("at", "noon")])),
        ("a fake", complaint("wrapper", &[("inner", "npx")])),
        ("a number in bounds", complaint("forks-without-end", &[("cap", "1001")])),
    ]
    .into();
    insta::assert_debug_snapshot!(wrong, @r###"
    {
        "a fake": "option `inner` of fake `wrapper` must be the name of a fake, not `npx`",
        "a name": "no fake is called `fdswap` (did you mean `fd-swap`?); `scupper list fakes` names them",
        "a name like none": "no fake is called `q`; `scupper list fakes` names them",
        "a number": "option `ms` of fake `slow-exit` must be a number of milliseconds, not `soon`",
        "a number in bounds": "option `cap` of fake `forks-without-end` must be a number of processes from 1 to 1000, not `1001`",
        "a word": "option `at` of fake `helper-setsid` must be start or call, not `noon`",
        "an option": "fake `slow-exit` has no option `msec`; it has ms",
        "an option of none": "fake `garbage` has no option `ms`; it has none",
    }
    "###);
}
