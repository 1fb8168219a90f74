//! What a fake has, as /proc tells it.

use std::fs;

/// What a process has at one instant.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) fds: usize,
    pub(crate) listens: bool,
    pub(crate) threads: Vec<String>,
    pub(crate) children: usize,
    pub(crate) zombies: usize,
    pub(crate) files: usize,
}

impl Look {
    pub(crate) fn of(pid: u32) -> Self {
        let names = |what: &str| -> Vec<_> {
            fs::read_dir(format!("/proc/{pid}/{what}")).expect("it lives").flatten().collect()
        };
        let threads = names("task")
            .iter()
            .flat_map(|task| {
                // One that ended meanwhile.
                let name = fs::read_to_string(task.path().join("comm")).ok()?;
                Some(name.trim_end().to_owned())
            })
            .collect();
        let all = children(pid);
        let dead = |pid: &&i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
        };
        let zombies = all.iter().filter(dead).count();
        let sockets: Vec<_> = names("fd").iter().flat_map(|fd| fs::read_link(fd.path())).collect();
        let tcp = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
        let listens = tcp.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(3) == Some(&"0A")
                && words.get(9).is_some_and(|inode| {
                    sockets.iter().any(|link| link.to_string_lossy() == format!("socket:[{inode}]"))
                })
        });
        Self {
            fds: sockets.len(),
            listens,
            threads,
            children: all.len() - zombies,
            zombies,
            files: 0,
        }
    }

    pub(crate) fn threads_of(&self, name: &str) -> usize {
        self.threads.iter().filter(|thread| *thread == name).count()
    }
}

pub(crate) fn children(pid: u32) -> Vec<i32> {
    // None of one that has ended.
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // Each thread has the children that it started.
    let lists = tasks.flat_map(|task| fs::read_to_string(task.path().join("children")));
    lists
        .flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}
