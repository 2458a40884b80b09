//! The one door: every operation passes it, and nothing reaches a host in any other way.
