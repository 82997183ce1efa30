//! The labels that an XML file of CVAT declares.

use roxmltree::Node;

/// The names of the labels in `<meta>`, each once, in the order of the file. The parts of skeletons are no labels of
/// their own.
pub(super) fn declared(root: Node<'_, '_>) -> Vec<String> {
    let mut names = Vec::new();
    let meta = root.children().find(|node| node.has_tag_name("meta"));
    let labels = meta.into_iter().flat_map(|meta| meta.descendants()).filter(|node| node.has_tag_name("label"));
    for label in labels.filter(|node| node.parent().is_some_and(|parent| parent.has_tag_name("labels"))) {
        let text = |name: &str| {
            let child = label.children().find(|child| child.has_tag_name(name))?;
            child.text().map(str::to_owned).filter(|text| !text.is_empty())
        };
        if text("parent").is_some() {
            continue;
        }
        if let Some(name) = text("name")
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}
