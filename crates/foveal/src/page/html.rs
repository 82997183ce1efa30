//! Markup that is built from elements, so that all text in it is escaped.

use std::fmt::{Display, Write};

use foveal_base::printable;

/// Elements without content and without an end tag (HTML Standard, section 13.1.2, void elements).
const VOID: [&str; 5] = ["meta", "img", "input", "br", "link"];

/// Finished markup. It is made of [`Element`]s and of [`text`] only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Html(String);

impl Html {
    /// No markup yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends markup.
    pub(crate) fn push(&mut self, other: impl Into<Html>) {
        self.0 += &other.into().0;
    }

    /// The markup with more after it.
    #[must_use]
    pub(crate) fn with(mut self, other: impl Into<Html>) -> Self {
        self.push(other);
        self
    }

    /// Whether there is no markup.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The markup as text of an HTML file.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<H: Into<Html>> FromIterator<H> for Html {
    fn from_iter<I: IntoIterator<Item = H>>(parts: I) -> Self {
        let mut all = Self::new();
        parts.into_iter().for_each(|part| all.push(part));
        all
    }
}

/// Text as markup. Characters that HTML gives a meaning are replaced by character references, and characters that
/// would hide or reverse the text by visible escapes.
pub(crate) fn text(text: impl Display) -> Html {
    let mut out = String::new();
    escape(&text.to_string(), &mut out);
    Html(out)
}

fn escape(text: &str, out: &mut String) {
    for c in printable(text).chars() {
        match c {
            '&' => *out += "&amp;",
            '<' => *out += "&lt;",
            '>' => *out += "&gt;",
            '"' => *out += "&quot;",
            '\'' => *out += "&#39;",
            other => out.push(other),
        }
    }
}

/// An element that is being built.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    tag: &'static str,
    /// The start tag without its last character.
    head: String,
    content: Html,
}

/// An element with this tag, without attributes and content.
pub(crate) fn el(tag: &'static str) -> Element {
    Element { tag, head: format!("<{tag}"), content: Html::new() }
}

impl Element {
    /// Adds an attribute. Names are constants of the program; the value is escaped.
    pub(crate) fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        let _ = write!(self.head, " {name}=\"");
        escape(&value.to_string(), &mut self.head);
        self.head.push('"');
        self
    }

    /// Adds an attribute if there is a value.
    pub(crate) fn maybe(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// Adds the attribute `class`.
    pub(crate) fn class(self, names: impl Display) -> Self {
        self.attr("class", names)
    }

    /// Appends text, escaped.
    pub(crate) fn text(self, content: impl Display) -> Self {
        self.child(text(content))
    }

    /// Appends markup.
    pub(crate) fn child(mut self, content: impl Into<Html>) -> Self {
        self.content.push(content);
        self
    }

    /// Appends several pieces of markup.
    pub(crate) fn children<H: Into<Html>>(mut self, content: impl IntoIterator<Item = H>) -> Self {
        content.into_iter().for_each(|part| self.content.push(part));
        self
    }
}

impl From<Element> for Html {
    fn from(Element { tag, head, content }: Element) -> Self {
        if VOID.contains(&tag) {
            return Html(head + ">");
        }
        Html(format!("{head}>{}</{tag}>", content.0))
    }
}

/// The style sheet and the script of the page, which are constants of the program and not escaped.
pub(super) fn constant(tag: &'static str, content: &'static str) -> Html {
    Html(format!("<{tag}>{content}</{tag}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let name = "<script>alert(1)</script>";
        let html = Html::from(el("p").attr("title", "\"><b>'&").text(name));
        assert_eq!(
            html.as_str(),
            "<p title=\"&quot;&gt;&lt;b&gt;&#39;&amp;\">&lt;script&gt;alert(1)&lt;/script&gt;</p>"
        );
        assert_eq!(text("a\u{202e}b\n").as_str(), "a\\u{202e}b\\n");
    }

    #[test]
    fn elements_nest_and_void_elements_have_no_end() {
        let list = el("ul").children(["a", "b"].map(|item| el("li").text(item)));
        assert_eq!(Html::from(list).as_str(), "<ul><li>a</li><li>b</li></ul>");
        assert_eq!(Html::from(el("img").attr("alt", "x").maybe("src", None::<&str>)).as_str(), "<img alt=\"x\">");
    }
}
