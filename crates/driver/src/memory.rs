//! A sink and source in memory, for the tests of drivers.
