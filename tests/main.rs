//! End-to-end tests: each runs the real binary as a person or a program would.

mod bad_input;
mod configuration;
mod data;
mod exchange;
mod export;
mod lab;
mod loss;
mod round_trip;
mod summary;
mod support;
