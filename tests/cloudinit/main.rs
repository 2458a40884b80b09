//! Cloud-init documents, from files of good and bad input: what is written, what is refused, and what the real cloud-init makes of it.
//!
//! `good/NAME.yaml` holds an input and what the guest must end up with; `good/NAME.json` the documents, as ceso writes them (after a
//! wanted change: `CESO_BLESS=1 cargo test --test cloudinit`, then read the difference). `bad/NAME.yaml` holds an input and what
//! its error must say. Tests named `cloud_init_…` run the real cloud-init (`real.rs`), through `guest.py`
//! and `renderers.py`.

mod any_document;
mod any_network;
mod cases;
mod documents;
mod guest;
mod losses;
mod machine;
mod meant;
mod networks;
mod reading;
mod real;
mod secrets;
mod seeds;
mod windows;
