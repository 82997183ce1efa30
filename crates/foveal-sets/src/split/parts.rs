//! The parts that a data set is divided into, as the command line names them.

use crate::SetsError;

/// A part of a division and the share of the data set that it should have.
#[derive(Clone, Debug, PartialEq)]
pub struct PartShare {
    /// The name of the part, such as `train`.
    pub name: String,
    /// The share of the images and of the objects of each class, above 0 and below 1.
    pub share: f64,
}

/// How far the sum of the shares may be from 1.
const SUM_TOLERANCE: f64 = 1e-6;

impl PartShare {
    /// Reads the parts from texts such as `train=0.8`. A name consists of letters, digits, `-`, `_` and `.`, so that it
    /// can be the name of a file, and does not begin with a dot. The shares add up to 1.
    ///
    /// # Errors
    /// [`SetsError::Option`] if a text has another form, there are fewer than two parts, two have the same name, or the
    /// shares do not add up to 1.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Self>, SetsError> {
        let parts: Vec<Self> = texts.iter().map(|text| Self::parse(text)).collect::<Result<_, SetsError>>()?;
        let found = texts.join(",");
        if parts.len() < 2 {
            return Err(wrong("at least two parts, such as train=0.8,val=0.2", found));
        }
        for (index, part) in parts.iter().enumerate() {
            // Some systems do not distinguish file names by case.
            if parts[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&part.name)) {
                return Err(wrong("parts with different names", found));
            }
        }
        let sum: f64 = parts.iter().map(|part| part.share).sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(wrong("shares that add up to 1", format!("{found}, which add up to {sum}")));
        }
        Ok(parts)
    }

    fn parse(text: &str) -> Result<Self, SetsError> {
        const EXPECTED: &str = "NAME=SHARE with a share between 0 and 1, such as val=0.2";
        let (name, share) = text.split_once('=').ok_or_else(|| wrong(EXPECTED, format!("{text:?}")))?;
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            let expected = "names of letters, digits, -, _ and . that do not begin with a dot, because files get them";
            return Err(wrong(expected, format!("{name:?}")));
        }
        match share.parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Self { name: name.to_owned(), share }),
            _ => Err(wrong(EXPECTED, format!("{text:?}"))),
        }
    }
}

fn wrong(expected: &str, found: String) -> SetsError {
    SetsError::Option { option: "--parts", expected: expected.to_owned(), found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_names_and_shares_that_add_up() {
        let parse = |text: &str| PartShare::parse_all(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let parts = parse("train=0.7,val=0.2,tést-1=0.1").unwrap();
        assert_eq!((parts[2].name.as_str(), parts[2].share), ("tést-1", 0.1));
        assert!(parse("a=0.3333333,b=0.3333333,c=0.3333334").is_ok());
        for (text, word) in [
            ("train=0.8", "two parts"),
            ("train=0.8,val=0.3", "1.1"),
            ("train=0.5,Train=0.5", "different names"),
            ("a/b=0.5,c=0.5", "a/b"),
            ("=0.5,c=0.5", "names of letters"),
            ("..=0.5,c=0.5", "names of letters"),
            ("a=0,c=1", "a=0"),
            ("a=nan,c=1", "a=nan"),
            ("a=80%,c=20%", "NAME=SHARE"),
            ("a,b", "NAME=SHARE"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with("--parts: expected ") && message.contains(word), "{text}: {message}");
        }
    }
}
