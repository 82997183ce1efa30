//! End-to-end tests, which run the real binary.

mod bad_input;
mod blackbox;
mod configuration;
mod data;
mod exchange;
mod export;
mod lab;
mod loss;
mod round_trip;
mod summary;
mod support;
