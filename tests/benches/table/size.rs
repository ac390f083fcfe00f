//! How large what is measured is: as the table says, or so small that a test sees within seconds whether each part still works.
//!
//! `cargo test` runs the small one; processes of a part inherit which it is.

const SMALL: &str = "YIKA_BENCH_SMALL";

/// A size of the table, and its small one.
#[derive(Clone, Copy)]
pub struct Size<T>(pub T, pub T);

impl<T> Size<T> {
    /// The one that counts in this run.
    pub fn get(self) -> T {
        if is_small() { self.1 } else { self.0 }
    }
}

/// Whether it is the small run.
pub fn is_small() -> bool {
    std::env::var_os(SMALL).is_some()
}

/// Makes this process and those that it starts small; before any thread of it reads the environment.
pub fn be_small() -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    std::process::Command::new(program).env(SMALL, "1").exec()
}
