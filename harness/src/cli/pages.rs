//! `scupper completions` and `scupper man`: what shells and man(1) are told of this command line.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;
use super::{Ended, Refusal};
use crate::report::event::codes;

/// Prints the completions for a shell.
pub fn completions(shell: Shell) -> Ended {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "scupper", &mut text);
    // A reader that has gone has seen enough.
    let _ = std::io::stdout().write_all(&text);
    Ok(codes::CLEAN)
}

/// Writes `scupper.1` and a page for each subcommand, such as `scupper-server.1`.
pub fn man(folder: &Path) -> Ended {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(|error| {
            Refusal::usage(format!("{}: cannot write man pages there: {error}", folder.display()))
        })?;
    Ok(codes::CLEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("man1");
        assert_eq!(man(&place).ok(), Some(codes::CLEAN));
        for subcommand in Arguments::command().get_subcommands() {
            let page = place.join(format!("scupper-{}.1", subcommand.get_name()));
            let text = std::fs::read_to_string(&page).expect("its page");
            assert!(text.contains(".SH SYNOPSIS"), "{}", page.display());
        }
        std::fs::write(folder.path().join("taken"), "").expect("a file");
        let refused = man(&folder.path().join("taken")).expect_err("a file is no folder");
        assert!(refused.message.contains("taken: cannot write man pages"), "{}", refused.message);
    }
}
