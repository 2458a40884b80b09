//! Bounded XML for both sides of the wire: a tree that is read without trust and written without surprises.
//!
//! Namespaces are resolved, never matched by prefix: `xsi:type` may come under any prefix, declared on the very element. There is
//! no DTD, no external entity, a limit on depth and on size. Text that XML 1.0 cannot carry is an error when it is written.

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// An element: local name, resolved `xsi:type`, attributes, text and children. Namespaces are gone once it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    /// The local part of `xsi:type`, where there is one.
    pub xsi_type: Option<String>,
    /// Attributes by local name, without `xmlns…` and `xsi:type`.
    pub attributes: Vec<(String, String)>,
    /// All text directly inside, entities resolved; empty where there are children and only white space between them.
    pub text: String,
    pub children: Vec<Element>,
}

/// What a document may be at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub bytes: usize,
    pub depth: usize,
}

/// The most elements of a document: each takes up to 50 times in memory what `<a/>` takes on the wire. 10,000 machines in full have
/// about 600,000.
const MAX_ELEMENTS: usize = 1 << 20;

/// The most attributes of an element, declarations of namespaces among them. vim25 has four at most; each is compared with every
/// other, and each prefix is looked for among all that are in scope.
const MAX_ATTRIBUTES: usize = 32;

impl Default for Limits {
    /// 64 MiB and 64 levels: an inventory of 10,000 machines is about 20 MiB and 12 levels.
    fn default() -> Self {
        Self { bytes: 64 << 20, depth: 64 }
    }
}

/// Why a document was not read, or a tree not written.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    #[error("the document has {0} bytes, more than the limit of {1}")]
    TooLarge(usize, usize),
    #[error("elements are nested more than {0} deep")]
    TooDeep(usize),
    #[error("it has more than {0} elements")]
    TooManyElements(usize),
    #[error("an element has more than {0} attributes")]
    TooManyAttributes(usize),
    #[error("a document type declaration is not accepted")]
    Doctype,
    #[error("the document ends before its root element does")]
    CutOff,
    #[error("there is no root element")]
    Empty,
    #[error("not well-formed at byte {at}: {what}")]
    Malformed { at: u64, what: String },
    #[error("the character U+{0:04X} cannot stand in XML")]
    Unwritable(u32),
}

impl Element {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An element that holds only text.
    pub fn leaf(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), ..Self::default() }
    }

    pub fn typed(mut self, xsi_type: impl Into<String>) -> Self {
        self.xsi_type = Some(xsi_type.into());
        self
    }

    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    pub fn with(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    pub fn with_all(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The child reached by a dotted path: `element.at("guest.net")`.
    pub fn at(&self, path: &str) -> Option<&Element> {
        path.split('.').try_fold(self, |element, name| element.child(name))
    }

    /// The text of the child reached by a dotted path.
    pub fn text_at(&self, path: &str) -> Option<&str> {
        self.at(path).map(|element| element.text.as_str())
    }

    pub fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == attribute).map(|(_, value)| value.as_str())
    }

    /// Appends the element to `out`. `xsi:type` is written as such: the document's root must declare the prefix `xsi`.
    pub fn write(&self, out: &mut String) -> Result<(), XmlError> {
        out.push('<');
        out.push_str(&self.name);
        if let Some(xsi_type) = &self.xsi_type {
            out.push_str(" xsi:type=\"");
            escape(xsi_type, out)?;
            out.push('"');
        }
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(value, out)?;
            out.push('"');
        }
        if self.text.is_empty() && self.children.is_empty() {
            out.push_str("/>");
            return Ok(());
        }
        out.push('>');
        escape(&self.text, out)?;
        for child in &self.children {
            child.write(out)?;
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
        Ok(())
    }
}

/// Appends `text`, escaped for element content and for double-quoted attributes alike.
pub fn escape(text: &str, out: &mut String) -> Result<(), XmlError> {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' => out.push(c),
            c if (c as u32) < 0x20 || c == '\u{FFFE}' || c == '\u{FFFF}' => return Err(XmlError::Unwritable(c as u32)),
            c => out.push(c),
        }
    }
    Ok(())
}

/// Reads one document into a tree.
pub fn parse(document: &[u8], limits: Limits) -> Result<Element, XmlError> {
    if document.len() > limits.bytes {
        return Err(XmlError::TooLarge(document.len(), limits.bytes));
    }
    let document = std::str::from_utf8(document)
        .map_err(|error| XmlError::Malformed { at: error.valid_up_to() as u64, what: "not UTF-8".to_owned() })?;
    let mut reader = NsReader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let mut elements = 0;
    loop {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(quick_xml::Error::Syntax(quick_xml::errors::SyntaxError::UnclosedTag)) => return Err(XmlError::CutOff),
            Err(error) => return Err(malformed(&reader, error)),
        };
        match event {
            Event::Start(start) => {
                if root.is_some() && open.is_empty() {
                    return Err(malformed(&reader, "a second root element"));
                }
                if open.len() >= limits.depth {
                    return Err(XmlError::TooDeep(limits.depth));
                }
                elements += 1;
                if elements > MAX_ELEMENTS {
                    return Err(XmlError::TooManyElements(MAX_ELEMENTS));
                }
                open.push(begin(&reader, &start)?);
            }
            Event::End(_) => {
                let Some(mut element) = open.pop() else { return Err(malformed(&reader, "an end without a start")) };
                if !element.children.is_empty() && element.text.trim().is_empty() {
                    element.text.clear();
                }
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => root = Some(element),
                }
            }
            Event::Text(text) => {
                let text: &str = &text;
                match open.last_mut() {
                    Some(element) => element.text.push_str(text),
                    None if text.trim().is_empty() => {}
                    None => return Err(malformed(&reader, "text outside the root element")),
                }
            }
            Event::CData(data) => {
                let text: &str = &data;
                if let Some(element) = open.last_mut() {
                    element.text.push_str(text);
                }
            }
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().map_err(|error| malformed(&reader, error))? {
                    Some(c) => c,
                    None => match &*reference {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        other => return Err(malformed(&reader, format!("the entity &{other}; is not known"))),
                    },
                };
                if let Some(element) = open.last_mut() {
                    element.text.push(resolved);
                }
            }
            Event::DocType(_) => return Err(XmlError::Doctype),
            Event::Eof => break,
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    if !open.is_empty() {
        return Err(XmlError::CutOff);
    }
    root.ok_or(XmlError::Empty)
}

fn begin(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut element = Element::new(start.local_name().as_ref());
    for (index, attribute) in start.attributes().enumerate() {
        if index >= MAX_ATTRIBUTES {
            return Err(XmlError::TooManyAttributes(MAX_ATTRIBUTES));
        }
        let attribute = attribute.map_err(|error| malformed(reader, error))?;
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
        let value =
            attribute.normalized_value(quick_xml::XmlVersion::Explicit1_0).map_err(|error| malformed(reader, error))?;
        if local.as_ref() == "type" && matches!(namespace, ResolveResult::Bound(Namespace(XSI))) {
            let bare = value.rsplit(':').next().unwrap_or_default();
            element.xsi_type = Some(bare.to_owned());
        } else {
            element.attributes.push((local.as_ref().to_owned(), value.into_owned()));
        }
    }
    Ok(element)
}

fn malformed(reader: &NsReader<&[u8]>, what: impl ToString) -> XmlError {
    XmlError::Malformed { at: reader.buffer_position(), what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &str) -> Result<Element, XmlError> {
        parse(document.as_bytes(), Limits::default())
    }

    #[test]
    fn a_type_is_found_under_any_prefix() {
        let element = read(
            r#"<a xmlns:q="http://www.w3.org/2001/XMLSchema-instance"><b q:type="vim25:Thing" xmlns:vim25="urn:vim25">x &amp; y</b></a>"#,
        )
        .unwrap();
        let b = element.child("b").unwrap();
        assert_eq!(b.xsi_type.as_deref(), Some("Thing"));
        assert_eq!(b.text, "x & y");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let tree =
            Element::new("a").with(Element::leaf("b", "<&>\"'\r\n\t é").attribute("k", "\"<&")).with(Element::new("c"));
        let mut text = String::new();
        tree.write(&mut text).unwrap();
        assert_eq!(read(&text).unwrap(), tree);
    }

    #[test]
    fn hostile_documents_are_refused() {
        assert!(matches!(read("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>"), Err(XmlError::Doctype)));
        assert!(matches!(read("<a><b>"), Err(XmlError::CutOff)));
        assert!(matches!(read("<a><b"), Err(XmlError::CutOff)));
        assert!(matches!(read(""), Err(XmlError::Empty)));
        assert!(matches!(read(&"<a>".repeat(1000)), Err(XmlError::TooDeep(64))));
        assert!(matches!(read("<a></b>"), Err(XmlError::Malformed { .. })));
        assert!(matches!(read("<a/><b/>"), Err(XmlError::Malformed { .. })));
        assert!(matches!(read("<a>&nbsp;</a>"), Err(XmlError::Malformed { .. })));
        assert!(matches!(parse(&[b'x'; 100], Limits { bytes: 10, depth: 1 }), Err(XmlError::TooLarge(100, 10))));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        assert!(matches!(read(&many), Err(XmlError::TooManyElements(_))));
        let wide: String = (0..100_000).map(|n| format!(" a{n}='1'")).collect();
        assert!(matches!(read(&format!("<a{wide}/>")), Err(XmlError::TooManyAttributes(_))));
        let mut out = String::new();
        assert!(matches!(Element::leaf("a", "\u{1}").write(&mut out), Err(XmlError::Unwritable(1))));
    }
}
