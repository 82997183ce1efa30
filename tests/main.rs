//! End-to-end tests, which run the real binary.

mod analysis;
mod bad_input;
mod blackbox;
mod configuration;
mod data;
mod devices;
mod exchange;
mod explain;
mod export;
mod images;
mod init;
mod kept_runs;
mod lab;
mod logs;
mod loss;
mod names;
mod outputs;
mod records;
mod report;
mod resume;
mod round_trip;
mod show;
mod side_channels;
mod summary;
mod support;
mod undefined;
