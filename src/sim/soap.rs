//! SOAP 1.1 envelopes: a request taken apart, an answer or a fault put together.

use super::call::Reply;
use super::encode;
use super::fault::VimFault;
use super::schema::{Field, Version};
use crate::xml::{self, Element, Limits, XmlError, escape};

/// The largest request that is read. Uploads go to `/folder`, not through here.
pub const MAX_REQUEST: usize = 16 << 20;

const HEAD: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    "\n",
    r#"<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" "#,
    r#"xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" "#,
    r#"xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">"#,
    "\n<soapenv:Body>\n"
);
const TAIL: &str = "\n</soapenv:Body>\n</soapenv:Envelope>";

/// Reads the request out of an envelope: the one element in its body, which is named after the method.
pub fn request(document: &[u8]) -> Result<Element, VimFault> {
    let limits = Limits { bytes: MAX_REQUEST, depth: 48 };
    let mut envelope = xml::parse(document, limits).map_err(VimFault::invalid_request)?;
    if envelope.name != "Envelope" {
        return Err(VimFault::invalid_request("the root element is not a SOAP Envelope"));
    }
    let body = envelope.children.iter_mut().find(|child| child.name == "Body");
    let body = body.ok_or_else(|| VimFault::invalid_request("the envelope has no Body"))?;
    match body.children.len() {
        1 => Ok(body.children.remove(0)),
        count => Err(VimFault::invalid_request(format!("the Body holds {count} requests, not one"))),
    }
}

/// The `operationID` in an envelope's header, by which clients find their requests in the host's log.
pub fn operation(document: &[u8]) -> Option<String> {
    let envelope = xml::parse(document, Limits { bytes: MAX_REQUEST, depth: 48 }).ok()?;
    envelope.text_at("Header.operationID").map(str::to_owned)
}

/// Writes the answer of a method. `Err` where a value cannot stand in XML.
pub fn response(method: &str, reply: &Reply, result: &Field, version: Version) -> Result<String, XmlError> {
    let mut out = String::with_capacity(1024);
    out.push_str(HEAD);
    out.push('<');
    out.push_str(method);
    out.push_str("Response xmlns=\"urn:vim25\">");
    match reply {
        Reply::Nothing => {}
        Reply::Value(value) => encode::write_field(&mut out, value, result, version)?,
        Reply::Written(text) => out.push_str(text),
    }
    out.push_str("</");
    out.push_str(method);
    out.push_str("Response>");
    out.push_str(TAIL);
    Ok(out)
}

/// Writes a fault. What cannot stand in XML is left out of the message: a fault must always reach the client.
pub fn fault(fault: &VimFault, version: Version) -> String {
    let mut out = String::with_capacity(768);
    out.push_str(HEAD);
    out.push_str("<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>");
    let message: String = fault.message.chars().filter(|c| !c.is_control()).collect();
    if escape(&message, &mut out).is_err() {
        out.push_str("The request failed.");
    }
    out.push_str("</faultstring><detail>");
    let mut detail = format!("<{0}Fault xmlns=\"urn:vim25\" xsi:type=\"{0}\">", fault.data.kind);
    if encode::fields(&mut detail, &fault.data, version).is_ok() {
        out.push_str(&detail);
        out.push_str(&format!("</{}Fault>", fault.data.kind));
    }
    out.push_str("</detail></soapenv:Fault>");
    out.push_str(TAIL);
    out
}
