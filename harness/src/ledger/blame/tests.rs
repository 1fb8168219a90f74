use super::super::diff::tests::{pipe, process, snapshot, step};
use super::super::snapshot::{Facts, Identity};
use super::*;

fn id(pid: i32) -> ProcessId {
    ProcessId { pid, start_time: u64::from(pid.cast_unsigned()) }
}

/// A tree (pid, parent), of which some survive.
fn judged(tree: &[(i32, i32)], alive: &[i32], roles: Roles, ending: Ending) -> Vec<Blamed> {
    judged_with(tree, alive, roles, ending, &[], false)
}

fn judged_with(
    tree: &[(i32, i32)],
    alive: &[i32],
    roles: Roles,
    ending: Ending,
    stdin_writers: &[Holder],
    deaf: bool,
) -> Vec<Blamed> {
    let mut ledger = Ledger::default();
    let all = tree.iter().map(|(pid, parent)| process(*pid, *parent));
    ledger.record(&step("1", None), snapshot(all));
    let survivors = tree
        .iter()
        .filter(|(pid, _)| alive.contains(pid))
        .filter_map(|(pid, parent)| match process(*pid, *parent) {
            (Identity::Process(id), Facts::Process(facts)) => Some((id, facts)),
            _ => None,
        })
        .collect();
    super::survivors(&Scene {
        roles: &roles,
        ending: &ending,
        era: Era::Modern,
        survivors: &survivors,
        deaf,
        stdin_writers,
        stdin_unread: 0,
        ledger: &ledger,
    })
}

fn pipeline() -> Roles {
    let pipeline = vec![id(2), id(3)];
    Roles { root: Some(id(1)), server: Some(id(3)), launchers: vec![id(1)], pipeline }
}

fn direct() -> Roles {
    Roles { root: Some(id(1)), server: Some(id(1)), ..Roles::default() }
}

fn launched() -> Roles {
    let launchers = vec![id(1), id(2)];
    Roles { root: Some(id(1)), server: Some(id(3)), launchers, ..Roles::default() }
}

#[test]
fn a_server_that_ignores_the_end_of_stdin_breaks_n9() {
    let blamed = judged(&[(1, 0)], &[1], direct(), Ending::StdinClosed);
    assert_eq!(blamed.len(), 1);
    assert_eq!(blamed[0].culprit, Culprit::Server);
    assert_eq!(blamed[0].rule, Some("2026-07-28 stdio N9"));
}

#[test]
fn children_of_a_living_server_are_not_blamed_again() {
    let blamed = judged(&[(1, 0), (2, 1), (3, 2)], &[1, 2, 3], direct(), Ending::StdinClosed);
    assert_eq!(blamed.len(), 1);
    assert_eq!(blamed[0].below, [id(2), id(3)]);
}

#[test]
fn a_helper_that_outlives_its_server_is_the_servers() {
    let blamed = judged(&[(1, 0), (2, 1)], &[2], direct(), Ending::StdinClosed);
    assert_eq!((blamed[0].process, blamed[0].role), (id(2), Role::Helper));
    assert_eq!((blamed[0].culprit, blamed[0].class), (Culprit::Server, Class::Leak));
}

#[test]
fn a_helper_left_after_sigkill_is_shared_and_advisory() {
    let blamed = judged(&[(1, 0), (2, 1)], &[2], direct(), Ending::ServerKilled);
    assert_eq!(blamed[0].class, Class::Advisory);
    assert!(blamed[0].blame.contains("shared"));
}

#[test]
fn a_helper_of_a_server_that_exited_by_itself_is_the_servers_leak() {
    let blamed = judged(&[(1, 0), (2, 1)], &[2], direct(), Ending::ExitedItself);
    assert_eq!((blamed[0].culprit, blamed[0].class), (Culprit::Server, Class::Leak));
    assert!(!blamed[0].blame.contains("shared"));
}

#[test]
fn a_server_left_by_its_dead_launcher_is_the_launchers() {
    let tree = [(1, 0), (2, 1), (3, 2)];
    let blamed = judged(&tree, &[2, 3], launched(), Ending::Signalled("SIGTERM"));
    assert_eq!(blamed.len(), 1);
    assert_eq!(blamed[0].culprit, Culprit::Launcher);
}

#[test]
fn a_server_that_ignores_the_end_of_stdin_is_to_blame_and_not_its_waiting_launcher() {
    let tree = [(1, 0), (2, 1), (3, 2)];
    let blamed = judged(&tree, &[1, 2, 3], launched(), Ending::StdinClosed);
    assert_eq!(blamed.len(), 1);
    assert_eq!((blamed[0].process, blamed[0].culprit), (id(3), Culprit::Server));
}

/// `uv run` passes signals on and waits; `sh -c` does neither.
#[test]
fn of_a_server_and_a_launcher_that_stay_the_one_that_did_not_obey_is_to_blame() {
    let tree = [(1, 0), (2, 1), (3, 2)];
    for (deaf, process, culprit) in
        [(true, id(3), Culprit::Server), (false, id(1), Culprit::Launcher)]
    {
        let ending = Ending::Signalled("SIGTERM");
        let blamed = judged_with(&tree, &[1, 2, 3], launched(), ending, &[], deaf);
        assert_eq!(blamed.len(), 1);
        assert_eq!((blamed[0].process, blamed[0].culprit), (process, culprit));
    }
}

#[test]
fn a_stale_write_end_is_whoever_holds_it() {
    let holder = Holder { pid: 1, command: "sh".into(), holds: "write end".into() };
    let tree = [(1, 0), (2, 1), (3, 2)];
    let blamed = judged_with(&tree, &[1, 2, 3], launched(), Ending::StdinClosed, &[holder], false);
    assert_eq!(blamed[0].culprit, Culprit::Launcher);
    assert!(blamed[0].remedy.starts_with("let the launcher"), "{}", blamed[0].remedy);
}

#[test]
fn the_first_living_stage_of_a_pipeline_keeps_the_others() {
    let tree = [(1, 0), (2, 1), (3, 1)];
    let blamed = judged(&tree, &[1, 2, 3], pipeline(), Ending::StdinClosed);
    assert_eq!(blamed.len(), 1);
    assert_eq!((blamed[0].process, blamed[0].role), (id(2), Role::Stage));
    assert_eq!((blamed[0].culprit, &blamed[0].below), (Culprit::Server, &vec![id(3)]));
    let blamed = judged(&tree, &[1, 3], pipeline(), Ending::StdinClosed);
    assert_eq!((blamed.len(), blamed[0].process), (1, id(3)));
}

#[test]
fn a_pipeline_left_by_its_shell_is_one_leak_of_the_launcher() {
    let tree = [(1, 0), (2, 1), (3, 1)];
    let blamed = judged(&tree, &[2, 3], pipeline(), Ending::Signalled("SIGTERM"));
    assert_eq!(blamed.len(), 1);
    assert_eq!((blamed[0].culprit, &blamed[0].below), (Culprit::Launcher, &vec![id(3)]));
    assert!(blamed[0].blame.contains("left the pipeline"), "{}", blamed[0].blame);
}

#[test]
fn who_could_not_be_asked_for_the_write_end_is_counted() {
    let survivors = match process(1, 0) {
        (_, Facts::Process(facts)) => BTreeMap::from([(id(1), facts)]),
        _ => BTreeMap::new(),
    };
    let blamed = super::survivors(&Scene {
        roles: &direct(),
        ending: &Ending::StdinClosed,
        era: Era::Legacy,
        survivors: &survivors,
        deaf: false,
        stdin_writers: &[],
        stdin_unread: 3,
        ledger: &Ledger::default(),
    });
    assert!(blamed[0].blame.contains("(3 could not)"), "{}", blamed[0].blame);
}

/// Process 1 starts 2 with pipes of its own, dies, and leaves it.
fn left_by_gateway(gateway: &[&str], backend: &[&str]) -> Blamed {
    let with_command = |pid, parent, words: &[&str]| {
        let (identity, facts) = process(pid, parent);
        let Facts::Process(facts) = facts else { panic!("a process") };
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        (identity, Facts::Process(ProcessFacts { command, ..facts }))
    };
    let write_end = |owner, number, inode| {
        let facts = Facts::Fd { write_end: true };
        (pipe(owner, number, inode).0, facts)
    };
    let left = with_command(2, 1, backend);
    let mut ledger = Ledger::default();
    let all = [
        with_command(1, 0, gateway),
        write_end(1, 5, 200),
        pipe(1, 6, 201),
        left.clone(),
        pipe(2, 0, 200),
        write_end(2, 1, 201),
    ];
    ledger.record(&step("1", None), snapshot(all));
    let Facts::Process(facts) = left.1 else { panic!("a process") };
    let mut blamed = super::survivors(&Scene {
        roles: &direct(),
        ending: &Ending::StdinClosed,
        era: Era::Legacy,
        survivors: &BTreeMap::from([(id(2), facts)]),
        deaf: false,
        stdin_writers: &[],
        stdin_unread: 0,
        ledger: &ledger,
    });
    assert_eq!(blamed.len(), 1);
    blamed.remove(0)
}

#[test]
fn a_backend_is_its_gateways_and_a_rule_is_broken_where_that_was_told_of_it() {
    let gateway = ["gateway", "--stdio", "'/opt/server' stdio"];
    let told = left_by_gateway(&gateway, &["node", "/opt/server", "stdio"]);
    assert_eq!((told.role, told.culprit), (Role::Backend, Culprit::Server));
    assert!(told.blame.starts_with("pid 1 (gateway --stdio"), "{}", told.blame);
    assert_eq!(told.rule, Some("2025-11-25 lifecycle X1"));
    // A worker that it speaks with is perhaps no server.
    let worker = left_by_gateway(&gateway, &["node", "worker.js"]);
    assert_eq!((worker.role, worker.rule), (Role::Backend, None));
}

#[test]
fn an_orphan_without_known_parent_is_a_heuristic_and_says_so() {
    let blamed = judged(&[(1, 0), (9, 77)], &[9], direct(), Ending::StdinClosed);
    assert!(blamed[0].blame.contains("heuristic"));
}
