//! The operations, each declared once, one file per noun.
