//! The whole page: head, navigation, sections.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::html::{Html, constant, el};

/// The style sheet of every page.
const STYLE: &str = include_str!("style.css");
/// The script of every page: sorting of tables, the slider and the filters of image grids.
const SCRIPT: &str = include_str!("script.js");

/// A page of sections.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Title, also that of the browser's window.
    pub title: String,
    /// What stands above the sections.
    pub lead: Html,
    pub sections: Vec<Section>,
}

/// A section of a page with an entry in the navigation.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// The part of the page's address after `#`: letters and hyphens.
    pub id: Cow<'static, str>,
    pub title: Cow<'static, str>,
    pub body: Html,
}

impl Page {
    /// The page as the text of an HTML file. Sections without content are left out.
    pub(crate) fn html(&self) -> String {
        let sections = || self.sections.iter().filter(|section| !section.body.is_empty());
        let meta = |name: &'static str, content: &str| el("meta").attr("name", name).attr("content", content);
        let head = el("head")
            .child(el("meta").attr("charset", "utf-8"))
            .child(el("meta").attr("http-equiv", "Content-Security-Policy").attr("content", policy()))
            .child(meta("viewport", "width=device-width, initial-scale=1"))
            .child(meta("color-scheme", "light dark"))
            .child(el("title").text(&self.title))
            .child(constant("style", STYLE));
        let links = sections().map(|section| el("a").attr("href", format!("#{}", section.id)).text(&section.title));
        let shown = sections().map(|Section { id, title, body }| {
            let heading = format!("{id}-title");
            el("section")
                .attr("id", id)
                .attr("aria-labelledby", &heading)
                .child(el("h2").attr("id", &heading).text(title))
                .child(body.clone())
        });
        let body = el("body")
            .child(el("a").class("skip").attr("href", "#main").text("Skip to the content"))
            .child(el("header").child(el("h1").text(&self.title)).child(self.lead.clone()))
            .child(el("nav").attr("aria-label", "Sections").children(links))
            .child(el("main").attr("id", "main").attr("tabindex", "-1").children(shown))
            .child(el("footer").child(el("p").text(format!("Made by foveal {}.", env!("CARGO_PKG_VERSION")))))
            .child(constant("script", SCRIPT));
        let page = Html::from(el("html").attr("lang", "en").child(head).child(body));
        format!("<!DOCTYPE html>\n{}\n", page.as_str())
    }
}

/// The content security policy: this style sheet, this script, images inside the page, and nothing else.
fn policy() -> String {
    let hash = |content: &str| STANDARD.encode(Sha256::digest(content.as_bytes()));
    format!(
        "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::html::text;

    fn page(name: &str) -> String {
        let section = |id: &'static str, body: Html| Section { id: id.into(), title: "Classes".into(), body };
        let sections = vec![section("classes", text(name)), section("empty", Html::new())];
        Page { title: name.to_owned(), lead: Html::new(), sections }.html()
    }

    #[test]
    fn the_page_has_one_script_and_names_no_other_address() {
        let html = page("<script>alert(1)</script>");
        assert_eq!(html.matches("<script").count(), 1);
        assert_eq!(html.matches("</script").count(), 1);
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        for word in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!html.contains(word), "{word}");
        }
    }

    #[test]
    fn sections_without_content_are_left_out() {
        let html = page("a");
        assert!(html.contains("id=\"classes\"") && html.contains("href=\"#classes\""));
        assert!(!html.contains("id=\"empty\"") && !html.contains("#empty"));
    }

    #[test]
    fn style_and_script_cannot_end_their_elements() {
        for content in [STYLE, SCRIPT] {
            assert!(!content.contains("</"), "{content}");
        }
    }
}
