//! Commands that start a server where no look reaches: in a container, below another daemon, on
//! another host. What such a server leaves is unknown, never clean.

/// A program that starts others elsewhere.
struct Program {
    name: &'static str,
    /// Words that make it do so, of which one comes before its own arguments end; none means always.
    verbs: &'static [&'static str],
    place: &'static str,
}

const fn program(
    name: &'static str,
    verbs: &'static [&'static str],
    place: &'static str,
) -> Program {
    Program { name, verbs, place }
}

const CONTAINER_VERBS: &[&str] = &["run", "exec", "start", "attach", "compose", "mcp"];
const BY_A_DAEMON: &str = "in a container that its daemon started";

// Sandboxes without a daemon (bwrap, `flatpak run`, apptainer, unshare) are not among them: what runs
// inside is below their own process, and a process of an inner pid namespace is seen from outside.
#[rustfmt::skip]
const PROGRAMS: &[Program] = &[
    program("docker", CONTAINER_VERBS, BY_A_DAEMON),
    program("docker-compose", &["run", "exec", "up"], BY_A_DAEMON),
    program("nerdctl", CONTAINER_VERBS, BY_A_DAEMON),
    program("finch", CONTAINER_VERBS, BY_A_DAEMON),
    program("podman", CONTAINER_VERBS, "in a container"),
    program("podman-compose", &["run", "exec", "up"], "in a container"),
    program("toolbox", &["run"], "in a container"),
    program("distrobox", &["enter"], "in a container"),
    program("distrobox-enter", &[], "in a container"),
    program("lxc", &["exec"], BY_A_DAEMON),
    program("incus", &["exec"], BY_A_DAEMON),
    program("machinectl", &["shell"], "in a container or session of systemd"),
    program("kubectl", &["run", "exec", "attach", "debug"], "in a cluster"),
    program("oc", &["run", "exec", "attach", "debug", "rsh"], "in a cluster"),
    program("systemd-run", &[], "below systemd"),
    program("run0", &[], "below systemd"),
    program("flatpak-spawn", &[], "below the host's session service"),
    program("wsl", &[], "in another system"),
    program("wsl.exe", &[], "in another system"),
    program("ssh", &[], "on another host"),
    program("autossh", &[], "on another host"),
    program("gcloud", &["ssh"], "on another host"),
    program("vagrant", &["ssh"], "in a virtual machine"),
    program("limactl", &["shell"], "in a virtual machine"),
    program("lima", &[], "in a virtual machine"),
];

/// Programs that only run the command that follows them and their options.
#[rustfmt::skip]
const WRAPPERS: &[&str] = &[
    "env", "nice", "ionice", "nohup", "setsid", "stdbuf", "timeout", "sudo", "doas", "command", "exec", "time",
    "xvfb-run", "dbus-run-session", "unbuffer", "chrt", "taskset",
];

/// Where the command starts a server, if that is out of sight.
pub fn elsewhere(command: &[String]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let name = program.rsplit('/').next().unwrap_or(program);
    if let Some(program) = PROGRAMS.iter().find(|program| program.name == name) {
        return program.acts(arguments).then(|| {
            format!(
                "the server runs {} ({name}): what it leaves there cannot be seen from here; judge \
                 the command that runs inside instead",
                program.place
            )
        });
    }
    if !WRAPPERS.contains(&name) {
        return None;
    }
    // Where its options end and the command begins differs from one to the next; the first word that
    // names a program of the table is it.
    let begins = arguments.iter().position(|word| is_of_the_table(word))?;
    let options = arguments[..begins].iter().all(|word| {
        word.starts_with('-')
            || word.contains('=')
            || word.starts_with(|c: char| c.is_ascii_digit())
    });
    if options { elsewhere(&arguments[begins..]) } else { None }
}

fn is_of_the_table(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    PROGRAMS.iter().any(|program| program.name == name) || WRAPPERS.contains(&name)
}

impl Program {
    fn acts(&self, arguments: &[String]) -> bool {
        self.verbs.is_empty() || arguments.iter().any(|word| self.verbs.contains(&word.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &str) -> Option<String> {
        elsewhere(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_server_in_a_container_or_on_another_host_is_out_of_sight() {
        for words in [
            "docker run -i --rm mcp/time",
            "docker --context remote run -i image",
            "docker exec -i box server",
            "docker compose run --rm server",
            "docker-compose run server",
            "docker mcp gateway run",
            "/usr/bin/podman run server",
            "kubectl exec -i pod -- server",
            "systemd-run --user --pipe server",
            "ssh host mcp-server",
            "flatpak-spawn --host server",
            "wsl.exe -d Ubuntu server",
            "env A=1 B=2 docker run image",
            "sudo -n /usr/bin/docker run image",
            "timeout 60 nice -n 5 ssh host server",
        ] {
            assert!(told(words).is_some(), "{words}");
        }
    }

    #[test]
    fn what_only_mentions_a_container_is_not() {
        for words in [
            "docker ps",
            "docker version",
            "node docker run",
            "mcp-server-docker",
            "uvx mcp-server-docker run",
            "env A=1 node ssh",
            "sudo -u me node docker.js",
            "bwrap --ro-bind / / server run",
        ] {
            assert_eq!(told(words), None, "{words}");
        }
    }

    #[test]
    fn why_is_said() {
        let said = told("podman run -i image").expect("it is elsewhere");
        assert!(said.starts_with("the server runs in a container (podman): "), "{said}");
    }
}
