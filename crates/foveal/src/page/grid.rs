//! Images with boxes, a slider for the score, and filters.
//!
//! Boxes are SVG elements over each JPEG image, so that the script of the page can hide those below the score of the
//! slider. An object keeps the score of the detection that found it (`data-f`), a detection its own score (`data-s`)
//! and whether it found an object (`data-ok`). Because detections are matched in the order of their scores, what is
//! matched at one score is matched at every lower one, and the script needs no other numbers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::html::{Element, Html, el};

/// A grid of images.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    /// Begins the ids of the controls, so that a page can have several grids.
    pub id: String,
    /// Names of the classes, in class order.
    pub classes: Vec<String>,
    /// The score from which detections are shown at first, and the lowest of the slider; without it there is no slider.
    pub score: Option<ScoreRange>,
    /// Whether there are controls. A grid with a score needs them.
    pub filters: bool,
    /// Whether the name of each box is shown also where the image is small.
    pub labels: bool,
    pub cards: Vec<Card>,
}

/// The scores of a slider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ScoreRange {
    /// The lowest score.
    pub lowest: f64,
    /// The score at first.
    pub shown: f64,
}

/// An image of a grid.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    /// The image file.
    pub jpeg: Vec<u8>,
    /// Size of the image in the pixels of the boxes: width and height.
    pub size: [u32; 2],
    pub name: String,
    pub marks: Vec<Mark>,
}

/// A box on an image.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Left, top, width and height in pixels.
    pub xywh: [f32; 4],
    /// The class, from 0.
    pub class: usize,
    pub kind: MarkKind,
}

/// What a box is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MarkKind {
    /// An object, with the score of the detection that found it.
    Object { found: Option<f64> },
    /// A region that is ignored, such as a crowd.
    Ignored,
    /// A detection.
    Detection { score: f64, correct: bool },
}

impl Grid {
    /// The grid with its controls as markup; empty without images.
    pub(crate) fn html(&self) -> Html {
        if self.cards.is_empty() {
            return Html::new();
        }
        let shown = self.score.map_or(0.0, |score| score.shown);
        let cards = self.cards.iter().enumerate().map(|(index, card)| self.card(index, card, shown));
        let list = el("ul").class("cards").children(cards);
        let class = if self.labels { "gallery labels" } else { "gallery" };
        let controls = self.filters.then(|| self.controls());
        el("div").class(class).attr("id", &self.id).children(controls).child(list).into()
    }

    fn controls(&self) -> Element {
        let id = |name: &str| format!("{}-{name}", self.id);
        let mut form = el("div").class("controls").attr("role", "group").attr("aria-label", "Filters of the images");
        if let Some(ScoreRange { lowest, shown }) = self.score {
            let label = el("label").attr("for", id("score")).text("Detections from a score of ");
            let slider = el("input").attr("type", "range").attr("id", id("score")).class("score");
            let slider = slider.attr("min", lowest).attr("max", 1).attr("step", 0.01).attr("value", shown);
            let value = el("output").attr("for", id("score")).text(format!("{shown:.2}"));
            form = form.child(el("div").child(label.child(value)).child(slider));
        }
        let option = |(value, name): (String, &str)| el("option").attr("value", value).text(name);
        let classes = self.classes.iter().enumerate().map(|(class, name)| (class.to_string(), name.as_str()));
        let classes = [(String::new(), "all")].into_iter().chain(classes).map(option);
        let label = |name: &str, text: &str| el("label").attr("for", id(name)).text(text);
        let select = el("select").attr("id", id("class")).class("class").children(classes);
        form = form.child(el("div").child(label("class", "Class ")).child(select));
        if self.score.is_some() {
            let orders = [("errors", "most errors"), ("missed", "most missed"), ("false", "most false alarms")];
            let orders = orders.into_iter().chain([("name", "name")]).map(|(value, name)| (value.to_owned(), name));
            let select = el("select").attr("id", id("order")).class("order").children(orders.map(option));
            form = form.child(el("div").child(label("order", "First ")).child(select));
            let only = el("input").attr("type", "checkbox").attr("id", id("only")).class("only");
            form = form.child(el("div").child(only).child(label("only", " only images with errors")));
        }
        form.child(el("p").class("status").attr("role", "status").text(format!("{} images", self.cards.len())))
    }

    fn card(&self, index: usize, card: &Card, shown: f64) -> Element {
        let [width, height] = card.size;
        let count = |test: fn(&MarkKind, f64) -> bool| card.marks.iter().filter(|mark| test(&mark.kind, shown)).count();
        let said = self.score.map(|_| {
            let objects = counted(count(|kind, _| matches!(kind, MarkKind::Object { .. })), "object");
            let alarms = counted(count(is_false_alarm), "false alarm");
            format!("{objects}, {} missed, {alarms}", count(is_missed))
        });
        let alt = said.as_ref().map_or_else(|| card.name.clone(), |said| format!("{}: {said}", card.name));
        let image = el("img")
            .attr("src", format!("data:image/jpeg;base64,{}", STANDARD.encode(&card.jpeg)))
            .attr("alt", alt)
            .attr("width", width)
            .attr("height", height)
            .attr("decoding", "async");
        let size = width.max(height) as f32 / 24.0;
        let marks = card.marks.iter().map(|mark| self.mark(mark, size, shown));
        let boxes = el("svg")
            .attr("viewBox", format!("0 0 {width} {height}"))
            .attr("aria-hidden", "true")
            .attr("font-size", format!("{size:.0}"))
            .children(marks);
        let open = el("button").attr("type", "button").class("open").child(image).child(boxes);
        let mut caption = el("p").child(el("span").class("name").text(&card.name));
        if let Some(said) = said {
            caption = caption.text(" ").child(el("span").class("said").text(said));
        }
        el("li").attr("data-i", index).child(open).child(caption)
    }

    fn mark(&self, mark: &Mark, size: f32, shown: f64) -> Element {
        let [x, y, width, height] = mark.xywh;
        let name = self.classes.get(mark.class).map_or("", String::as_str);
        let (class, label) = match mark.kind {
            MarkKind::Object { .. } if is_missed(&mark.kind, shown) => ("o bad", name.to_owned()),
            MarkKind::Object { .. } => ("o", name.to_owned()),
            MarkKind::Ignored => ("i", format!("{name} ignored")),
            MarkKind::Detection { score, correct } => {
                let class = match (correct, score >= shown) {
                    (_, false) => "d off",
                    (true, true) => "d",
                    (false, true) => "d bad",
                };
                (class, format!("{name} {score:.2}"))
            }
        };
        let mut group = el("g").class(class).attr("data-c", mark.class);
        group = match mark.kind {
            MarkKind::Object { found } => group.attr("data-f", found.map_or_else(|| "-1".to_owned(), short)),
            MarkKind::Ignored => group,
            MarkKind::Detection { score, correct } => {
                group.attr("data-s", short(score)).maybe("data-ok", correct.then_some(""))
            }
        };
        let place = |value: f32| format!("{value:.0}");
        let rect = el("rect").attr("x", place(x)).attr("y", place(y));
        let rect = rect.attr("width", place(width.max(1.0))).attr("height", place(height.max(1.0)));
        // The label is above the box, or in it where there is no room above.
        let baseline = if y > size { y - 0.2 * size } else { y + size };
        group.child(rect).child(el("text").attr("x", place(x)).attr("y", place(baseline)).text(label))
    }
}

/// A score with four decimals, without zeros at its end.
fn short(score: f64) -> String {
    format!("{score:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of things, in words: `1 object`, `2 objects`.
fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Whether a mark is an object that no detection from this score on found.
fn is_missed(kind: &MarkKind, score: f64) -> bool {
    matches!(kind, MarkKind::Object { found } if found.is_none_or(|found| found < score))
}

/// Whether a mark is a detection from this score on that found no object.
fn is_false_alarm(kind: &MarkKind, score: f64) -> bool {
    matches!(kind, MarkKind::Detection { score: own, correct: false } if *own >= score)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(score: Option<ScoreRange>) -> String {
        let mark = |kind| Mark { xywh: [10.0, 20.0, 30.0, 40.0], class: 0, kind };
        let kinds = [
            MarkKind::Object { found: Some(0.8) },
            MarkKind::Object { found: Some(0.25) },
            MarkKind::Object { found: None },
            MarkKind::Ignored,
            MarkKind::Detection { score: 0.8, correct: true },
            MarkKind::Detection { score: 0.25, correct: true },
            MarkKind::Detection { score: 0.6, correct: false },
            MarkKind::Detection { score: 0.1, correct: false },
        ];
        let marks = kinds.into_iter().map(mark).collect();
        let card = Card { jpeg: vec![1, 2, 3], size: [100, 80], name: "<b>.jpg".to_owned(), marks };
        let classes = vec!["<script>alert(1)</script>".to_owned()];
        Grid { id: "g".to_owned(), classes, score, filters: true, labels: false, cards: vec![card] }
            .html()
            .as_str()
            .to_owned()
    }

    #[test]
    fn objects_and_detections_have_their_state_at_the_first_score() {
        let html = grid(Some(ScoreRange { lowest: 0.05, shown: 0.5 }));
        assert!(html.contains("3 objects, 2 missed, 1 false alarm"), "{html}");
        for (class, count) in [("o", 1), ("o bad", 2), ("i", 1), ("d", 1), ("d bad", 1), ("d off", 2)] {
            assert_eq!(html.matches(&format!("<g class=\"{class}\"")).count(), count, "{class}: {html}");
        }
        assert!(html.contains("data-f=\"0.25\"") && html.contains("data-f=\"-1\"") && html.contains("data-s=\"0.1\""));
        assert!(html.contains("type=\"range\"") && html.contains("data:image/jpeg;base64,AQID"));
    }

    #[test]
    fn names_are_escaped_and_without_scores_there_is_no_slider() {
        let html = grid(None);
        assert!(!html.contains("<script") && !html.contains("<b>") && html.contains("&lt;script&gt;alert(1)"));
        assert!(!html.contains("type=\"range\""));
    }
}
