//! The door: nothing goes round it, and what it denies never reaches a host.

mod attacks;
mod imports;
mod records;
mod sweep;
