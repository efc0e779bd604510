//! The program, linked statically.

use std::fs;
use std::path::{Path, PathBuf};

use crate::test::command::{Environment, run};

/// Where the finished program lies.
pub fn place(environment: &Environment) -> PathBuf {
    super::directory(environment).join("provault")
}

/// Builds it and gives its place.
pub fn build(environment: &Environment) -> Result<PathBuf, String> {
    let target = host(environment)?;
    // With a target named, what runs during the build (macros, build scripts) is not linked statically.
    println!("static program for {target}");
    let mut command =
        environment.cargo(&["build", "--release", "--locked", "--package", "provault"]);
    command.args(["--target", &target]);
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} -C target-feature=+crt-static").trim());
    run(&mut command)?;

    let built = environment.target.join(&target).join("release/provault");
    let place = place(environment);
    let directory = super::directory(environment);
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    fs::copy(&built, &place)
        .map_err(|e| format!("{} to {}: {e}", built.display(), place.display()))?;
    is_static(&place)?;
    Ok(place)
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// The target that the toolchain builds for by itself.
fn host(environment: &Environment) -> Result<String, String> {
    let said = environment.output(rustc(), &["-vV"]).ok_or("rustc -vV fails")?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| format!("rustc names no host: {said}"))
}

/// An error if the system would have to load libraries, or a loader, to start the program.
fn is_static(program: &Path) -> Result<(), String> {
    let bytes = fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
    match interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => Err(format!("{} needs a loader: it is not static", program.display())),
        None => Err(format!("{} is no 64-bit ELF file", program.display())),
    }
}

/// Whether an ELF file has a program header of the type `PT_INTERP`; nothing when it is no such file.
fn interpreter(elf: &[u8]) -> Option<bool> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = elf.get(at..at + bytes)?;
        field
            .iter()
            .rev()
            .try_fold(0usize, |n, byte| n.checked_mul(256)?.checked_add((*byte).into()))
    };
    // The magic number, 64 bits, little endian.
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (headers, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        if number(headers.checked_add(header * size)?, 4)? == INTERPRETER as usize {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_told_from_one_that_does_not() {
        // The test itself is linked as the toolchain does by itself.
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(interpreter(&this), Some(!cfg!(target_feature = "crt-static")));
        assert_eq!(interpreter(b"#!/bin/sh"), None);
        assert_eq!(interpreter(b"\x7fELF\x02\x01"), None);
    }
}
