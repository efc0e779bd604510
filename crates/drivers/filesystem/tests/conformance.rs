//! The port's suite, one test for each invariant.

mod common;

use common::Trees;
use provault_driver::conformance as suite;
use provault_driver_filesystem::FilesystemDriver;

macro_rules! invariants {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            suite::$name(&FilesystemDriver::new(), &Trees::new());
        }
    )*
        /// The suite may grow; what it runs must be what is listed here.
        #[test]
        fn every_invariant_of_the_suite_is_listed() {
            let text = include_str!("../../../driver/src/conformance.rs");
            let run = text.split("pub fn run").nth(1).and_then(|t| t.split("\n}").next()).unwrap();
            let called: Vec<_> = run.lines().filter_map(|l| l.trim().split_once("(driver, ")).map(|(name, _)| name).collect();
            assert_eq!(called, [$(stringify!($name)),*]);
        }
    };
}

invariants!(
    settings_are_checked,
    captures_only_read,
    everything_comes_back,
    increments_come_back,
    nothing_is_written_over,
    failing_captures_end,
    unreadable_files_are_listed,
    unreadable_volumes_end_the_capture,
    failing_restores_leave_nothing,
    cancelled_restores_leave_nothing,
    dead_restores_are_discarded,
    dead_restores_are_taken_up,
    damage_is_the_fault_of_the_data,
);
