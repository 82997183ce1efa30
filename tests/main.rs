//! End-to-end tests, which run the real binary.

mod bad_input;
mod configuration;
mod data;
mod exchange;
mod export;
mod kept_runs;
mod lab;
mod loss;
mod resume;
mod round_trip;
mod summary;
mod support;
