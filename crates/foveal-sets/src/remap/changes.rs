//! The changes of classes that are asked for.

use std::collections::HashMap;
use std::path::Path;

use super::table_file;
use crate::SetsError;

/// Changes of classes: a new name, or none for a class that is dropped, for each old name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remap {
    /// In the order in which they were added. The old names are unique.
    changes: Vec<(String, Option<String>)>,
    known: HashMap<String, usize>,
}

impl Remap {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The old and new names, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &(String, Option<String>)> {
        self.changes.iter()
    }

    /// Adds a change. `new` is `None` for a class that is dropped. The same change twice is one.
    ///
    /// # Errors
    /// [`SetsError::Option`] if the class has another change already, or a name is empty. `option` is how the message
    /// names the source of the change.
    pub fn add(&mut self, option: &'static str, old: &str, new: Option<&str>) -> Result<(), SetsError> {
        if old.is_empty() || new == Some("") {
            let expected = "names of classes that are not empty".to_owned();
            return Err(SetsError::Option {
                option,
                expected,
                found: format!("{old:?}={:?}", new.unwrap_or_default()),
            });
        }
        let change = (old.to_owned(), new.map(str::to_owned));
        let Some(at) = self.known.get(old) else {
            self.known.insert(old.to_owned(), self.changes.len());
            self.changes.push(change);
            return Ok(());
        };
        let known = &self.changes[*at];
        if *known == change {
            return Ok(());
        }
        let described = |new: &Option<String>| new.as_ref().map_or("dropped".to_owned(), |new| format!("{new:?}"));
        Err(SetsError::Option {
            option,
            expected: format!("one change of the class {old:?}"),
            found: format!("{} and {}", described(&known.1), described(&change.1)),
        })
    }

    /// Adds the change `OLD=NEW` of `--rename`.
    ///
    /// # Errors
    /// [`SetsError::Option`] if the text has another form, or the class has another change already.
    pub fn rename(&mut self, text: &str) -> Result<(), SetsError> {
        let (old, new) = halves("--rename", text, "OLD=NEW")?;
        self.add("--rename", old, Some(new))
    }

    /// Adds the changes `A,B,...=NEW` of `--join`.
    ///
    /// # Errors
    /// [`SetsError::Option`] if the text has another form, or a class has another change already.
    pub fn join(&mut self, text: &str) -> Result<(), SetsError> {
        let (old, new) = halves("--join", text, "A,B=NEW")?;
        old.split(',').try_for_each(|old| self.add("--join", old, Some(new)))
    }

    /// Adds the change of a class that is dropped.
    ///
    /// # Errors
    /// [`SetsError::Option`] if the name is empty or the class has another change already.
    pub fn drop_class(&mut self, name: &str) -> Result<(), SetsError> {
        self.add("--drop", name, None)
    }

    /// Adds the changes that a file lists. A name that ends in `.json` is that of a JSON object with the new name, or
    /// `null` for a class that is dropped, for each old name. Other files are tables with two columns, separated by
    /// commas as in RFC 4180; an empty new name drops the class, and a first line `old,new` is a heading.
    ///
    /// # Errors
    /// [`SetsError::Io`] if the file cannot be read, [`SetsError::Change`] with the line if it has another form,
    /// [`SetsError::Option`] if a class has two changes.
    pub fn read(&mut self, path: &Path) -> Result<(), SetsError> {
        for (old, new) in table_file::read(path)? {
            self.add("--map", &old, new.as_deref())?;
        }
        Ok(())
    }
}

/// The texts before and after the equals sign.
fn halves<'a>(option: &'static str, text: &'a str, form: &str) -> Result<(&'a str, &'a str), SetsError> {
    match text.split_once('=') {
        Some((old, new)) if !new.contains('=') => Ok((old, new)),
        Some(_) => Err(SetsError::Option {
            option,
            expected: format!("{form} with one equals sign; names that contain one can be in the file of --map"),
            found: format!("{text:?}"),
        }),
        None => Err(SetsError::Option { option, expected: form.to_owned(), found: format!("{text:?}") }),
    }
}
