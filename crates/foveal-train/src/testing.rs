//! Helpers of the unit tests.

use std::sync::Arc;

use foveal_data::{Batch, LoaderOptions, loader};

use crate::config::RunConfig;

/// The configuration of a run that takes a few seconds.
pub(crate) fn tiny() -> RunConfig {
    toml::from_str(include_str!("../tests/tiny.toml")).unwrap()
}

/// The first training batch, with targets for three classes.
pub(crate) fn first_batch(config: &RunConfig) -> Batch {
    let train = Arc::new(config.data.open_train().unwrap().dataset);
    let options = LoaderOptions {
        batch_size: config.train.batch_size,
        seed: 0,
        training: true,
        anchors: config.model.anchors.clone(),
        matcher: config.matcher,
        first: 0,
        epochs: None,
    };
    loader(train, &config.data, options, 0).next().unwrap().unwrap()
}
