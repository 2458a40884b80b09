//! Properties of managed objects: one typed request, all its pages, what is missing told apart from what is refused.
//!
//! Specification: vSphere Web Services API, `PropertyCollector.RetrievePropertiesEx`, `PropertyFilterSpec`.

use crate::xml::Element;

use super::error::Error;
use super::fault::VimFault;
use super::link::Link;
use super::moref::MoRef;
use super::soap::{Call, Method};

/// The most that one query may bring over all its pages: a host that always has another page must not fill our memory, or keep us
/// reading for ever.
const MAX_OBJECTS: usize = 100_000;
const MAX_ELEMENTS: usize = 2 << 20;
const MAX_TEXT: usize = 256 << 20;

/// What is read of which objects. The order of the fields is the API's.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    /// A type and the paths of its properties.
    pub properties: Vec<(&'static str, Vec<&'static str>)>,
    pub from: Vec<From>,
}

/// Where a query starts.
#[derive(Debug, Clone)]
pub(super) struct From {
    pub object: MoRef,
    /// The start itself is not asked for.
    pub skip: bool,
    pub steps: Vec<Traversal>,
}

/// A step from objects of a type along a property, and the names of the steps that go on from there.
#[derive(Debug, Clone)]
pub(super) struct Traversal {
    pub name: &'static str,
    pub kind: &'static str,
    pub path: &'static str,
    pub then: &'static [&'static str],
}

impl Query {
    pub(super) fn object(object: &MoRef, kind: &'static str, paths: &[&'static str]) -> Self {
        Self {
            properties: vec![(kind, paths.to_vec())],
            from: vec![From { object: object.clone(), skip: false, steps: Vec::new() }],
        }
    }

    /// A `PropertyFilterSpec` of that element name.
    pub(super) fn element(&self, name: &str) -> Element {
        let mut spec = Element::new(name);
        for (kind, paths) in &self.properties {
            let paths = paths.iter().map(|path| Element::leaf("pathSet", *path));
            spec = spec.with(Element::new("propSet").with(Element::leaf("type", *kind)).with_all(paths));
        }
        for from in &self.from {
            let mut object = Element::new("objectSet").with(from.object.element("obj"));
            if from.skip {
                object = object.with(Element::leaf("skip", "true"));
            }
            spec = spec.with(object.with_all(from.steps.iter().map(Traversal::element)));
        }
        spec
    }
}

impl Traversal {
    fn element(&self) -> Element {
        Element::new("selectSet")
            .typed("TraversalSpec")
            .with(Element::leaf("name", self.name))
            .with(Element::leaf("type", self.kind))
            .with(Element::leaf("path", self.path))
            .with(Element::leaf("skip", "false"))
            .with_all(self.then.iter().map(|name| Element::new("selectSet").with(Element::leaf("name", *name))))
    }
}

/// An object with the properties that came for it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub moref: MoRef,
    properties: Vec<(String, Element)>,
    missing: Vec<(String, VimFault)>,
}

impl Object {
    fn read(mut content: Element) -> Option<Self> {
        let moref = content.child("obj").and_then(MoRef::read)?;
        let mut properties = Vec::with_capacity(content.children.len());
        let mut missing = Vec::new();
        for mut part in content.children.drain(..) {
            let Some(name) = part.text_at(if part.name == "missingSet" { "path" } else { "name" }) else { continue };
            let name = name.trim().to_owned();
            if part.name == "missingSet" {
                if let Some(fault) = part.child("fault") {
                    missing.push((name, VimFault::from_localized(fault)));
                }
            } else if let Some(at) = part.children.iter().position(|child| child.name == "val") {
                properties.push((name, part.children.swap_remove(at)));
            }
        }
        Some(Self { moref, properties, missing })
    }

    /// The value of a property, where it came.
    pub(super) fn get(&self, path: &str) -> Option<&Element> {
        self.properties.iter().find(|(name, _)| name == path).map(|(_, value)| value)
    }

    /// The text of a property; empty ones are none.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(|value| value.text.trim()).filter(|text| !text.is_empty())
    }

    pub(super) fn string(&self, path: &str) -> String {
        self.text(path).unwrap_or_default().to_owned()
    }

    pub(super) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    pub(super) fn flag(&self, path: &str) -> Option<bool> {
        self.text(path).and_then(boolean)
    }

    pub(super) fn reference(&self, path: &str) -> Option<MoRef> {
        self.get(path).and_then(MoRef::read)
    }

    pub(super) fn references(&self, path: &str) -> Vec<MoRef> {
        self.get(path).map(MoRef::read_list).unwrap_or_default()
    }
}

/// What the pages of a query take up so far.
#[derive(Default)]
struct Size {
    elements: usize,
    text: usize,
}

impl Size {
    fn add(&mut self, element: &Element) {
        self.elements += 1;
        self.text += element.text.len();
        element.children.iter().for_each(|child| self.add(child));
    }
}

/// An XML Schema boolean.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

impl Link {
    /// Reads all pages of a query. A session that ends between two pages takes the tokens with it: the query starts again.
    pub(super) async fn retrieve(&self, query: &Query) -> Result<Vec<Object>, Error> {
        let generation = self.epoch();
        match self.pages(query).await {
            Err(error) if error.is("NotAuthenticated") => {
                self.renew(generation).await?;
                self.pages(query).await
            }
            done => done,
        }
    }

    async fn pages(&self, query: &Query) -> Result<Vec<Object>, Error> {
        let collector = self.contract().content.property_collector();
        let mut options = Element::new("options");
        if self.options.page_size > 0 {
            options = options.with(Element::leaf("maxObjects", self.options.page_size.to_string()));
        }
        let first = Call::new(&collector, Method::RetrievePropertiesEx).with(query.element("specSet")).with(options);
        let mut answer = self.call(&first).await?;
        let mut objects = Vec::new();
        let mut size = Size::default();
        loop {
            size.add(&answer);
            if objects.len() > MAX_OBJECTS || size.elements > MAX_ELEMENTS || size.text > MAX_TEXT {
                return Err(Error::BadAnswer {
                    host: self.host().to_owned(),
                    reason: format!("pages without an end: {} objects so far", objects.len()),
                });
            }
            let token = self.page(answer, &mut objects)?;
            let Some(token) = token else { return Ok(objects) };
            let next = Call::new(&collector, Method::ContinueRetrievePropertiesEx).with_text("token", token);
            answer = self.call_once(&next).await?;
        }
    }

    /// Takes a page's objects; returns the token of the next one. A token may be `0`.
    pub(super) fn page(&self, mut answer: Element, objects: &mut Vec<Object>) -> Result<Option<String>, Error> {
        let Some(result) = answer.children.iter_mut().find(|child| child.name == "returnval") else { return Ok(None) };
        let token = result.text_at("token").map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        let before = objects.len();
        for content in result.children.drain(..).filter(|child| child.name == "objects") {
            let object = Object::read(content).ok_or_else(|| Error::BadAnswer {
                host: self.host().to_owned(),
                reason: "an object without a reference".to_owned(),
            })?;
            // Some servers answer a request without a session with objects whose every property is refused.
            if let Some((_, fault)) = object.missing.iter().find(|(_, fault)| fault.find("NotAuthenticated").is_some())
            {
                return Err(Error::Vim { host: self.host().to_owned(), fault: Box::new(fault.clone()) });
            }
            objects.push(object);
        }
        if token.is_some() && objects.len() == before {
            let reason = "a page without objects that says that there are more".to_owned();
            return Err(Error::BadAnswer { host: self.host().to_owned(), reason });
        }
        Ok(token)
    }
}
