//! Validation sets with other categories than the training set.

use foveal_coco::LabelMap;

use crate::{DataConfig, DataError, Opened, Problem};

impl DataConfig {
    /// Checks the validation set as [`DataConfig::inspect_val`] does. If its categories differ from `labels` in ids or
    /// names, its classes are its own categories, and the report has [`Problem::OtherCategories`].
    ///
    /// # Errors
    /// The errors of [`DataConfig::inspect_val`] but [`DataError::Labels`].
    pub fn inspect_val_of_any_categories(&self, labels: Option<&LabelMap>) -> Result<Opened, DataError> {
        match self.inspect_val(labels) {
            Err(error @ DataError::Labels { .. }) => {
                let mut opened = self.inspect_val(None)?;
                opened.report.add(Problem::OtherCategories, error);
                Ok(opened)
            }
            other => other,
        }
    }
}
