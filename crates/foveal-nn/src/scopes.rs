//! The names of layers within the network, for interpreters that record them.

use std::fmt;

/// The submodules that a forward pass is in, from which the full names of layers are made.
#[derive(Debug, Default)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    /// Enters the submodule `name`.
    pub(crate) fn enter(&mut self, name: fmt::Arguments<'_>) {
        self.0.push(name.to_string());
    }

    /// Leaves the submodule that was entered last.
    pub(crate) fn exit(&mut self) {
        self.0.pop();
    }

    /// The full name of the layer `name` of the current submodule, such as `backbone.body.conv1`.
    pub(crate) fn path(&self, name: &str) -> String {
        let mut path = self.0.join(".");
        if !path.is_empty() {
            path.push('.');
        }
        path + name
    }
}
