//! A guard for hosts that do not want to become one themselves.
//!
//! Started by [`scupper_core::guard::Guard`] and by nobody else; see there.

use std::process::ExitCode;

fn main() -> ExitCode {
    scupper_core::guard::run_if_asked();
    eprintln!(
        "scupper_guard is started by a host that uses scupper-core (`GuardProgram::At`), not by hand"
    );
    ExitCode::from(2)
}
