//! What the numbers were measured on, without names of hosts or people.

use std::fs;
use std::path::Path;

use crate::test::command::Environment;

/// One line: processor, cores, memory, kernel, file system, memory of the disk.
pub fn describe(environment: &Environment, work: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let processor = read("/proc/cpuinfo");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let flags = format!(" {} ", field(&processor, "flags"));
    let hash = if flags.contains(" sha_ni ") { ", SHA extensions" } else { "" };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    // The release without what a vendor or an owner appended to it.
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or("unknown").to_owned();
    let virtual_machine = if flags.contains(" hypervisor ") { ", virtual machine" } else { "" };
    let place = work.to_string_lossy();
    let system = environment
        .output("findmnt", &["--noheadings", "--output", "FSTYPE", "--target", &place])
        .unwrap_or_else(|| "unknown file system".to_owned());
    format!(
        "{}, {cores} cores{hash}{virtual_machine}, {} GiB of memory, Linux {kernel}, {system}",
        field(&processor, "model name"),
        (kib + (1 << 19)) >> 20,
    )
}
