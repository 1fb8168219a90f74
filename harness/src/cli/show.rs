//! `scupper list` and `scupper doctor`.

use std::io::Write;

use super::Ended;
use super::arguments::Listed;
use crate::cell::host::strongest_tier;
use crate::ledger::rules::RULES;
use crate::ledger::snapshot::Kind;
use crate::ledger::verdict::Tier;
use crate::lifecycle::embedded::{HOSTS, SERVICES};
use crate::peer::fake::{FAKES, HTTP_FAKES};
use crate::peer::fake_client::FAKE_CLIENTS;
use crate::peer::fake_client::http::HTTP_FAKE_CLIENTS;
use crate::plan;
use crate::plan::client::Transport;
use crate::probe::host::host;

/// Lists something, one line each.
pub fn list(what: Listed) -> Ended {
    let mut rows: Vec<(String, String)> = Vec::new();
    match what {
        Listed::Lifecycles => {
            let of_http = plan::http::whole_battery();
            let of_clients = [Transport::Stdio, Transport::Http];
            let of_clients = of_clients.into_iter().flat_map(plan::client::whole_battery);
            for lifecycle in plan::whole_battery().into_iter().chain(of_http).chain(of_clients) {
                rows.push((lifecycle.id, lifecycle.why));
            }
        }
        Listed::FakeClients => {
            for fake in FAKE_CLIENTS {
                rows.push((fake.name.to_owned(), fake.about.to_owned()));
            }
            for fake in HTTP_FAKE_CLIENTS {
                rows.push((format!("{} --url URL", fake.name), fake.about.to_owned()));
            }
        }
        Listed::Fakes => {
            for fake in FAKES {
                let options = options(fake.options);
                rows.push((fake.name.to_owned(), format!("{}{options}", fake.about)));
            }
            for fake in HTTP_FAKES {
                let options = options(fake.options);
                rows.push((format!("--http {}", fake.name), format!("{}{options}", fake.about)));
            }
            rows.push((
                "reference".to_owned(),
                "has no fault: rmcp's own server, with the tools of the fakes (builds with feature `core`)"
                    .to_owned(),
            ));
        }
        Listed::Subjects => {
            for (sort, all) in [("host", HOSTS), ("service", SERVICES)] {
                for info in all {
                    let options = options(info.options);
                    rows.push((
                        format!("{sort} {}", info.name),
                        format!("{}{options}", info.about),
                    ));
                }
            }
        }
        Listed::Probes => {
            for kind in Kind::ALL {
                rows.push((kind.to_string(), about(*kind).to_owned()));
            }
        }
        Listed::Rules => {
            for rule in RULES {
                rows.push((rule.id.to_owned(), rule.text.to_owned()));
            }
        }
    }
    print(&rows);
    Ok(0)
}

fn options(known: &[(&str, &str, &str)]) -> String {
    let options: Vec<String> =
        known.iter().map(|(key, default, about)| format!("{key}={default} ({about})")).collect();
    if options.is_empty() { String::new() } else { format!("; {}", options.join(", ")) }
}

fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Process => "a living process of the subject, wherever it was adopted",
        Kind::Zombie => "a dead child that the subject never reaped",
        Kind::Fd => "a descriptor, by number, target, device, inode and what fdinfo adds",
        Kind::Thread => "a thread, by id and start time",
        Kind::Task => "a tokio task of our own runtimes, by id, with the line that spawned it",
        Kind::Session => "a session of Streamable HTTP, asked of whoever keeps it",
        Kind::Cursor => "pagination state of a session, read from its store by a second connection",
        Kind::Entry => {
            "an entry of a registry or a cache of the core's, or of what stands in for it"
        }
        Kind::File => "a file left in the case's TMPDIR",
        Kind::Memory => {
            "memory of a server, or a client that lives on, that rises with its calls and does not level off"
        }
    }
}

/// Tells what this host can prove.
pub fn doctor() -> Ended {
    let tier = strongest_tier();
    let mut rows = vec![(
        "containment".to_owned(),
        match tier {
            Tier::PidNamespace => {
                "yes: pid namespace; nothing outlives a cell, whoever is killed".to_owned()
            }
            _ => "partly: subreaper; nothing outlives a cell unless scupper, its sentinel and its \
                  cell are killed at once (no pid namespace with a /proc of its own could be made, \
                  which takes CAP_SYS_ADMIN)"
                .to_owned(),
        },
    )];
    let mut complete = tier == Tier::PidNamespace;
    for ability in host() {
        complete &= ability.available;
        let state = if ability.available { "yes" } else { "no" };
        let consequence =
            if ability.available { String::new() } else { format!("; {}", ability.consequence) };
        rows.push((ability.name.to_string(), format!("{state}: {}{consequence}", ability.detail)));
    }
    print(&rows);
    let last = if complete {
        "This host can prove everything that scupper claims."
    } else {
        "What is missing makes verdicts unknown or evidence shorter, never clean."
    };
    let _ = writeln!(std::io::stdout(), "\n{last}");
    Ok(0)
}

fn print(rows: &[(String, String)]) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut stdout = std::io::stdout().lock();
    for (name, about) in rows {
        // A reader that has seen enough closes the pipe.
        if writeln!(stdout, "{name:width$}  {about}").is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rules::rule;

    #[test]
    fn every_rule_that_a_lifecycle_rests_on_is_listed_in_one_line() {
        let of_clients = [Transport::Stdio, Transport::Http];
        let of_clients = of_clients.into_iter().flat_map(plan::client::whole_battery);
        for lifecycle in plan::whole_battery().into_iter().chain(of_clients) {
            let Some(id) = lifecycle.rule else { continue };
            assert!(rule(&id).is_some(), "{} rests on {id}, which no list has", lifecycle.id);
        }
        assert!(RULES.iter().all(|rule| !rule.text.is_empty() && !rule.text.contains('\n')));
    }
}
