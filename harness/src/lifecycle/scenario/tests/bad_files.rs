//! Each snapshot is a page that somebody reads whose file was turned down.

use super::*;

/// A client, and what may be wrong with it.
fn client(subject: &str, script: &str, expect: &str) -> String {
    message(&format!(
        "why = \"A test.\"\n\n[subject]\n{subject}\n\n{script}\n\n[expect]\n{expect}\n"
    ))
}

#[test]
fn keys_of_a_client_that_do_not_fit() {
    insta::assert_snapshot!(client(
        "client = [\"host\"]\nfixed = true\nlong-lived = true\nrounds-arg = [\"{rounds}\"]",
        "[script]\nattack = \"SIGTERM\"\n\n[[script.server]]\nfake = \"plain\"\ninstead = \
         \"dies\"\n\n[[step]]\ndo = \"open\"",
        "verdict = \"clean\"",
    ));
}

#[test]
fn a_client_that_cannot_do_what_it_is_given() {
    let servers = "[[script.server]]\nfake = \"plain\"\n\n".repeat(2);
    insta::assert_snapshot!(client(
        "client = [\"client\", \"{server}\"]",
        &format!("[script]\nattack = \"SIGINT\"\nmoment = \"busy\"\nrounds = 4\n\n{servers}"),
        "verdict = \"leak\"\n\n[[expect.finding]]\nkind = \"file\"\nbirth-step = \"client start\"",
    ));
}

#[test]
fn keys_of_a_service_that_do_not_fit() {
    insta::assert_snapshot!(client(
        "client = [\"client\", \"{url}\"]",
        "[script.service]\nfault = \"hold\"\nwhen = \"tools/call\"\nera = \"2025\"",
        "verdict = \"clean\"",
    ));
    insta::assert_snapshot!(
        "a_client_that_is_told_of_nothing",
        client("client = [\"client\", \"{url}\"]", "[script]\nrounds = 20", "verdict = \"clean\"")
    );
}

#[test]
fn a_client_over_http_that_cannot_do_what_it_is_given() {
    insta::assert_snapshot!(client(
        "client = [\"client\", \"{server}\", \"{rounds}\"]",
        "[script]\nattack = \"SIGINT\"\nmoment = \"closing\"\nrounds = 20\n\n[script.service]\n\
         fault = \"redirects\"\nat = \"tools/call\"\n\n[[script.server]]\nfake = \"plain\"",
        "verdict = \"leak\"\n\n[[expect.finding]]\nkind = \"file\"\nbirth-step = \"client starts \
         server\"",
    ));
    insta::assert_snapshot!(
        "a_fault_that_does_not_strike_there",
        client(
            "client = [\"client\"]",
            "[script.service]\nfault = \"resets\"\nat = \"DELETE\"",
            "verdict = \"clean\"",
        )
    );
    insta::assert_snapshot!(
        "a_request_at_which_nothing_happens",
        client("client = [\"client\"]", "[script.service]\nat = \"x\"", "verdict = \"clean\"")
    );
}

#[test]
fn a_script_of_a_server() {
    insta::assert_snapshot!(message(&around("[script]\nrounds = 3\n\n[[step]]\ndo = \"open\"")));
}

#[test]
fn nothing_in_it() {
    insta::assert_snapshot!(message(""));
}

#[test]
fn not_toml() {
    insta::assert_snapshot!(message("why = A server\n"));
}

#[test]
fn a_key_twice() {
    let text = around(&list(&["open", "call tool=\"a\" tool=\"b\""]));
    insta::assert_snapshot!(message(&text));
}

#[test]
fn the_line_of_the_first_is_in_the_same_table() {
    let said = |text: &str| {
        let mistake = parse("x.toml", text).unwrap_err().mistakes()[0].clone();
        format!("{}: {}", mistake.message, mistake.label)
    };
    let table = around(&list(&["open"])) + "\n[subject]\nfake = \"plain\"\n";
    assert_eq!(said(&table), "`subject` is there twice: first in line 3");
    assert_eq!(
        said("a = 1\n[x]\nb = 1\n[y]\nb = 2\nb = 3\n"),
        "`b` is there twice: first in line 5"
    );
    assert_eq!(said("x = { a = 1, a = 2 }"), "`a` is there twice: a second time");
}

#[test]
fn null() {
    insta::assert_snapshot!(message(&around(&list(&["open", "send text=null"]))));
}

#[test]
fn branches_that_are_steps() {
    insta::assert_snapshot!(message(&around(
        "[[step]]\ndo = \"open\"\n[[step]]\ndo = \"concurrently\"\n[[step.branch]]\ndo = \"call\"\n\
         tool = \"echo\"\n[[step.branch]]\ndo = \"cancel\"",
    )));
}

#[test]
fn unknown_step() {
    insta::assert_snapshot!(message(&around(&list(&["open", "halfclose stream=\"stdin\""]))));
}

#[test]
fn misspelt_keys() {
    insta::assert_snapshot!(message(&around(
        "[[step]]\ndo = \"open\"\nconection = \"b\"\nwhy = \"here?\"\n\n[[steps]]\ndo = \"close\"",
    )));
}

#[test]
fn steps_inside_the_wrong_step() {
    insta::assert_snapshot!(message(&around(
        "[[step]]\ndo = \"open\"\n[[step.step]]\ndo = \"close\"",
    )));
}

#[test]
fn wrong_types() {
    insta::assert_snapshot!(message(&around(&list(&[
        "open within=5",
        "call tool=3 wait=\"no\"",
        "repeat times=\"often\"",
    ]))));
}

#[test]
fn missing_keys() {
    insta::assert_snapshot!(message(&around(&list(&["open", "call", "kill", "send"]))));
}

#[test]
fn two_of_one() {
    insta::assert_snapshot!(message(&around(&list(&[
        "open",
        "send text=\"x\" payload=\"handshake\"",
    ]))));
}

#[test]
fn unknown_word() {
    insta::assert_snapshot!(message(&around(&list(&["open", "half-close stream=\"stdinn\""]))));
}

#[test]
fn bad_duration() {
    insta::assert_snapshot!(message(&around(&list(&["open within=\"5sec\""]))));
}

#[test]
fn out_of_bounds() {
    insta::assert_snapshot!(message(&around(&format!(
        "{}[[step.step]]\ndo = \"open\"\n",
        list(&["open within=\"11m\"", "close", "repeat times=0"]),
    ))));
}

#[test]
fn connection_not_open() {
    insta::assert_snapshot!(message(&around(&list(&[
        "open",
        "handshake connection=\"b\"",
        "call connection=\"b\" tool=\"echo\"",
    ]))));
}

#[test]
fn steps_after_the_end() {
    insta::assert_snapshot!(message(&around(&list(&["open", "close", "call tool=\"echo\""]))));
}

#[test]
fn leak_without_findings() {
    let text = around(&list(&["open"])).replace("\"clean\"", "\"leak\"");
    insta::assert_snapshot!(message(&text));
}

#[test]
fn clean_with_a_leak() {
    let text = around(&list(&["open"])) + "[[expect.finding]]\nkind = \"process\"\n";
    insta::assert_snapshot!(message(&text));
}

/// A file that expects one finding with these keys of a server that is called thirty times.
fn expecting(keys: &str, times: u32) -> String {
    let steps = list(&["open", "handshake", &format!("repeat times={times}")])
        + "[[step.step]]\ndo = \"call\"\ntool = \"echo\"\n";
    around(&steps).replace("\"clean\"", "\"leak\"")
        + &format!("[[expect.finding]]\nkind = \"fd\"\n{keys}\n")
}

#[test]
fn steps_that_are_not_there() {
    insta::assert_snapshot!(message(&expecting(
        "birth-step = \"call ecko\"\ndue-step = \"repeat 30\"",
        20,
    )));
}

#[test]
fn steps_of_reports_are_there() {
    let keys = [
        "birth-step = \"call echo\"\ndue-step = \"repeat 20\"",
        "birth-step = \"before the first step\"",
        "due-step = \"end of the lifecycle\"",
    ];
    for keys in keys {
        assert!(parse("x.toml", &expecting(keys, 20)).is_ok(), "{keys}");
    }
    let wrong = parse("x.toml", &expecting("birth-step = \"Open\"", 20)).unwrap_err();
    let help = wrong.mistakes()[0].help.clone().unwrap();
    assert!(help.starts_with("did you mean `open`?"), "{help}");
}

#[test]
fn growth_in_too_few_repetitions() {
    insta::assert_snapshot!(message(&expecting("due-step = \"repeat 4\"", 4)));
    assert_eq!(limits::GROWTH, trend::LEAST_CYCLES + 1);
    let enough = expecting("due-step = \"repeat 6\"", limits::GROWTH);
    assert!(parse("x.toml", &enough).is_ok());
}

#[test]
fn tasks_of_a_server() {
    let text = expecting("", 20).replace("\"fd\"", "\"task\"");
    insta::assert_snapshot!(message(&text));
    assert!(parse("x.toml", &text.replace("fake =", "core =")).is_ok());
}

#[test]
fn cursors_of_a_stdio_server() {
    insta::assert_snapshot!(message(&expecting("", 20).replace("\"fd\"", "\"cursor\"")));
}

#[test]
fn a_host_that_there_is_not() {
    let text = HOST.replace("host = \"core\"", "host = \"multiplexor\"");
    insta::assert_snapshot!(message(&text));
}

#[test]
fn options_of_a_service_that_there_are_not() {
    let text =
        SERVICE.replace("idle = \"300ms\", max-sessions = \"3\"", "idel = \"1s\", sweep = \"3\"");
    insta::assert_snapshot!(message(&text));
}

#[test]
fn steps_of_another_sort_of_subject() {
    let text = HOST.replace("do = \"health\"", "do = \"listen\"");
    insta::assert_snapshot!(message(&text));
    let text = SERVICE.replacen("do = \"listen\"", "do = \"health\"", 1);
    assert!(message(&text).contains("`health` is no step of a service"), "{text}");
    assert!(message(&around(&list(&["open", "reset"]))).contains("`reset` is no step of"));
    assert!(message(&around(&list(&["open", "close fails=true"]))).contains("`fails` is for"));
}

#[test]
fn a_host_that_is_not_up() {
    insta::assert_snapshot!(message(&HOST.replacen(
        "do = \"start\"\nconnection = \"b\"\n",
        "do = \"start\"\nconnection = \"c\"\n",
        1
    )));
}

#[test]
fn a_client_that_is_not_open() {
    insta::assert_snapshot!(message(&SERVICE.replace(
        "do = \"open\"\nconnection = \"b.one\"",
        "do = \"open\"\nconnection = \"b.two\""
    )));
}

#[test]
fn upto_beyond_the_text() {
    insta::assert_snapshot!(message(&around(&list(&["open", "send text=\"abc\" upto=4"]))));
    for (upto, mistakes) in [(0, 1), (1, 0), (3, 0), (4, 1)] {
        let steps = list(&["open", &format!("send text=\"abc\" upto={upto}")]);
        assert_eq!(mistakes_of(&steps).len(), mistakes, "{upto}");
    }
    assert_eq!(mistakes_of(&list(&["open", "send payload=\"handshake\" upto=0"])).len(), 1);
}

#[test]
fn no_subject_that_makes_sense() {
    let text = around(&list(&["open"])).replace("fake = \"echo\"", "command = []\nfixed = true");
    insta::assert_snapshot!(message(&text));
}
