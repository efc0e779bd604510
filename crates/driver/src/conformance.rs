//! The suite every driver runs.
