//! Commands that start a server where no look reaches: in a container, in another session of
//! systemd, on another host. What such a server leaves is unknown, never clean.

/// Programs that start others elsewhere, with the words that make them do it; none means always.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("docker", &["run", "exec", "start", "compose"], "in a container that its daemon started"),
    ("podman", &["run", "exec", "start", "compose"], "in a container"),
    ("nerdctl", &["run", "exec", "start", "compose"], "in a container that its daemon started"),
    ("kubectl", &["run", "exec", "attach"], "in a cluster"),
    ("systemd-run", &[], "below systemd"),
    ("ssh", &[], "on another host"),
];

/// Where the command starts a server, if that is out of sight.
pub fn elsewhere(command: &[String]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let (_, words, place) = PROGRAMS.iter().find(|(name, _, _)| *name == program)?;
    let acts = words.is_empty() || arguments.iter().any(|word| words.contains(&word.as_str()));
    acts.then(|| {
        format!(
            "the server runs {place} ({program}): what it leaves there cannot be seen from here; \
             judge the command that runs inside instead"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &str) -> bool {
        elsewhere(&words.split(' ').map(str::to_owned).collect::<Vec<_>>()).is_some()
    }

    #[test]
    fn a_server_in_a_container_or_on_another_host_is_out_of_sight() {
        assert!(told("docker run -i --rm mcp/time"));
        assert!(told("/usr/bin/podman run server"));
        assert!(told("ssh host mcp-server"));
        assert!(told("systemd-run --user server"));
    }

    #[test]
    fn what_only_mentions_a_container_is_not() {
        assert!(!told("docker ps"));
        assert!(!told("node docker run"));
        assert!(!told("mcp-server-docker"));
    }
}
