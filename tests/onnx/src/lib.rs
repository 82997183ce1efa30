//! This library is empty; the package only has the tests in `tests/`.
